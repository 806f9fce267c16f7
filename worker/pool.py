"""ImagePool: the slow bytes of a job, on CPU threads beside the engine."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from pydantic import ValidationError

from movq_core.blobs import BlobStore
from movq_core.edits import Mask
from movq_core.errors import InvalidRequest
from movq_core.manifest import Manifest
from movq_core.picture import encode_image
from movq_core.protocol import (
    CodesDocument,
    DecodeRequest,
    EditRequest,
    EncodeRequest,
    Fidelity,
    JobOutput,
    PreviewEvent,
    ReconstructRequest,
    Timings,
)
from movq_core.tiles import Codes, Pixels
from movq_core.window import Window
from worker.fidelity import measure_fidelity
from worker.images import decode_image, decode_mask, encode_preview
from worker.metrics import WorkerMetrics
from worker.work import Outcome, Preview, Work

# Those that bring bytes.
RequestWithBytes = ReconstructRequest | EncodeRequest | DecodeRequest | EditRequest


class ImagePool:
    """Turns requests into `Work` and outcomes into `JobOutput`; touches blobs, never Redis or the device.

    `manifest` is of the bundle that is served from now on. Work that was loaded for another is looked at
    again by the engine.
    """

    def __init__(self, blobs: BlobStore, manifest: Manifest, metrics: WorkerMetrics, threads: int) -> None:
        self._blobs = blobs
        self.manifest = manifest
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="movq-images")

    def load(self, job_id: str, request: RequestWithBytes) -> Future[Work]:
        """The work of a job, its inputs read from the store; the future may hold a MovqError."""
        return self._threads.submit(self._load, job_id, request)

    def store(self, outcome: Outcome) -> Future[JobOutput]:
        """What the job returns, once its images and codes are in the store."""
        return self._threads.submit(self._store, outcome)

    def store_preview(self, preview: Preview) -> Future[PreviewEvent]:
        """What the job's listeners are told, once the preview is in the store."""
        return self._threads.submit(self._store_preview, preview)

    def close(self) -> None:
        """Wait for what runs, forget what waits."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _load(self, job_id: str, request: RequestWithBytes) -> Work:
        received_s = time.monotonic()
        if isinstance(request, DecodeRequest):
            codes, size = read_codes(self._blobs.get(request.codes_key))
            return Work(job_id, request, codes=codes, size=size, received_s=received_s)
        pixels = decode_image(self._blobs.get(request.image_key))
        if not isinstance(request, EditRequest):
            return Work(job_id, request, pixels=pixels, received_s=received_s)
        size_px = self.manifest.movq.image_size
        window = Window.around(pixels, self._mask(request, pixels), size_px, request.feather_px)
        return Work(
            job_id,
            request,
            pixels=window.pixels(size_px),
            mask=window.touched(size_px),
            window=window,
            received_s=received_s,
        )

    def _mask(self, request: EditRequest, pixels: Pixels) -> Mask:
        """Where the image is to be made anew; raises InvalidRequest."""
        height, width = pixels.shape[:2]
        if request.mask_key is None:
            return np.ones((height, width), np.bool_)
        mask = decode_mask(self._blobs.get(request.mask_key))
        if mask.shape != (height, width):
            raise InvalidRequest(
                f"the mask has {mask.shape[1]}x{mask.shape[0]} pixels, the image {width}x{height}: "
                "they must be of one size"
            )
        if not mask.any():
            raise InvalidRequest("the mask is black everywhere: what is to be made anew must not be")
        return mask

    def _store(self, outcome: Outcome) -> JobOutput:
        begun_s = time.monotonic()
        request = outcome.work.request
        image_keys = [self._store_image(outcome, image) for image in outcome.images]
        brings_codes = isinstance(request, EncodeRequest | ReconstructRequest | EditRequest)
        codes_key = self._store_codes(outcome) if brings_codes else None
        self._metrics.stored(request.kind, len(image_keys))
        height, width = _size(outcome)
        return JobOutput(
            image_keys=image_keys,
            seeds=list(outcome.seeds),
            codes_key=codes_key,
            height=height,
            width=width,
            fidelity=self._fidelity(outcome),
            timings=Timings(
                waited_s=max(0.0, outcome.started_s - outcome.work.received_s),
                ran_s=max(0.0, outcome.finished_s - outcome.started_s),
                encoded_s=time.monotonic() - begun_s,
            ),
        )

    def _store_image(self, outcome: Outcome, image: Pixels) -> str:
        request, window = outcome.work.request, outcome.work.window
        assert not isinstance(request, EncodeRequest)
        whole = window.paste(image) if window else image
        begun_s = time.monotonic()
        data = encode_image(whole, request.format)
        self._metrics.encoded(request.format, time.monotonic() - begun_s)
        return self._blobs.put("images", data, request.format.value, request.owner)

    def _store_codes(self, outcome: Outcome) -> str:
        """Of an edit they are the window's."""
        assert outcome.codes is not None, "the device has made codes"
        assert outcome.work.pixels is not None, "of pixels"
        height, width = outcome.work.pixels.shape[:2]
        document = CodesDocument(
            model=made_by(outcome).name, height=height, width=width, codes=outcome.codes.tolist()
        )
        data = document.model_dump_json().encode()
        return self._blobs.put("codes", data, "json", outcome.work.request.owner)

    def _store_preview(self, preview: Preview) -> PreviewEvent:
        key = self._blobs.put("previews", encode_preview(preview.pixels), "webp", preview.owner)
        self._metrics.previewed()
        return PreviewEvent(index=preview.index, step=preview.step, known=preview.known, image_key=key)

    def _fidelity(self, outcome: Outcome) -> Fidelity | None:
        if not isinstance(outcome.work.request, ReconstructRequest) or outcome.codes is None:
            return None
        assert outcome.work.pixels is not None, "a reconstruction has its original"
        bits = made_by(outcome).movq.bits_per_code
        return measure_fidelity(outcome.work.pixels, outcome.images[0], outcome.codes, bits)


def read_codes(data: bytes) -> tuple[Codes, tuple[int, int]]:
    """The codes (C, rows, columns) of a codes document, and the image's height and width.

    Raises InvalidRequest. Whether a bundle can decode them is looked at by who will.
    """
    try:
        document = CodesDocument.model_validate_json(data)
        codes = np.array(document.codes, dtype=np.int64)
    except ValidationError as error:
        raise InvalidRequest(f"the codes are not a codes document: {error.errors()[0]['msg']}") from error
    except (ValueError, OverflowError) as error:
        raise InvalidRequest("the codes are not rows of one length, or far too large") from error
    return codes, (document.height, document.width)


def made_by(outcome: Outcome) -> Manifest:
    """The bundle that made it."""
    assert outcome.manifest is not None, "codes are some bundle's"
    return outcome.manifest


def _size(outcome: Outcome) -> tuple[int, int]:
    """Height and width of the job's image, in pixels."""
    work = outcome.work
    source = work.window.image if work.window else outcome.images[0] if outcome.images else work.pixels
    assert source is not None, "an outcome has images, or its work has pixels"
    return source.shape[0], source.shape[1]
