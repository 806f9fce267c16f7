"""A stand-in for the worker: takes our jobs and ends them by the real worker's scripts.

It makes pictures with Pillow instead of a model. The rest of the real worker is tested in `tests/worker` and
`tests/end_to_end`; here only the service is looked at.
"""

from __future__ import annotations

import colorsys
import io
import math
import threading
import time

from PIL import Image, ImageDraw, ImageFilter
from redis import Redis

from movq_core.blobs import BlobStore
from movq_core.manifest import Manifest
from movq_core.params import derived_seed
from movq_core.protocol import (
    CodesDocument,
    DecodeRequest,
    EditRequest,
    EncodeRequest,
    Fidelity,
    GenerateRequest,
    JobOutput,
    PreviewEvent,
    ReconstructRequest,
    Request,
    StepEvent,
    Timings,
)
from worker.claim import Claim, Ending
from worker.rq_worker import connect

ImageRequest = GenerateRequest | ReconstructRequest | DecodeRequest | EditRequest
TIMINGS = Timings(waited_s=0.001, ran_s=0.02, encoded_s=0.003)


class StandIn:
    """One job at a time, in a thread, through the real worker's end of the queue.

    `hold()` makes it keep the job that it takes next, until `release()`. `fail_with` is what jobs fail with.
    `steps(8)` lets each watched job tell eight steps, each with a preview of every image, before it ends.
    """

    def __init__(self, redis_url: str, blobs: BlobStore, manifest: Manifest) -> None:
        self._blobs, self._manifest = blobs, manifest
        self._worker = connect(redis_url, manifest.name, lease_s=60)
        self._stopped: set[str] = set()
        self._watched: set[str] = set()
        self._worker.on_stop = self._stopped.add
        self._worker.on_watch = self._on_watch
        self._steps, self._step_s = 0, 0.0
        self._leave, self._free = threading.Event(), threading.Event()
        self._free.set()
        self._renewed_s = 0.0
        self._thread = threading.Thread(target=self._run, name="standin")
        self.fail_with: str | None = None
        self.seen: list[Request] = []

    def __enter__(self) -> StandIn:
        self._worker.open()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        self._free.set()
        self._thread.join()
        self._worker.close()

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def steps(self, number: int, step_s: float = 0.02) -> None:
        """From now on jobs take so many steps, at this pace; those that are watched tell of them."""
        self._steps, self._step_s = number, step_s

    def _on_watch(self, job_id: str, watched: bool) -> None:
        (self._watched.add if watched else self._watched.discard)(job_id)

    def _run(self) -> None:
        while not self._leave.is_set():
            self._renew(None)
            claims = self._worker.take(1)
            for claim in claims:
                self._perform(claim)
            if not claims:
                time.sleep(0.005)

    def _renew(self, claim: Claim | None) -> None:
        """As the real one does now and then: it is alive, and so is its lease."""
        if time.monotonic() - self._renewed_s > 1.0:
            self._renewed_s = time.monotonic()
            for renewal in self._worker.renew({claim: None} if claim else {}):
                self._on_watch(claim.job_id if claim else "", renewal.watched)

    def _perform(self, claim: Claim) -> None:
        request = claim.request()
        self.seen.append(request)
        self._on_watch(claim.job_id, claim.watched)
        ending = self._verdict(claim) or self._run_steps(claim, request)
        while ending is None and not self._free.wait(0.005):
            self._renew(claim)
            ending = self._verdict(claim)
        if ending is None and self.fail_with is not None:
            ending = Ending("failed", message=self.fail_with)
        self._worker.end([(claim, ending or Ending("succeeded", output=self._answer(request)))])

    def _run_steps(self, claim: Claim, request: Request) -> Ending | None:
        for step in range(1, self._steps + 1):
            time.sleep(self._step_s)
            if claim.job_id in self._watched:
                self._worker.tell({claim: self._events(request, step)})
            if ending := self._verdict(claim):
                return ending
        return None

    def _verdict(self, claim: Claim) -> Ending | None:
        if claim.job_id in self._stopped:
            return Ending("stopped", message="stopped on request")
        return claim.overdue() if claim.is_expired else None

    def _events(self, request: Request, step: int) -> list[StepEvent | PreviewEvent]:
        """Step `step` of each image, and how it looks then: known from the top down to that share."""
        known = step / self._steps
        events: list[StepEvent | PreviewEvent] = [StepEvent(taken=step, steps=self._steps, known=known)]
        for index, seed in enumerate(seeds_of(request)):
            image = picture(seed).convert("RGBA")
            height = round(image.height * known)
            image.paste((0, 0, 0, 0), (0, height, image.width, image.height))
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", lossless=True)
            key = self._blobs.put("previews", buffer.getvalue(), "webp", request.owner)
            events.append(PreviewEvent(index=index, step=step, known=known, image_key=key))
        return events

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
            case EditRequest():
                return self._edit(request)

    def _generate(self, request: GenerateRequest) -> JobOutput:
        seeds = seeds_of(request)
        keys = [self._store(picture(seed), request) for seed in seeds]
        return JobOutput(image_keys=keys, seeds=seeds, height=64, width=64, timings=TIMINGS)

    def _edit(self, request: EditRequest) -> JobOutput:
        """Where the mask is white, another colour for each seed."""
        image = Image.open(io.BytesIO(self._blobs.get(request.image_key))).convert("RGB")
        mask = Image.new("L", image.size, 255)
        if request.mask_key:
            mask = Image.open(io.BytesIO(self._blobs.get(request.mask_key)))
            assert (mask.mode, mask.size) == ("L", image.size)
        seeds, keys = seeds_of(request), []
        for seed in seeds:
            edited = image.copy()
            edited.paste(picture(seed).resize(image.size), mask=mask)
            keys.append(self._store(edited, request))
        return JobOutput(
            image_keys=keys, seeds=seeds, height=image.height, width=image.width, timings=TIMINGS
        )

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
        return JobOutput(
            image_keys=[self._store(blurred, request)],
            codes_key=self._codes_of(image, request),
            height=image.height,
            width=image.width,
            fidelity=fidelity,
            timings=TIMINGS,
        )

    def _encode(self, request: EncodeRequest) -> JobOutput:
        image = Image.open(io.BytesIO(self._blobs.get(request.image_key)))
        key = self._codes_of(image, request)
        return JobOutput(codes_key=key, height=image.height, width=image.width, timings=TIMINGS)

    def _codes_of(self, image: Image.Image, request: EncodeRequest | ReconstructRequest) -> str:
        movq = self._manifest.movq
        rows = math.ceil(image.height / movq.downsampling_factor)
        columns = math.ceil(image.width / movq.downsampling_factor)
        codes = [[[7] * columns for _ in range(rows)] for _ in range(movq.code_channels)]
        document = CodesDocument(
            model=self._manifest.name, height=image.height, width=image.width, codes=codes
        )
        return self._blobs.put("codes", document.model_dump_json().encode(), "json", request.owner)

    def _decode(self, request: DecodeRequest) -> JobOutput:
        document = CodesDocument.model_validate_json(self._blobs.get(request.codes_key))
        image = Image.new("RGB", (document.width, document.height), (90, 140, 200))
        key = self._store(image, request)
        return JobOutput(image_keys=[key], height=document.height, width=document.width, timings=TIMINGS)

    def _store(self, image: Image.Image, request: ImageRequest) -> str:
        buffer = io.BytesIO()
        image.save(buffer, request.format.upper())
        return self._blobs.put("images", buffer.getvalue(), request.format.value, request.owner)


def seeds_of(request: Request) -> list[int]:
    """One for each image that is made, not taken apart or put together."""
    if not isinstance(request, GenerateRequest | EditRequest):
        return []
    return [derived_seed(request.sampling.seed, index) for index in range(request.num_images)]


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
