"""A stand-in for the worker: takes our jobs from RQ and ends them through RQ's own methods.

It makes pictures with Pillow instead of a model. The real worker is tested in `tests/worker` and
`tests/end_to_end`; here only the service is looked at.
"""

from __future__ import annotations

import colorsys
import io
import math
import threading
import time
import uuid
from typing import Any

from PIL import Image, ImageDraw, ImageFilter
from redis import Redis
from rq import Queue
from rq.executions import Execution
from rq.job import Job
from rq.utils import now
from rq.worker import BaseWorker

from movq_core.blobs import BlobStore
from movq_core.manifest import Manifest
from movq_core.params import derived_seed
from movq_core.protocol import (
    QUEUE_NAME,
    CodesDocument,
    DecodeRequest,
    EncodeRequest,
    Fidelity,
    GenerateRequest,
    JobOutput,
    ReconstructRequest,
    Request,
    Timings,
    parse_request,
)

TIMINGS = Timings(waited_s=0.001, ran_s=0.02, encoded_s=0.003)


class _Records(BaseWorker):
    """RQ's bookkeeping, without RQ's loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stopped: set[str] = set()

    def subscribe(self) -> None:
        """As RQ's, but with a thread that looks often whether it may leave."""
        self.pubsub = self.connection.pubsub()
        self.pubsub.subscribe(**{self.pubsub_channel_name: self.handle_payload})
        self.pubsub_thread = self.pubsub.run_in_thread(sleep_time=0.02, daemon=True)

    def request_stop_execution(self, execution_id: str) -> None:
        self.stopped.add(execution_id)


class StandIn:
    """One job at a time, in a thread. `hold()` makes it keep the job that it takes next."""

    def __init__(self, redis_url: str, blobs: BlobStore, manifest: Manifest) -> None:
        self._blobs, self._manifest = blobs, manifest
        self._redis = Redis.from_url(redis_url)
        self._queue = Queue(QUEUE_NAME, connection=self._redis, serializer="json")
        name = f"standin-{uuid.uuid4().hex}"
        self._records = _Records([self._queue], name=name, connection=self._redis, serializer="json")
        self._leave, self._free = threading.Event(), threading.Event()
        self._free.set()
        self._thread = threading.Thread(target=self._run, name=name)
        self.fail_with: str | None = None
        self.seen: list[Request] = []

    def __enter__(self) -> StandIn:
        self._records.register_birth()
        self._records.subscribe()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        self._free.set()
        self._thread.join()
        self._records.unsubscribe()
        self._records.register_death()
        self._redis.close()

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def _run(self) -> None:
        while not self._leave.is_set():
            taken = Queue.dequeue_any([self._queue], None, connection=self._redis, serializer="json")
            if taken is None:
                time.sleep(0.005)
            else:
                self._perform(taken[0])

    def _perform(self, job: Job) -> None:
        request = parse_request(job.kwargs["request"])
        self.seen.append(request)
        execution = self._records.prepare_execution(job)
        images = request.num_images if isinstance(request, GenerateRequest) else 1
        self._redis.hset(execution.key, "images", images)  # as our worker does: the service adds them up
        self._records.prepare_job_execution(job, remove_from_intermediate_queue=True)
        while not self._free.wait(0.005):
            if execution.id in self._records.stopped:
                self._stop(job, execution)
                return
        if self.fail_with is not None:
            self._fail(job, execution, self.fail_with)
            return
        output = self._answer(request).model_dump(mode="json")
        self._records._finalize_success(job, self._queue, execution, output)

    def _stop(self, job: Job, execution: Execution) -> None:
        self._records._stopped_job_id = job.id
        self._fail(job, execution, "stopped")

    def _fail(self, job: Job, execution: Execution, text: str) -> None:
        job.ended_at = now()
        job.retries_left = 0
        self._records.handle_job_failure(job, self._queue, exc_string=text, execution=execution)

    def _answer(self, request: Request) -> JobOutput:
        match request:
            case GenerateRequest():
                return self._generate(request)
            case ReconstructRequest():
                return self._reconstruct(request)
            case EncodeRequest():
                return self._encode(request)
            case DecodeRequest():
                return self._decode(request)

    def _generate(self, request: GenerateRequest) -> JobOutput:
        seeds = [derived_seed(request.sampling.seed, index) for index in range(request.num_images)]
        keys = [self._store(picture(seed), request.format) for seed in seeds]
        return JobOutput(image_keys=keys, seeds=seeds, height=64, width=64, timings=TIMINGS)

    def _reconstruct(self, request: ReconstructRequest) -> JobOutput:
        image = Image.open(io.BytesIO(self._blobs.get(request.image_key)))
        assert image.mode == "RGB"
        blurred = image.filter(ImageFilter.BoxBlur(2))
        size = math.ceil(image.height / 8) * math.ceil(image.width / 8) * 4 * 9 / 8
        fidelity = Fidelity(
            psnr_db=27.31,
            ssim=0.871 if min(image.size) >= 11 else None,
            codes_bytes=math.ceil(size),
            bits_per_pixel=size * 8 / (image.height * image.width),
        )
        key = self._store(blurred, request.format)
        return JobOutput(
            image_keys=[key], height=image.height, width=image.width, fidelity=fidelity, timings=TIMINGS
        )

    def _encode(self, request: EncodeRequest) -> JobOutput:
        image = Image.open(io.BytesIO(self._blobs.get(request.image_key)))
        movq = self._manifest.movq
        rows = math.ceil(image.height / movq.downsampling_factor)
        columns = math.ceil(image.width / movq.downsampling_factor)
        codes = [[[7] * columns for _ in range(rows)] for _ in range(movq.code_channels)]
        document = CodesDocument(
            model=self._manifest.name, height=image.height, width=image.width, codes=codes
        )
        key = self._blobs.put("codes", document.model_dump_json().encode(), "json")
        return JobOutput(codes_key=key, height=image.height, width=image.width, timings=TIMINGS)

    def _decode(self, request: DecodeRequest) -> JobOutput:
        document = CodesDocument.model_validate_json(self._blobs.get(request.codes_key))
        image = Image.new("RGB", (document.width, document.height), (90, 140, 200))
        key = self._store(image, request.format)
        return JobOutput(image_keys=[key], height=document.height, width=document.width, timings=TIMINGS)

    def _store(self, image: Image.Image, image_format: str) -> str:
        buffer = io.BytesIO()
        image.save(buffer, image_format.upper())
        return self._blobs.put("images", buffer.getvalue(), str(image_format))


def picture(seed: int) -> Image.Image:
    """A face of sorts in a colour of its own; 64 x 64."""
    hue = (seed % 997) / 997
    skin = tuple(int(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.55, 0.98))
    image = Image.new("RGB", (256, 256), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((16, 16, 240, 240), fill=skin)
    for x in (88, 168):
        draw.ellipse((x - 16, 88, x + 16, 132), fill=(60, 40, 40))
    draw.arc((76, 110, 180, 200), 20 + seed % 23, 160 - seed % 17, fill=(60, 40, 40), width=12)
    return image.resize((64, 64), Image.Resampling.LANCZOS)


def known_jobs(redis_url: str) -> int:
    """Number of jobs, of whatever status, that Redis knows."""
    with Redis.from_url(redis_url) as connection:
        return sum(1 for _ in connection.scan_iter("rq:job:*"))
