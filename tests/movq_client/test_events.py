"""News of jobs: as they come, cut and gone on with, and left."""

import itertools

import httpx
import pytest

import movq_client
from movq_client import Retries
from tests.movq_client.conftest import CutStream


def told(events):
    """What a listener is told, without when."""
    return [(event.type, event.index, event.step) for event in events]


def test_an_image_is_seen_on_its_way(client, worker):
    worker.steps(6)
    job = client.start_generation("hearts", num_images=2, seed=1, watched=True)
    events = list(job.events())
    types = [event.type for event in events]
    assert types[0] == "queued"
    assert "started" in types
    assert types[-1] == "done"
    previews = [event for event in events if event.preview]
    assert {event.index for event in previews} == {0, 1}
    assert {(event.preview.mode, event.preview.size) for event in previews} == {("RGBA", (64, 64))}
    shares = [event.progress for event in events]
    assert shares == sorted(shares)
    assert 0.0 < shares[len(shares) // 2] < 1.0
    assert shares[-1] == 1.0
    assert events[-1].job.status == job.status == "succeeded"
    assert [image.data for image in events[-1].images] == [image.data for image in job.wait()]


def test_generate_told_step_by_step(client, worker):
    worker.steps(4)
    for event in client.generate_iter("hearts", seed=3):
        last = event
    assert last.images[0].seed == 3


def test_a_failure_is_told_at_the_end(client, worker):
    worker.fail_with = "the poison was in the cup"
    seen = []
    with pytest.raises(movq_client.JobFailed, match="poison"):
        seen.extend(client.generate_iter("hearts"))
    job = client.start_generation("hearts")
    assert list(job.events())[-1].job.error == job.document.error


def test_who_wants_no_previews_fetches_none(client, worker, wire):
    worker.steps(3)
    events = list(client.start_generation("hearts", watched=True).events(previews=False))
    assert "preview" in [event.type for event in events]
    assert not any("/previews/" in str(request.url) for request in wire.sent)


def test_a_job_is_cancelled_while_somebody_listens(client, worker):
    worker.hold()
    job = client.start_generation("hearts", watched=True)
    types = []
    for event in job.events():
        types.append(event.type)
        if event.type == "started":
            job.cancel()
    assert types[-1] == "done"
    assert job.status == "cancelled"


@pytest.mark.parametrize("chunks", [3, 5, 7])
def test_a_stream_that_is_cut_goes_on_where_it_was(client, worker, wire, chunks):
    worker.steps(10)
    cuts = itertools.count()

    def cut(answer: httpx.Response) -> httpx.Response:
        if answer.headers["content-type"].startswith("text/event-stream"):
            next(cuts)
            answer.stream = CutStream(answer.stream, chunks)
        return answer

    wire.trouble = cut
    job = client.start_generation("hearts", num_images=2, watched=True)
    seen = told(job.events())
    wire.trouble = lambda answer: answer
    assert seen == told(client.job(job.id).events())
    assert next(cuts) > 2
    assert [kind for kind, *_ in seen].count("preview") == 20


def test_a_stream_that_brings_nothing_is_given_up(connect, worker, wire):
    def cut(answer: httpx.Response) -> httpx.Response:
        if answer.headers["content-type"].startswith("text/event-stream"):
            answer.stream = CutStream(answer.stream, 0)
        return answer

    wire.trouble = cut
    client = connect(retries=Retries(attempts=3))
    job = client.start_generation("hearts")
    before = len(wire.sent)
    with pytest.raises(movq_client.ServerUnavailable, match="the line went dead"):
        list(job.events())
    assert len(wire.sent) == before + 3


def test_who_has_seen_enough_leaves(client, worker):
    worker.hold()
    events = client.start_generation("hearts", watched=True).events()
    assert next(events).type == "queued"
    events.close()
    worker.release()
    assert client.generate("hearts", seed=1)
