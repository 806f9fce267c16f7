"""Both sides speak TLS to a real Redis, and to nobody whom they cannot trust."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
import trustme
from redis.exceptions import ConnectionError as RedisConnectionError

import service.redis_connections as of_service
import worker.redis_connections as of_worker
from movq_core.errors import TooManyRequests
from service.limits import RateLimit
from tests.conftest import free_port
from tests.many_hosts.redis_servers import RedisServer


@dataclass(frozen=True)
class Secured:
    """A Redis that asks its clients for certificates."""

    folder: Path
    port: int

    def url(
        self, *, host: str = "localhost", authority: str = "ca", certificate: str | None = "client"
    ) -> str:
        own = f"&ssl_certfile={self.folder}/{certificate}.pem&ssl_keyfile={self.folder}/{certificate}.key"
        ours = own if certificate else ""
        return f"rediss://{host}:{self.port}/0?ssl_ca_certs={self.folder}/{authority}.pem{ours}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    secured = Secured(tmp_path_factory.mktemp("tls"), free_port())
    folder, authority = secured.folder, trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "other.pem"))
    for name in ("localhost", "client"):
        cert = authority.issue_cert(name)
        cert.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        cert.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    server = RedisServer(
        folder / "redis",
        "port 0",
        f"tls-port {secured.port}",
        f"tls-cert-file {folder}/localhost.pem",
        f"tls-key-file {folder}/localhost.key",
        f"tls-ca-cert-file {folder}/ca.pem",
    )
    with of_worker.open_client(secured.url()) as client:
        server.wait_for(client)
    yield secured
    server.kill()


def test_all_kinds_of_clients(secured: Secured) -> None:
    async def ask() -> None:
        client = of_service.open_async_client(secured.url(), 2)
        assert await client.get("said") == b"hello"
        await client.aclose()
        limit = RateLimit("1/minute", secured.url())
        await limit.count("somebody")
        with pytest.raises(TooManyRequests):
            await limit.count("somebody")
        await limit.close()

    with of_worker.open_client(secured.url()) as of_a_worker, of_service.open_client(secured.url()) as client:
        of_a_worker.set("said", "hello")
        assert client.get("said") == b"hello"
    anyio.run(ask)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"authority": "other"}, "certificate verify failed"),
        ({"host": "127.0.0.1"}, "certificate verify failed"),
        ({"certificate": None}, "certificate|reset|closed|EOF"),
    ],
)
def test_nobody_is_trusted_for_nothing(secured: Secured, changes: dict[str, str | None], says: str) -> None:
    for side in (of_service, of_worker):
        with (
            side.open_client(secured.url(**changes)) as client,
            pytest.raises(RedisConnectionError, match=says),
        ):
            client.ping()
