"""Whether a job fits the bundle that is to do it: another may have come since the service looked."""

from __future__ import annotations

import math

from movq_core.config import MoVQConfig
from movq_core.errors import InvalidRequest
from movq_core.manifest import Manifest
from movq_core.protocol import EditRequest, GenerateRequest
from movq_core.tiles import Codes
from worker.work import Work


def check_fit(work: Work, manifest: Manifest) -> None:
    """Raises InvalidRequest: on the device it would fail a whole batch, and on CUDA the process."""
    request = work.request
    if request.kind not in manifest.tasks:
        tasks = ", ".join(kind.value for kind in manifest.tasks)
        raise InvalidRequest(f"{manifest.name} has no prior: it can only {tasks}")
    if isinstance(request, GenerateRequest | EditRequest) and request.class_id is not None:
        check_class(request.class_id, manifest)
    if work.codes is not None and work.size is not None:
        check_codes(work.codes, work.size, manifest.movq)


def check_class(class_id: int, manifest: Manifest) -> None:
    """Raises InvalidRequest when the bundle has no such class."""
    classes = len(manifest.labels)
    if not 0 <= class_id < classes:
        allowed = f"0 to {classes - 1}, or none" if classes else "none"
        raise InvalidRequest(f"class_id is {class_id}; {manifest.name} has {allowed}")


def check_codes(codes: Codes, size: tuple[int, int], movq: MoVQConfig) -> None:
    """Raises InvalidRequest unless this tokenizer can decode `codes` (C, H, W) to `size` (height, width)."""
    factor = movq.downsampling_factor
    height, width = size
    shape = (movq.code_channels, math.ceil(height / factor), math.ceil(width / factor))
    if codes.shape != shape:
        raise InvalidRequest(
            f"codes of shape {list(codes.shape)}; {height}x{width} pixels are {list(shape)} codes"
        )
    if codes.min() < 0 or codes.max() >= movq.codebook_size:
        raise InvalidRequest(f"codes must be 0 to {movq.codebook_size - 1}")
