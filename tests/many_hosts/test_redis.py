"""A real Redis behind Sentinels, with the users of deploy/redis/users.acl.example and no others."""

from __future__ import annotations

import base64
import secrets
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from redis import Redis, RedisError
from redis.exceptions import NoPermissionError

from movq_core.protocol import GenerateRequest
from service.job import Submission
from service.jobs import JobStore
from service.settings import Settings
from tests.conftest import free_port
from tests.end_to_end.stack import until
from tests.many_hosts.household import Household, Service
from tests.many_hosts.redis_servers import RedisServer
from tests.service.webhooks.receiver import receiving

SERVICE = "movq"
SENTINEL = (
    f"sentinel monitor {SERVICE} 127.0.0.1 {{primary}} 2",
    f"sentinel auth-user {SERVICE} sentinel",
    f"sentinel auth-pass {SERVICE} {{password}}",
    f"sentinel down-after-milliseconds {SERVICE} 1000",
    f"sentinel failover-timeout {SERVICE} 5000",
)
EXAMPLE = Path(__file__).parents[2] / "deploy" / "redis" / "users.acl.example"
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Guarded:
    """A primary, its replica and three Sentinels; they let nobody in but the users of the example."""

    passwords: dict[str, str]
    redis_ports: tuple[int, int]
    sentinel_ports: tuple[int, int, int]
    servers: list[RedisServer]

    def url(self, user: str) -> str:
        """Through the Sentinels."""
        sentinels = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        return f"redis+sentinel://{user}:{self.passwords[user]}@{sentinels}/{SERVICE}/0"

    def client(self, user: str, server: int = 0) -> Redis:
        """Of one of the two: the primary at first, its replica."""
        options = {"username": user, "password": self.passwords[user]}
        return Redis(port=self.redis_ports[server], **options)

    def denied(self, server: int) -> list[Any]:
        """What was tried there and not allowed."""
        with self.client("admin", server) as admin:
            return list(admin.acl_log())

    def start(self, folder: Path) -> None:
        rules = folder / "users.acl"
        rules.write_text("\n".join(self._rules()) + "\n")
        own = f"masteruser replica\nmasterauth {self.passwords['replica']}\naclfile {rules}"
        primary, replica = self.redis_ports
        at_once = "repl-diskless-sync-delay 0"
        follows = f"replicaof 127.0.0.1 {primary}"
        for name, lines in (
            ("primary", [f"port {primary}", at_once]),
            ("replica", [f"port {replica}", follows]),
        ):
            self.servers.append(RedisServer(folder / name, own, *lines))
        for number in range(2):
            with self.client("admin", number) as admin:
                self.servers[number].wait_for(admin)
        until(self._is_followed, 20, "a replica")  # who looks for it now need not look again after 10 s
        for port in self.sentinel_ports:
            lines = [line.format(primary=primary, password=self.passwords["sentinel"]) for line in SENTINEL]
            self.servers.append(RedisServer(folder / str(port), f"port {port}", *lines, sentinel=True))
        until(self._is_watched, 20, "three Sentinels that know each other and the replica")

    def _rules(self) -> Iterator[str]:
        for line in EXAMPLE.read_text().splitlines():
            words = [f">{self.passwords[line.split()[1]]}" if w.startswith(">") else w for w in line.split()]
            yield " ".join(words)

    def _is_followed(self) -> bool:
        with self.client("admin") as admin:
            return admin.wait(1, 100) == 1

    def _is_watched(self) -> bool:
        try:
            for port in self.sentinel_ports:
                with Redis(port=port) as sentinel:
                    seen: Any = sentinel.sentinel_master(SERVICE)
                if (seen["num-other-sentinels"], seen["num-slaves"]) != (2, 1):
                    return False
        except RedisError:
            return False
        return True


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    names = [line.split()[1] for line in EXAMPLE.read_text().splitlines()]
    passwords = {name: secrets.token_hex(16) for name in names}
    one, two, three, four, five = (free_port() for _ in range(5))
    guarded = Guarded(passwords, (one, two), (three, four, five), [])
    guarded.start(tmp_path_factory.mktemp("redis"))
    yield guarded
    for server in guarded.servers:
        server.kill()


def test_they_may_do_no_more(guarded: Guarded) -> None:
    for user in ("service", "worker"):
        with guarded.client(user) as client:
            for command in ("FLUSHALL", "CONFIG GET *", "KEYS *", "SET other 1", "ACL LIST"):
                with pytest.raises(NoPermissionError):
                    client.execute_command(*command.split())
            with pytest.raises(NoPermissionError):
                client.publish("other", "news")
    with guarded.client("worker") as client, pytest.raises(NoPermissionError):
        client.get("other")
    with guarded.client("admin") as admin:
        admin.acl_log_reset()


def test_users_may_do_what_their_processes_do_and_lose_nothing_when_the_primary_dies(
    guarded: Guarded, household: Household, authority: trustme.CA, tmp_path: Path
) -> None:
    """Waits, events, idempotency, limits, cancelling, webhooks, a killed worker; then a killed primary."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    webhooks = {
        "MOVQ_WEBHOOK_SECRET": "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "MOVQ_WEBHOOK_CA_FILE": str(tmp_path / "ca.pem"),
        "MOVQ_WEBHOOK_ALLOW": "127.0.0.0/8,::1/128",
        "MOVQ_WEBHOOK_RETRY_AFTER_S": "1",
    }
    limits = {"MOVQ_RATE_LIMIT": "100/minute", "MOVQ_MAX_OPEN_JOBS": "50"}
    first = household.worker(guarded.url("worker"))
    service = household.service(guarded.url("service"), **webhooks, **limits)
    household.sender(guarded.url("service"), **webhooks)
    household.retention(guarded.url("service"))
    until(lambda: service.http.get("/readyz").is_success, 30, "a worker")
    generate_and_listen(service)
    stop_one_here_and_one_there(service)
    with receiving(authority) as receiver:
        receiver.answers = [500]
        told = submit_with_webhook(guarded.url("service"), receiver.url())
        until(lambda: len(receiver.received) == 2, 15, "a webhook, and again")
    lost = service.submit(class_id=1, steps=64)
    until(lambda: service.status(lost) == "running", 10, "running")
    first.send_signal(signal.SIGKILL)
    second = household.worker(guarded.url("worker"))
    until(lambda: service.are([lost, told], "succeeded"), 30, "what a killed worker had")
    until(lambda: "swept" in household.logs(), 15, "a sweep")
    assert "movq_redis_up 1.0" in service.http.get("/metrics").text
    assert guarded.denied(0) == []

    accepted = [service.submit(class_id=1, steps=64, num_images=4) for _ in range(12)]
    with guarded.client("admin") as admin:
        assert admin.wait(1, 5000) == 1  # the replica has them
    guarded.servers[0].kill()
    until(lambda: service.http.get("/readyz").is_success, 20, "the replica as the primary")
    accepted.append(service.submit(class_id=1))
    until(lambda: service.are(accepted, "succeeded"), 40, "what was accepted before and after")
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0
    assert guarded.denied(1) == []
    assert not any(password in household.logs() for password in guarded.passwords.values())


def submit_with_webhook(redis_url: str, url: str) -> str:
    """Not through the door, which would refuse a receiver on this machine."""

    async def act() -> str:
        store = JobStore(Settings(redis_url=redis_url))
        submitted = await store.submit(GenerateRequest(class_id=1), Submission("tiny", webhook_url=url))
        await store.close()
        return submitted.job.id

    return anyio.run(act)


def generate_and_listen(service: Service) -> None:
    again = {"Idempotency-Key": "one"}
    job_id = service.submit(again, class_id=1, steps=30)
    assert service.submit(again, class_id=1, steps=30) == job_id
    with service.http.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        events = [line for line in stream.iter_lines() if line.startswith("event:")]
    assert events[-1] == "event: done"
    assert service.http.post("/generate", json={"class_id": 1, "steps": 2}).status_code == 200
    assert len(service.http.get("/v1/jobs").json()["jobs"]) == 2


def stop_one_here_and_one_there(service: Service) -> None:
    running = [service.submit(class_id=1, steps=64, num_images=4) for _ in range(8)]
    waiting = service.submit(class_id=1)
    until(lambda: service.status(running[0]) == "running", 10, "running")
    for job_id in (waiting, *running):
        assert service.http.delete(f"/v1/jobs/{job_id}").is_success
    until(lambda: service.are([waiting, *running], "cancelled"), 10, "cancelled")
