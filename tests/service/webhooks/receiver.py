"""A receiver of webhooks: a real https server, which answers as it is told and keeps what it was sent."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import trustme

HOSTS = ("hooks.example", "localhost", "127.0.0.1")


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: str
    at_s: float


@dataclass
class Receiver:
    """`answers`: the statuses of the next requests; after them it is `otherwise`."""

    port: int
    answers: list[int] = field(default_factory=list)
    otherwise: int = 204
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    pause_s: float = 0.0  # between the bytes of an answer

    def url(self, host: str = "localhost") -> str:
        return f"https://{host}:{self.port}/hook?of=movq"


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver

    def do_POST(self) -> None:
        receiver = self.receiver
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        receiver.received.append(Received(self.path, headers, body, time.monotonic()))
        status = receiver.answers.pop(0) if receiver.answers else receiver.otherwise
        answer = f"HTTP/1.1 {status} OK\r\nlocation: {receiver.url()}\r\ncontent-length: 0\r\n\r\n".encode()
        for start in range(0, len(answer), 1 if receiver.pause_s else len(answer)):
            self.wfile.write(answer[start : start + (1 if receiver.pause_s else len(answer))])
            self.wfile.flush()
            time.sleep(receiver.pause_s)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    tls: ssl.SSLContext
    receiver: Receiver

    def finish_request(self, request, client_address) -> None:  # in the connection's own thread
        self.receiver.connections += 1
        with self.tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request, client_address) -> None:
        """A client that left, or that does not trust us, is what some tests are about."""


@contextmanager
def receiving(
    authority: trustme.CA, address: str = "127.0.0.1", hosts: Sequence[str] = HOSTS
) -> Iterator[Receiver]:
    """A receiver on a port of the kernel's choice, for as long as the block lasts."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*hosts).configure_cert(tls)
    server = _Server((address, 0), type("Handler", (_Handler,), {}))
    receiver = Receiver(server.server_port)
    server.tls, server.receiver = tls, receiver
    server.RequestHandlerClass.receiver = receiver  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
