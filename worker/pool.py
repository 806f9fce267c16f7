"""ImagePool: the slow bytes of a job, on CPU threads beside the engine."""

from __future__ import annotations

import math
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from pydantic import ValidationError

from movq_core.blobs import BlobStore
from movq_core.errors import InvalidRequest
from movq_core.manifest import Manifest
from movq_core.protocol import (
    CodesDocument,
    DecodeRequest,
    EncodeRequest,
    Fidelity,
    JobOutput,
    ReconstructRequest,
    Timings,
)
from movq_core.tiles import Codes
from worker.fidelity import measure_fidelity
from worker.images import decode_image, encode_image
from worker.metrics import WorkerMetrics
from worker.work import Outcome, Work

TileRequest = ReconstructRequest | EncodeRequest | DecodeRequest  # those that bring bytes


class ImagePool:
    """Turns requests into `Work` and outcomes into `JobOutput`; touches blobs, never Redis or the device."""

    def __init__(self, blobs: BlobStore, manifest: Manifest, metrics: WorkerMetrics, threads: int) -> None:
        self._blobs = blobs
        self._manifest = manifest
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="movq-images")

    def load(self, job_id: str, request: TileRequest) -> Future[Work]:
        """The work of a job, its inputs read from the store; the future may hold a MovqError."""
        return self._threads.submit(self._load, job_id, request)

    def store(self, outcome: Outcome) -> Future[JobOutput]:
        """What the job returns, once its images and codes are in the store."""
        return self._threads.submit(self._store, outcome)

    def close(self) -> None:
        """Wait for what runs, forget what waits."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _load(self, job_id: str, request: TileRequest) -> Work:
        received_s = time.monotonic()
        if isinstance(request, DecodeRequest):
            document = read_codes(self._blobs.get(request.codes_key))
            codes = checked_codes(document, self._manifest)
            size = (document.height, document.width)
            return Work(job_id, request, codes=codes, size=size, received_s=received_s)
        pixels = decode_image(self._blobs.get(request.image_key))
        return Work(job_id, request, pixels=pixels, received_s=received_s)

    def _store(self, outcome: Outcome) -> JobOutput:
        begun_s = time.monotonic()
        request = outcome.work.request
        image_keys: list[str] = []
        codes_key = None
        if isinstance(request, EncodeRequest):
            codes_key = self._store_codes(outcome)
        else:
            image_keys = [self._store_image(outcome, index) for index in range(len(outcome.images))]
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

    def _store_image(self, outcome: Outcome, index: int) -> str:
        request = outcome.work.request
        assert not isinstance(request, EncodeRequest)
        begun_s = time.monotonic()
        data = encode_image(outcome.images[index], request.format)
        self._metrics.encoded(request.format, time.monotonic() - begun_s)
        return self._blobs.put("images", data, request.format.value)

    def _store_codes(self, outcome: Outcome) -> str:
        assert outcome.codes is not None, "an encode outcome carries codes"
        height, width = _size(outcome)
        document = CodesDocument(
            model=self._manifest.name, height=height, width=width, codes=outcome.codes.tolist()
        )
        return self._blobs.put("codes", document.model_dump_json().encode(), "json")

    def _fidelity(self, outcome: Outcome) -> Fidelity | None:
        if not isinstance(outcome.work.request, ReconstructRequest) or outcome.codes is None:
            return None
        assert outcome.work.pixels is not None, "a reconstruction has its original"
        bits = self._manifest.movq.bits_per_code
        return measure_fidelity(outcome.work.pixels, outcome.images[0], outcome.codes, bits)


def read_codes(data: bytes) -> CodesDocument:
    """The codes document in a blob; raises InvalidRequest."""
    try:
        return CodesDocument.model_validate_json(data)
    except ValidationError as error:
        raise InvalidRequest(f"the codes are not a codes document: {error.errors()[0]['msg']}") from error


def checked_codes(document: CodesDocument, manifest: Manifest) -> Codes:
    """The document's codes as an array (C, rows, columns) that this model can decode.

    Raises InvalidRequest: a code out of range would fail the whole batch it is decoded in.
    """
    movq = manifest.movq
    factor = movq.downsampling_factor
    grid = (math.ceil(document.height / factor), math.ceil(document.width / factor))
    try:
        codes = np.array(document.codes, dtype=np.int64)
    except ValueError as error:
        raise InvalidRequest("the codes' rows are not of one length") from error
    if codes.shape != (movq.code_channels, *grid):
        raise InvalidRequest(
            f"codes of shape {list(codes.shape)}; {document.height}x{document.width} pixels are "
            f"{[movq.code_channels, *grid]} codes of {manifest.name}"
        )
    if codes.min() < 0 or codes.max() >= movq.codebook_size:
        raise InvalidRequest(f"codes must be 0 to {movq.codebook_size - 1}")
    return codes


def _size(outcome: Outcome) -> tuple[int, int]:
    """Height and width of the job's image, in pixels."""
    source = outcome.images[0] if outcome.images else outcome.work.pixels
    assert source is not None, "an outcome has images, or its work has pixels"
    return source.shape[0], source.shape[1]
