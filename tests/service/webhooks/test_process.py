"""The process: real Redis, real RQ, real https, and jobs that ended by the scripts of service and worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from redis import Redis
from rq import Queue
from rq.scheduler import RQScheduler
from standardwebhooks import Webhook

from movq_core.blobs import BlobStore
from movq_core.config import MASKGIT_PRESETS, MOVQ_PRESETS
from movq_core.events import ENDED_KEY
from movq_core.manifest import Manifest, write_manifest
from movq_core.protocol import GenerateRequest
from service.job import Submission
from service.jobs import JobStore
from service.settings import Settings
from service.webhooks.outbox import TAKEN_KEY
from tests.service.standin import StandIn
from tests.service.webhooks.receiver import Receiver, receiving

pytestmark = pytest.mark.slow

QUEUE = "movq.webhooks"


def until(true: Callable[[], Any], timeout_s: float, what: str) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


class Sending:
    """`python -m service.webhooks`, which may be killed and started again."""

    def __init__(self, environment: dict[str, str], log_path: Path) -> None:
        self._environment = {**os.environ, **environment}
        self._log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **changes: str) -> None:
        self._environment |= changes
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service.webhooks"], env=self._environment, stderr=log
            )

    def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(30)

    def close(self) -> None:
        if self._process and self._process.poll() is None:
            self.end(signal.SIGKILL)

    def says(self, words: str) -> bool:
        return words in self._log_path.read_text()


@pytest.fixture
def manifest() -> Manifest:
    prior = MASKGIT_PRESETS["emoji-64"].model_copy(update={"num_classes": 2})
    return Manifest(name="small", movq=MOVQ_PRESETS["emoji-64"], maskgit=prior, labels=("cat", "dog"))


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, blobs_url=str(tmp_path / "blobs"), max_queue_images=1000)


@pytest.fixture
def worker(settings: Settings, manifest: Manifest) -> Iterator[StandIn]:
    with StandIn(settings.redis_url, BlobStore(settings.blobs_url), manifest) as standin:
        yield standin


@pytest.fixture
def sending(
    settings: Settings, manifest: Manifest, secret: str, ca_file: Path, tmp_path: Path
) -> Iterator[Sending]:
    """Not yet started. Loopback is allowed, and what was not taken is sent again after a second."""
    write_manifest(manifest, tmp_path / "bundle")
    environment = {
        "MOVQ_REDIS_URL": settings.redis_url,
        "MOVQ_MODELS": str(tmp_path / "bundle"),
        "MOVQ_WEBHOOK_SECRET": secret,
        "MOVQ_WEBHOOK_CA_FILE": str(ca_file),
        "MOVQ_WEBHOOK_ALLOW": "127.0.0.0/8,::1/128",
        "MOVQ_WEBHOOK_RETRY_AFTER_S": "1,1,1",
        "MOVQ_WEBHOOK_TIMEOUT_S": "2",
    }
    sending = Sending(environment, tmp_path / "webhooks.log")
    yield sending
    sending.close()


def submit(settings: Settings, urls: list[str], *, cancel: bool = False) -> list[str]:
    """Ids of new jobs, one a URL; with `cancel` they have ended at once."""

    async def act() -> list[str]:
        store = JobStore(settings)
        try:
            ids = []
            for url in urls:
                submission = Submission("small", webhook_url=url)
                submitted = await store.submit(GenerateRequest(class_id=1), submission)
                ids.append(submitted.job.id)
                if cancel:
                    await store.cancel(submitted.job.id)
            return ids
        finally:
            await store.close()

    return anyio.run(act)


def failed_deliveries(settings: Settings) -> list[str]:
    with Redis.from_url(settings.redis_url) as redis:
        queue = Queue(QUEUE, connection=redis, serializer="json")
        return list(queue.failed_job_registry.get_job_ids(cleanup=False))


def test_a_success_is_told_and_verified(
    settings: Settings, worker: StandIn, sending: Sending, receiver: Receiver, secret: str
) -> None:
    sending.start()
    (job_id,) = submit(settings, [receiver.url()])
    until(lambda: receiver.received, 20, "the webhook arrives")
    (received,) = receiver.received
    body = Webhook(secret).verify(received.body, received.headers)
    assert received.headers["webhook-id"] == f"webhook-{job_id}"
    assert body["type"] == "job.succeeded"
    job = body["data"]
    assert body["timestamp"] == job["finished_at"]
    assert (job["id"], job["status"], job["model"]) == (job_id, "succeeded", "small")
    assert job["request"]["class_name"] == "dog"
    assert job["images"][0].startswith("/v1/images/")


def test_a_failure_and_a_cancelled_job_are_told(
    settings: Settings, worker: StandIn, sending: Sending, receiver: Receiver
) -> None:
    sending.start()
    worker.fail_with = "the model is tired"
    submit(settings, [receiver.url()])
    until(lambda: receiver.received, 20, "the failure is told")
    worker.hold()
    submit(settings, [receiver.url()])
    submit(settings, [receiver.url()], cancel=True)
    until(lambda: len(receiver.received) == 2, 20, "the end of the cancelled job is told")
    bodies = [json.loads(received.body) for received in receiver.received]
    assert [body["type"] for body in bodies] == ["job.failed", "job.cancelled"]
    assert "tired" in bodies[0]["data"]["error"]
    worker.release()


def test_what_was_not_taken_is_sent_again_the_same(
    settings: Settings, sending: Sending, receiver: Receiver
) -> None:
    receiver.answers = [500, 302, 200]
    sending.start(MOVQ_WEBHOOK_RETRY_AFTER_S="2,2,2")
    submit(settings, [receiver.url()], cancel=True)
    until(lambda: len(receiver.received) == 3, 30, "the third attempt")
    first, second, third = receiver.received
    assert first.body == second.body == third.body
    assert len({received.headers["webhook-id"] for received in receiver.received}) == 1
    assert min(second.at_s - first.at_s, third.at_s - second.at_s) > 1.0, (
        "a pause before each, in whole seconds"
    )
    until(lambda: sending.says('"delivered"'), 5, "it is logged")
    time.sleep(3.0)
    assert len(receiver.received) == 3, "what was taken is not sent again"
    assert failed_deliveries(settings) == []


def test_after_the_last_attempt_it_has_failed(
    settings: Settings, sending: Sending, receiver: Receiver
) -> None:
    receiver.otherwise = 503
    sending.start()
    (job_id,) = submit(settings, [receiver.url()], cancel=True)
    until(lambda: failed_deliveries(settings) == [f"webhook-{job_id}"], 30, "it has failed")
    assert len(receiver.received) == 4
    assert sending.says("the receiver answered 503")


def test_a_private_address_is_refused_for_good(
    settings: Settings, sending: Sending, receiver: Receiver
) -> None:
    sending.start(MOVQ_WEBHOOK_ALLOW="")
    ids = submit(settings, [receiver.url(), receiver.url("127.0.0.1")], cancel=True)
    until(lambda: len(failed_deliveries(settings)) == 2, 20, "both have failed")
    assert set(failed_deliveries(settings)) == {f"webhook-{job_id}" for job_id in ids}
    assert sending.says("localhost is at")
    assert sending.says("127.0.0.1 is at 127.0.0.1, which is not a public address")
    assert receiver.connections == 0


def test_410_is_not_asked_again(settings: Settings, sending: Sending, receiver: Receiver) -> None:
    receiver.otherwise = 410
    sending.start()
    (job_id,) = submit(settings, [receiver.url()], cancel=True)
    until(lambda: failed_deliveries(settings) == [f"webhook-{job_id}"], 20, "it has failed")
    assert len(receiver.received) == 1


def test_a_job_whose_record_has_expired_is_dropped(
    settings: Settings, sending: Sending, receiver: Receiver
) -> None:
    gone, kept = submit(settings, [receiver.url(), receiver.url()], cancel=True)
    with Redis.from_url(settings.redis_url) as redis:
        redis.delete(f"rq:job:{gone}")
    sending.start()
    until(lambda: receiver.received, 20, "the other one arrives")
    assert receiver.received[0].headers["webhook-id"] == f"webhook-{kept}"
    assert sending.says("nothing to tell")
    assert sending.says(gone)


def test_no_other_function_runs(
    settings: Settings, sending: Sending, receiver: Receiver, tmp_path: Path
) -> None:
    """Who can write to Redis can make no code run here: neither as a function nor as its callback."""
    trace = tmp_path / "trace"
    with Redis.from_url(settings.redis_url) as redis:
        queue = Queue(QUEUE, connection=redis, serializer="json")
        job = queue.enqueue_call("os.mkdir", args=[str(trace)])
        redis.hset(f"rq:job:{job.id}", mapping={"failure_callback_name": "os.abort"})
        sending.start()
        until(lambda: failed_deliveries(settings) == [job.id], 20, "it has failed")
    assert sending.says("os.mkdir is none of the functions that run here")
    assert not trace.exists()
    submit(settings, [receiver.url()], cancel=True)
    until(lambda: receiver.received, 10, "it goes on")


def test_a_silent_receiver_keeps_no_other_waiting(
    settings: Settings, sending: Sending, receiver: Receiver, authority: trustme.CA
) -> None:
    with receiving(authority) as silent:
        silent.pause_s = 0.5
        sending.start()
        submit(settings, [silent.url()] * 4, cancel=True)
        until(lambda: len(silent.received) == 4, 20, "they are under way")
        begun_s = time.monotonic()
        submit(settings, [receiver.url()], cancel=True)
        until(lambda: receiver.received, 5, "the other one arrives")
        assert time.monotonic() - begun_s < 1.5


def forget_lock(settings: Settings) -> None:
    """The lock of RQ's scheduler, which a killed process holds for another minute."""
    with Redis.from_url(settings.redis_url) as redis:
        redis.delete(RQScheduler.get_locking_key(QUEUE))


def test_killed_in_the_middle_it_loses_none(settings: Settings, sending: Sending, receiver: Receiver) -> None:
    """Once while ends become deliveries, once amid eight attempts."""
    receiver.pause_s = 0.005  # between 60 bytes: so that it is killed amid attempts, not between them
    ids = submit(settings, [receiver.url()] * 100, cancel=True)
    told = {f"webhook-{job_id}" for job_id in ids}
    with Redis.from_url(settings.redis_url) as redis:
        sending.start()
        until(lambda: redis.llen(ENDED_KEY) < 60, 20, "ends become deliveries")
        sending.end(signal.SIGKILL)
        assert redis.llen(ENDED_KEY) > 0
        sending.start()
        until(lambda: len(receiver.received) > 40, 20, "some have arrived")
        sending.end(signal.SIGKILL)
        assert {received.headers["webhook-id"] for received in receiver.received} < told
        forget_lock(settings)
        sending.start()
        # A minute more where it was killed between taking a delivery from the queue and beginning it.
        until(lambda: {r.headers["webhook-id"] for r in receiver.received} == told, 120, "all have arrived")
        assert redis.llen(ENDED_KEY) == redis.llen(TAKEN_KEY) == 0


def test_killed_between_taking_and_sending_it_is_sent_after_the_restart(
    settings: Settings, sending: Sending, receiver: Receiver
) -> None:
    """What such a process leaves behind: an id in the second list, of which no delivery was made."""
    (job_id,) = submit(settings, [receiver.url()], cancel=True)
    with Redis.from_url(settings.redis_url) as redis:
        assert redis.lmove(ENDED_KEY, TAKEN_KEY) == job_id.encode()
        sending.start()
        until(lambda: receiver.received, 20, "it arrives")
        until(lambda: redis.llen(TAKEN_KEY) == 0, 5, "it is forgotten")
    assert receiver.received[0].headers["webhook-id"] == f"webhook-{job_id}"


def test_an_end_that_is_handed_over_twice_is_told_once(
    settings: Settings, sending: Sending, receiver: Receiver
) -> None:
    """As when the process was killed after it had made the delivery, and before it had forgotten the id."""
    (job_id,) = submit(settings, [receiver.url()], cancel=True)
    sending.start()
    until(lambda: sending.says('"delivered"'), 20, "it is told")
    with Redis.from_url(settings.redis_url) as redis:
        redis.lpush(ENDED_KEY, job_id)
        until(lambda: redis.llen(ENDED_KEY) == redis.llen(TAKEN_KEY) == 0, 5, "it is handed over again")
    time.sleep(1.0)
    assert len(receiver.received) == 1


def test_killed_amid_an_attempt_it_makes_it_again(
    settings: Settings, sending: Sending, receiver: Receiver
) -> None:
    receiver.pause_s = 0.2
    sending.start(MOVQ_WEBHOOK_TIMEOUT_S="1")
    submit(settings, [receiver.url()], cancel=True)
    until(lambda: receiver.received, 20, "the attempt is under way")
    sending.end(signal.SIGKILL)
    receiver.pause_s = 0.0
    forget_lock(settings)
    sending.start()
    until(lambda: len(receiver.received) == 2, 40, "it is made again when the lease has run out")
    first, second = receiver.received
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])


def test_told_to_stop_it_ends_what_is_under_way(
    settings: Settings, sending: Sending, receiver: Receiver
) -> None:
    receiver.pause_s = 0.02
    sending.start()
    (job_id,) = submit(settings, [receiver.url()], cancel=True)
    until(lambda: receiver.received, 20, "the attempt is under way")
    assert sending.end(signal.SIGTERM) == 0
    with Redis.from_url(settings.redis_url) as redis:
        assert redis.hget(f"rq:job:webhook-{job_id}", "status") == b"finished"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MOVQ_WEBHOOK_SECRET", "whsec_short", "24 to 64 random bytes"),
        ("MOVQ_WEBHOOK_SECRET", "no secret at all", "must be whsec_"),
        ("MOVQ_WEBHOOK_ALLOW", "10.0.0.1/8", "has host bits set"),
        ("MOVQ_WEBHOOK_RETRY_AFTER_S", "0", "each 1 or more"),
        ("MOVQ_WEBHOOK_CA_FILE", "/nowhere.pem", "No such file"),
        ("MOVQ_MODELS", "/nowhere", "is not a bundle"),
    ],
)
def test_what_can_never_start_says_so(sending: Sending, name: str, value: str, words: str) -> None:
    sending.start(**{name: value})
    assert sending._process is not None
    assert sending._process.wait(20) == 2
    assert sending.says(words)
