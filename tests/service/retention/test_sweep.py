"""What a sweep takes and what it leaves, of a folder and of S3; real jobs in a real Redis."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis import Redis

from movq_core.blobs import BlobStore, keys_in
from movq_core.errors import QueueUnavailable
from movq_core.protocol import (
    DecodeRequest,
    EditRequest,
    EncodeRequest,
    GenerateRequest,
    JobOutput,
    ReconstructRequest,
    Request,
    Timings,
)
from service.job import Submission
from service.jobs import JobStore
from service.retention.records import JobRecords
from service.retention.settings import RetentionSettings
from service.retention.sweep import Sweep
from service.settings import Settings
from worker.claim import Claim, Ending
from worker.rq_worker import RQWorker, connect

HOUR_S = 3600.0
GRACE_S, AGE_S = 600, 25 * 3600
STATES = ("queued", "running", "succeeded", "failed", "cancelled", "expired")


def sweep(redis_url: str, blobs: BlobStore, go_on=lambda: None, **limits: int) -> Sweep:
    """One that has been run."""
    settings = RetentionSettings(redis_url=redis_url, **limits)
    swept = Sweep(blobs, JobRecords(redis_url), settings, go_on)
    swept.run()
    return swept


def names(blobs: BlobStore) -> set[str]:
    return {file.name for file in blobs.files()}


class House:
    """A store in a folder whose files are as old as a test wants, and jobs in the states that it wants."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self.redis_url, self.folder = redis_url, folder
        self.blobs = BlobStore(str(folder))
        self._count = 0

    def put(self, folder: str, age_h: float, suffix: str = "png", owner: str | None = None) -> str:
        self._count += 1
        key = self.blobs.put(folder, f"bytes {self._count}".encode() * 20, suffix, owner)
        self.age(key, age_h)
        return key

    def age(self, name: str, age_h: float) -> None:
        at_s = time.time() - age_h * HOUR_S
        os.utime(self.folder / name, (at_s, at_s))

    def submit(self, request: Request) -> str:
        async def submitted() -> str:
            store = JobStore(Settings(redis_url=self.redis_url, max_queue_images=10_000))
            try:
                return (await store.submit(request, Submission("emoji-64"))).job.id
            finally:
                await store.close()

        return asyncio.run(submitted())

    def cancel(self, job_id: str) -> None:
        async def cancelled() -> None:
            store = JobStore(Settings(redis_url=self.redis_url))
            try:
                await store.cancel(job_id)
            finally:
                await store.close()

        asyncio.run(cancelled())


@pytest.fixture
def house(redis_url: str, tmp_path: Path) -> House:
    return House(redis_url, tmp_path / "blobs")


@pytest.fixture
def worker(redis_url: str) -> Iterator[RQWorker]:
    worker = connect(redis_url, "emoji-64", lease_s=60)
    worker.open()
    yield worker
    worker.close()


def output(*image_keys: str, codes_key: str | None = None) -> Ending:
    timings = Timings(waited_s=0, ran_s=0, encoded_s=0)
    made = JobOutput(image_keys=image_keys, codes_key=codes_key, height=8, width=8, timings=timings)
    return Ending("succeeded", output=made)


def claim(worker: RQWorker, job_id: str) -> Claim:
    """Of this job; it waits alone."""
    (taken,) = worker.take(1)
    assert taken.job_id == job_id
    return taken


# -- one by one ---------------------------------------------------------------------------------------


def test_what_no_record_names_goes_when_it_is_old(house: House) -> None:
    old, young = house.put("images", 26), house.put("images", 24)
    shown, late = house.put("previews", 0.9, "webp"), house.put("previews", 1.1, "webp")
    owned = house.put("codes", 30, "json", owner="anna")
    swept = sweep(house.redis_url, house.blobs)
    assert names(house.blobs) == {young, shown}
    assert {old, late, owned}.isdisjoint(names(house.blobs))
    assert swept.removed.files == {"age": 3}
    assert (swept.stored.files.total(), swept.stored.size_bytes["images"]) == (2, 140)


def test_nothing_else_in_the_folder_is_touched(house: House, tmp_path: Path) -> None:
    """Not a name that is no key, not what a link leads to, not the neighbours."""
    key = house.put("images", 26)
    foreign = [
        house.folder / "images" / "notes.png",
        house.folder / "images" / f"{'0' * 64}.png.bak",
        house.folder / "images" / f"{'0' * 63}.png",
        house.folder / "other" / Path(key).name,
        tmp_path / "beside.png",
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
        os.utime(path, (0, 0))
    sweep(house.redis_url, house.blobs, max_blobs_bytes=0)
    assert names(house.blobs) == set()
    assert all(path.read_bytes() == b"mine" for path in foreign)


def test_what_a_cut_off_write_has_left_goes_after_the_grace(house: House) -> None:
    key = house.put("images", 0)
    for age_h in (0.1, 0.2):
        name = f"{key}.{int(age_h * 10):032x}.part"
        (house.folder / name).write_bytes(b"half")
        house.age(name, age_h)
    swept = sweep(house.redis_url, house.blobs)
    assert swept.removed.files == {"unfinished": 1}
    assert names(house.blobs) == {key, f"{key}.{1:032x}.part"}


def test_a_job_that_waits_for_days_keeps_its_image_and_its_mask(house: House) -> None:
    image_key, mask_key = house.put("uploads", 100), house.put("uploads", 100)
    house.submit(EditRequest(image_key=image_key, mask_key=mask_key))
    sweep(house.redis_url, house.blobs, max_blobs_bytes=0)
    assert names(house.blobs) == {image_key, mask_key}


def test_outputs_stay_as_long_as_their_record(house: House, worker: RQWorker) -> None:
    """Even where records are kept longer than blobs are."""
    inside, image, codes = house.put("uploads", 40), house.put("images", 40), house.put("codes", 40, "json")
    job_id = house.submit(ReconstructRequest(image_key=inside))
    worker.end([(claim(worker, job_id), output(image, codes_key=codes))])
    sweep(house.redis_url, house.blobs)
    assert names(house.blobs) == {inside, image, codes}
    with Redis.from_url(house.redis_url) as redis:
        redis.delete(f"rq:job:{job_id}")
    sweep(house.redis_url, house.blobs)
    assert names(house.blobs) == set()


def test_what_a_running_job_may_have_made_stays(house: House, worker: RQWorker) -> None:
    """Its worker may hold it for longer than the grace while Redis is away from it."""
    job_id = house.submit(GenerateRequest())
    taken = claim(worker, job_id)
    with Redis.from_url(house.redis_url) as redis:
        redis.hset(f"rq:job:{job_id}", "started_at", _ago(3 * HOUR_S))
        made, before = house.put("images", 2), house.put("images", 4)
        sweep(house.redis_url, house.blobs, max_blobs_bytes=0)
        assert names(house.blobs) == {made}
        # One that began before blobs are kept at all is dead: its store must not grow for ever.
        redis.hset(f"rq:job:{job_id}", "started_at", _ago(26 * HOUR_S))
    sweep(house.redis_url, house.blobs, max_blobs_bytes=0)
    assert names(house.blobs) == set()
    assert before != made
    worker.end([(taken, output(made))])


def _ago(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() - seconds))


def test_room_is_made_by_the_oldest_and_by_ended_jobs_last(house: House, worker: RQWorker) -> None:
    kept, orphans = house.put("images", 20), [house.put("images", hours) for hours in (3, 2, 1)]
    job_id = house.submit(GenerateRequest())
    worker.end([(claim(worker, job_id), output(kept))])
    size_bytes = next(file.size_bytes for file in house.blobs.files())
    swept = sweep(house.redis_url, house.blobs, max_blobs_bytes=2 * size_bytes)
    assert names(house.blobs) == {kept, orphans[2]}
    assert swept.removed.files == {"size": 2}
    sweep(house.redis_url, house.blobs, max_blobs_bytes=size_bytes)
    assert names(house.blobs) == {kept}
    sweep(house.redis_url, house.blobs, max_blobs_bytes=0)
    assert names(house.blobs) == set()


def test_what_is_put_again_meanwhile_stays(house: House) -> None:
    """Between the walk and the removal, too: the file has another age than it was seen with."""
    key = house.put("uploads", 100)
    data = house.blobs.get(key)
    swept = sweep(house.redis_url, house.blobs, go_on=lambda: house.blobs.put("uploads", data, "png"))
    assert swept.removed.files.total() == 0
    assert names(house.blobs) == {key}


def test_what_is_put_again_is_young_again(house: House) -> None:
    key = house.put("uploads", 100)
    house.blobs.put("uploads", house.blobs.get(key), "png")
    sweep(house.redis_url, house.blobs, max_blobs_bytes=0)
    assert names(house.blobs) == {key}


def test_a_sweep_that_is_cut_off_leaves_the_rest_to_the_next(house: House) -> None:
    old = {house.put("images", 30) for _ in range(250)}
    calls = iter(range(100))

    def cut_off() -> None:
        if next(calls) == 3:  # the walk, the records (none), then a chunk each
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(house.redis_url, house.blobs, cut_off)
    assert 0 < len(names(house.blobs)) < len(old)
    sweep(house.redis_url, house.blobs)
    assert names(house.blobs) == set()


def test_nothing_goes_while_redis_is_away(house: House) -> None:
    key = house.put("images", 100)
    with pytest.raises(QueueUnavailable):
        sweep("redis://127.0.0.1:1/0", house.blobs)
    assert names(house.blobs) == {key}


def test_one_of_several_has_the_turn(redis_url: str) -> None:
    first, second = JobRecords(redis_url), JobRecords(redis_url)
    with first.turn(every_s=1) as keep, second.turn(every_s=1) as other:
        assert keep
        keep()
        assert other is None
    with second.turn(every_s=1) as at_once:
        assert at_once is None, "a turn ends, and after it nobody has one for a while"
    time.sleep(1.1)
    with pytest.raises(OSError, match="full"), second.turn(every_s=60):
        raise OSError("full")
    lost = pytest.raises(QueueUnavailable)
    with Redis.from_url(redis_url) as redis, lost, first.turn(every_s=60) as keep:
        assert keep, "after an error the next may try at once"
        redis.set("movq:retention", "somebody else")
        keep()


# -- on S3 --------------------------------------------------------------------------------------------


def test_s3_is_swept_alike(s3_url: str, redis_url: str, tmp_path: Path) -> None:
    bucket = BlobStore(f"{s3_url}/retention")
    house = House(redis_url, tmp_path)
    used, again, orphan = (bucket.put("uploads", data, "png") for data in (b"used", b"again", b"orphan"))
    house.submit(EncodeRequest(image_key=used))
    time.sleep(4.1)  # S3 tells whole seconds
    assert bucket.put("uploads", b"again", "png") == again
    limits = {"blob_age_s": 2, "retention_grace_s": 1, "max_blobs_bytes": 0}
    swept = sweep(redis_url, bucket, **limits)
    assert names(bucket) == {used, again}
    assert swept.removed.files == {"age": 1}
    assert orphan not in names(bucket)
    file = next(file for file in bucket.files() if file.name == again)
    assert abs(file.written_at_s - time.time()) < 5
    assert bucket.get(used) == b"used"


# -- any jobs in any states ---------------------------------------------------------------------------


@dataclass
class Drawn:
    """A job that was drawn: what it is, how far it came, and how old its blobs are."""

    state: str
    kind: str
    input_h: float
    output_h: float
    shares: bool  # its input is the one of another job, too


HOURS = st.sampled_from([0.0, 0.1, 0.3, 2.0, 24.0, 26.0, 100.0])
JOBS = st.builds(
    Drawn,
    state=st.sampled_from(STATES),
    kind=st.sampled_from(["generate", "reconstruct", "encode", "decode", "edit"]),
    input_h=HOURS,
    output_h=HOURS,
    shares=st.booleans(),
)


@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    jobs=st.lists(JOBS, max_size=6),
    orphans=st.lists(HOURS, max_size=4),
    max_blobs=st.sampled_from([None, 0, 3, 8]),
)
def test_nothing_in_use_ever_goes(
    redis_url: str, tmp_path: Path, jobs: list[Drawn], orphans: list[float], max_blobs: int | None
) -> None:
    shutil.rmtree(tmp_path / "blobs", ignore_errors=True)
    with Redis.from_url(redis_url) as redis:
        redis.flushall()
        house, worker = House(redis_url, tmp_path / "blobs"), connect(redis_url, "emoji-64", lease_s=60)
        worker.open()
        of_open: set[str] = set()
        of_ended: set[str] = set()
        shared = {f: house.put(f, 100, s) for f, s in (("uploads", "png"), ("codes", "json"))}
        for job in sorted(jobs, key=lambda job: job.state == "queued"):  # those that wait come last
            inputs, job_id = _make(house, job, shared)
            outputs = {house.put("images", job.output_h)}
            if job.kind == "encode":
                outputs = {house.put("codes", job.output_h, "json")}
            match job.state:
                case "queued":
                    of_open |= inputs
                case "running":
                    claim(worker, job_id)
                    of_open |= inputs
                case "cancelled":
                    house.cancel(job_id)
                    of_ended |= inputs
                case "failed":
                    worker.end([(claim(worker, job_id), Ending("failed", message="no"))])
                    of_ended |= inputs
                case _:
                    worker.end([(claim(worker, job_id), output(*outputs))])
                    if job.state == "succeeded":
                        of_ended |= inputs | outputs
                    else:
                        redis.delete(f"rq:job:{job_id}", f"rq:results:{job_id}")
        for hours in orphans:
            house.put("images", hours)
        ages_h = {f.name: (time.time() - f.written_at_s) / HOUR_S for f in house.blobs.files()}
        limit = {} if max_blobs is None else {"max_blobs_bytes": max_blobs * 160}
        sweep(redis_url, house.blobs, **limit)
        worker.close()

    left = names(house.blobs)
    young = {name for name, age_h in ages_h.items() if age_h < GRACE_S / HOUR_S}
    assert of_open | young <= left
    if max_blobs is None:
        assert of_ended <= left
        assert left == of_open | of_ended | {name for name, age_h in ages_h.items() if age_h < 25}
    else:
        size_bytes = sum(file.size_bytes for file in house.blobs.files())
        assert size_bytes <= max_blobs * 160 or left == of_open | young


def _make(house: House, job: Drawn, shared: dict[str, str]) -> tuple[set[str], str]:
    """Its inputs, and its id."""

    def given(folder: str, suffix: str) -> str:
        return shared[folder] if job.shares else house.put(folder, job.input_h, suffix)

    request: Request
    match job.kind:
        case "generate":
            request = GenerateRequest()
        case "decode":
            request = DecodeRequest(codes_key=given("codes", "json"))
        case "edit":
            request = EditRequest(
                image_key=given("uploads", "png"), mask_key=house.put("uploads", job.input_h)
            )
        case "encode":
            request = EncodeRequest(image_key=given("uploads", "png"))
        case _:
            request = ReconstructRequest(image_key=given("uploads", "png"))
    return set(keys_in(request.model_dump_json())), house.submit(request)
