"""What goes wrong, and what the client makes of it."""

import time

import httpx
import pytest

import movq_client
from movq_client import Retries
from service import admission
from tests.service.standin import known_jobs


def test_a_wrong_field_is_named(client):
    with pytest.raises(movq_client.InvalidRequest, match="steps") as caught:
        client.generate("hearts", steps=100)
    assert caught.value.status == 422
    assert caught.value.code == "invalid_request"
    (field,) = caught.value.errors
    assert field.pointer == "/steps"
    assert "64" in field.detail


def test_no_such_class(client):
    with pytest.raises(movq_client.InvalidRequest, match=r"unicorns.*allowed are faces"):
        client.generate("unicorns")


def test_no_such_job(client):
    with pytest.raises(movq_client.NotFound):
        client.job("00000000-0000-0000-0000-000000000000")


def test_a_job_that_fails_says_why(client, worker):
    worker.fail_with = "the poison was in the cup"
    with pytest.raises(movq_client.JobFailed, match="poison"):
        client.generate("hearts")
    job = client.start_generation("hearts")
    with pytest.raises(movq_client.JobFailed, match="poison"):
        job.wait()


def test_a_job_that_is_cancelled(client, worker):
    worker.hold()
    job = client.start_generation("hearts")
    assert job.cancel().status in ("running", "cancelled")
    with pytest.raises(movq_client.JobCancelled, match=job.id):
        job.wait()
    assert job.cancel().status == "cancelled"


def test_patience_ends_and_the_job_goes_on(connect, worker):
    worker.hold()
    client = connect(timeout_s=0.2)
    with pytest.raises(movq_client.JobTimeout) as caught:
        client.generate("hearts")
    assert isinstance(caught.value, TimeoutError)
    worker.release()
    (job_id,) = [word for word in str(caught.value).split() if word.count("-") == 4]
    assert client.job(job_id).wait(10)[0].image.size == (64, 64)


def test_a_full_queue_is_waited_for_as_long_as_it_says(client, worker, wire, monkeypatch):
    monkeypatch.setattr(admission, "RETRY_WITHOUT_A_RATE_S", 1)
    worker.hold()
    held = [client.start_generation("hearts", num_images=4) for _ in range(4)]
    before, begun_s = len(wire.sent), time.monotonic()
    wire.trouble = lambda answer: worker.release() or answer if answer.status_code == 429 else answer
    assert client.generate("hearts", num_images=4, seed=1)[0].seed == 1
    assert time.monotonic() - begun_s >= 1.0
    first, second = [request for request in wire.sent[before:] if request.method == "POST"][:2]
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert all(job.wait() for job in held)


def test_a_pause_that_would_be_too_long_is_not_begun(connect, worker, wire):
    client = connect(retries=Retries(total_s=5.0))
    worker.hold()
    for _ in range(4):
        client.start_generation("hearts", num_images=4)
    before = len(wire.sent)
    with pytest.raises(movq_client.QueueFull, match="The queue is full") as caught:
        client.generate("hearts")
    assert caught.value.retry_after_s == admission.RETRY_WITHOUT_A_RATE_S
    assert len(wire.sent) == before + 1


def test_an_answer_that_was_lost_makes_no_second_job(client, worker, wire, redis_url):
    lost = []

    def lose_first(answer: httpx.Response) -> httpx.Response:
        if not lost:
            lost.append(answer.status_code)
            raise httpx.ReadError("the line went dead")
        return answer

    wire.trouble = lose_first
    assert client.start_generation("hearts", seed=5).wait()[0].seed == 5
    assert lost == [202]
    assert known_jobs(redis_url) == 1
    assert len(worker.seen) == 1


def test_nobody_is_there(connect):
    client = connect(url="http://127.0.0.1:9", retries=Retries(attempts=2))
    with pytest.raises(movq_client.ServerUnavailable, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        client.models()


def test_somebody_else_is_there(connect, base_url):
    with pytest.raises(movq_client.NotFound, match="there"):
        connect(url=f"{base_url}/elsewhere").models()
