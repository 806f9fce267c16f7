"""Proxy: a TCP address in front of Redis where the network's faults are made."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

CHUNK_BYTES = 65536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """Passes bytes both ways between its port and a unix socket, until it is told otherwise.

    All methods may be called from any thread. `silence()` is a half-open connection: what is sent is taken,
    and nobody answers; `speak()` delivers it late, to whoever is still there, as a network would.
    """

    def __init__(self, upstream: Path) -> None:
        self._upstream = upstream
        self._delay_s = 0.0
        self._connections: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._speaks = asyncio.Event()
        self._speaks.set()
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(listener.getsockname()[1])
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=listener))
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-proxy", daemon=True)
        self._thread.start()

    # -- what it can be told --------------------------------------------------------------------

    def cut(self) -> None:
        """End every connection by RST; new ones may come."""
        self._do(self._cut)

    def silence(self) -> None:
        self._do(self._speaks.clear)

    def speak(self) -> None:
        self._do(self._speaks.set)

    def delay(self, seconds: float) -> None:
        """Let every chunk wait, each way; 0 ends it."""
        self._do(lambda: setattr(self, "_delay_s", seconds))

    def close(self) -> None:
        self._do(self._end)
        self._thread.join(10)
        self._loop.close()

    # -- on its own thread ----------------------------------------------------------------------

    def _do(self, what: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(what)

    def _cut(self) -> None:
        for writer in list(self._connections):
            raw = writer.get_extra_info("socket")
            if raw is not None and raw.family == socket.AF_INET:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()

    def _end(self) -> None:
        async def leave() -> None:
            self._server.close()
            self._cut()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            self._loop.stop()

        self._leaving = self._loop.create_task(leave())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(str(self._upstream))
            self._connections.add(up_writer)
            try:
                await self._both_ways(reader, writer, up_reader, up_writer)
            finally:
                self._connections.discard(up_writer)
                up_writer.transport.abort()
        except OSError:  # Redis is down, or one end has gone
            pass
        finally:
            self._connections.discard(writer)
            writer.transport.abort()

    async def _both_ways(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        """Until one end has gone."""
        ways = [
            asyncio.create_task(self._pump(reader, up_writer)),
            asyncio.create_task(self._pump(up_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await self._speaks.wait()
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            writer.write(data)
            await writer.drain()
