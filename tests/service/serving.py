"""The real app under a real server, on a free loopback port."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from fastapi import FastAPI

from service.server import server_options

START_TIMEOUT_S = 20.0


class _Server(uvicorn.Server):
    """Says when it listens, and takes no signals: it runs in a thread."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets: object = None) -> None:
        await super().startup(sockets)  # type: ignore[arg-type]
        self.listening.set()

    @property
    def port(self) -> int:
        return int(self.servers[0].sockets[0].getsockname()[1])


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Base URL of `app`, for as long as the block lasts; its log lines of each request are left out."""
    logs = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    options = server_options(app.state.context.settings)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, **options)
    server = _Server(config)
    thread = threading.Thread(target=server.run, name="service")
    thread.start()
    try:
        assert server.listening.wait(START_TIMEOUT_S), "the server did not start"
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.should_exit = True
        thread.join()
        structlog.configure(**logs)
