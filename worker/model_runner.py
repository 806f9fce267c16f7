"""ModelRunner: weights, rows and everything that runs on the device.

The only file of the worker with torch in it. Engine thread only; the mathematics is movq_core.sampling's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from movq_core.bundle import ModelBundle
from movq_core.errors import DeviceFault
from movq_core.params import SamplingParams
from movq_core.sampling.batch import bucket_sizes
from movq_core.sampling.pixels import PixelsToCome, PixelStream, PixelTokenizer, cast_movq
from movq_core.sampling.sampler import Sampler
from movq_core.tiles import Codes, Pixels

if TYPE_CHECKING:
    from worker.runner import FinishedImage
    from worker.settings import Precision

# Entries of every step in `deterministic` mode: a GPU is nearly busy with so many, and one image alone does
# not pay for a full house. Of the mode, not of a worker's `rows`: two workers give the same image.
DETERMINISTIC_ENTRIES = 8
# Images decoded together at most: more bring no throughput, and each takes hundreds of megabytes.
DECODED_TOGETHER = 16


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def resolve_precision(name: Precision, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on CUDA, and float32 on the CPU, where it is exact and bfloat16 is slow."""
    if name == "auto":
        name = "bfloat16" if device.type == "cuda" else "float32"
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def configure_cuda(deterministic: bool) -> None:
    """float32 means float32, in products, convolutions and the sums of bfloat16 products alike: no TF32."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cudnn.deterministic = deterministic


@contextmanager
def device_faults(device: torch.device) -> Iterator[None]:
    """A CUDA error leaves the device in an unknown state: say so, and let the process end.

    Want of memory does not: it is the failure of those who asked for too much.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if device.type == "cuda":
            raise DeviceFault(str(error)) from error
        raise


class ModelRunner:
    """`rows` images at once, each at its own step.

    On the CPU every image is encoded and decoded alone, and the prior's output for a row does not depend on
    the batch: codes are equal to `generate_codes()` to the bit, and pixels to `decode()` of them. The
    tokenizer is served in its optimized form, chosen here and kept in `cache_dir`.

    On CUDA the models run in bfloat16 (see `precision`), steps are padded to a few buckets, and a GPU chooses
    its kernels by the batch's shape: an image may depend on its company. `deterministic` gives every step and
    every decode one shape, so that it does not, at the price of padding, and serves the plain tokenizer.
    """

    def __init__(
        self,
        model_dir: Path,
        rows: int,
        device: str = "auto",
        *,
        precision: Precision = "auto",
        deterministic: bool = False,
        cache_dir: Path | None = None,
    ) -> None:
        self.device = resolve_device(device)
        self.bundle = ModelBundle.load(model_dir, str(self.device))
        self.manifest = self.bundle.manifest
        dtype, on_cuda = resolve_precision(precision, self.device), self.device.type == "cuda"
        step_buckets: Sequence[int] | None = None
        self._stream: PixelStream | None = None
        if on_cuda:
            configure_cuda(deterministic)
        movq = cast_movq(self.bundle.movq, dtype, channels_last=on_cuda)
        # What is fastest here may be another form elsewhere: deterministic is the plain module, everywhere.
        self._tokenizer = PixelTokenizer(movq if deterministic else movq.optimized(folder=cache_dir), dtype)
        if on_cuda:
            step_buckets = (DETERMINISTIC_ENTRIES,) if deterministic else bucket_sizes(2 * rows)
            decode_buckets = (1,) if deterministic else bucket_sizes(min(rows, DECODED_TOGETHER))
            self._stream = PixelStream(self._tokenizer, decode_buckets)
        self._sampler: Sampler | None = None
        if self.bundle.maskgit is not None:
            self._sampler = Sampler(self.bundle.maskgit.to(dtype), rows, step_buckets)
        self._warm_up()

    @property
    def sampler(self) -> Sampler:
        """Of a bundle with a prior; the service asks no other to generate."""
        assert self._sampler is not None, "the bundle has no prior"
        return self._sampler

    def _warm_up(self) -> None:
        """One image of each kind of work: the first request pays for no initialisation."""
        size = self.manifest.movq.image_size
        self.decode(self.encode(np.zeros((size, size, 3), np.uint8)))
        if self._sampler is not None:
            self._sampler.warm_up()
            self.start(0, None, SamplingParams(steps=1))
            self.step([0], [0])
            self.finish([0])[0].pixels()

    def memory_bytes(self) -> Mapping[str, int]:
        """Of the card: what live tensors hold, what torch has reserved for them, what all of it is."""
        if self.device.type != "cuda":
            return {}
        return {
            "allocated": torch.cuda.memory_allocated(self.device),
            "reserved": torch.cuda.memory_reserved(self.device),
            "total": torch.cuda.get_device_properties(self.device).total_memory,
        }

    def is_batch_invariant(self) -> bool:
        """Whether a row's logits are equal to the bit alone and in a full batch, on this machine."""
        return self._sampler is None or self._sampler.is_batch_invariant()

    def start(
        self, row: int, class_id: int | None, sampling: SamplingParams, known: Codes | None = None
    ) -> None:
        """Fill `row` with mask codes and note what it wants.

        `known` (C, H, W): codes that stay, and `mask_code` where the image is to be made.
        """
        with device_faults(self.device):
            self.sampler.start(row, class_id, sampling, None if known is None else torch.from_numpy(known))

    def step(self, rows: Sequence[int], steps: Sequence[int]) -> None:
        """Take step `steps[i]` of `rows[i]`, all in one batch. Nothing is written when it raises."""
        with device_faults(self.device):
            self.sampler.step(rows, steps)

    def preview(self, row: int) -> Pixels:
        """RGBA (h, w, 4) of what `row` holds now (`PixelTokenizer.preview`); it stays as it is. Waits."""
        with device_faults(self.device):
            pixels: Pixels = self._tokenizer.preview(self.sampler.codes([row])).cpu().numpy()[0]
            return pixels

    def finish(self, rows: Sequence[int]) -> list[FinishedImage]:
        """The images of rows at their end; the rows may be started anew at once.

        On CUDA they are being decoded, together, while the next steps run; on the CPU each is when asked for.
        """
        with device_faults(self.device):
            codes = self.sampler.codes(rows)
            if self._stream is None:
                return [ImageOfCodes(self, image.numpy()) for image in codes]
            return self._decoding(self._stream, codes)

    def _decoding(self, stream: PixelStream, codes: Tensor) -> list[FinishedImage]:
        """Images (B, C, H, W) on their way; one by one where memory is short, so that each fails alone."""
        try:
            to_come = stream.decode(codes)
        except torch.OutOfMemoryError as error:
            if len(codes) == 1:
                return [FailedImage(error, codes[0])]
            return [image for one in codes.split(1) for image in self._decoding(stream, one)]
        return [ImageToCome(to_come, place) for place in range(len(codes))]

    def encode(self, pixels: Pixels) -> Codes:
        """Codes (C, h/f, w/f) of pixels (h, w, 3) whose sides the grid divides."""
        with device_faults(self.device):
            codes: Codes = self._tokenizer.encode(_batch_of(pixels)).cpu().numpy()[0]
            return codes

    def decode(self, codes: Codes) -> Pixels:
        """Pixels (H*f, W*f, 3) of codes (C, H, W)."""
        with device_faults(self.device):
            pixels: Pixels = self._tokenizer.decode(_batch_of(codes).to(self.device)).cpu().numpy()[0]
            return pixels


def _batch_of(array: Pixels | Codes) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))[None]


@dataclass(frozen=True)
class ImageOfCodes:
    """A finished image on the CPU: decoded when its pixels are asked for, alone."""

    runner: ModelRunner
    codes: Codes

    def ready(self) -> bool:
        return True

    def pixels(self) -> Pixels:
        return self.runner.decode(self.codes)


@dataclass(frozen=True)
class ImageToCome:
    """A finished image on CUDA, number `place` of those that are decoded together."""

    together: PixelsToCome
    place: int

    @property
    def codes(self) -> Codes:
        """Waits."""
        with device_faults(self.together.codes.device):
            codes: Codes = self.together.codes[self.place].cpu().numpy()
            return codes

    def ready(self) -> bool:
        with device_faults(self.together.codes.device):
            return self.together.done.query()

    def pixels(self) -> Pixels:
        with device_faults(self.together.codes.device):
            self.together.done.synchronize()
            pixels: Pixels = self.together.pixels[self.place].numpy()
            return pixels


@dataclass(frozen=True)
class FailedImage:
    """A finished image that could not be decoded, and its codes, still on the device."""

    error: Exception
    on_device: Tensor

    @property
    def codes(self) -> Codes:
        codes: Codes = self.on_device.cpu().numpy()
        return codes

    def ready(self) -> bool:
        return True

    def pixels(self) -> Pixels:
        raise self.error
