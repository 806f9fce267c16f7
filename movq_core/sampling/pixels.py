"""PixelTokenizer: 8-bit pixels to codes and back on a device; PixelStream: the way back beside the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from movq_core.models.movq import MoVQ
from movq_core.models.quantizer import MultichannelQuantizer
from movq_core.sampling.batch import bucket_for


class Tokenizer(Protocol):
    """A MoVQ, or its served form."""

    @property
    def quantizer(self) -> MultichannelQuantizer: ...
    def encode(self, pixels: Tensor) -> Tensor: ...
    def decode(self, z_q: Tensor) -> Tensor: ...


def cast_movq(movq: MoVQ, dtype: torch.dtype, channels_last: bool = False) -> MoVQ:
    """`movq` itself, its convolutions in `dtype` and its quantiser as it was, which needs float32.

    `channels_last`: the order of memory that a GPU's convolutions want; what they make has it, too.
    """
    memory_format = torch.channels_last if channels_last else torch.preserve_format
    for part in (movq.encoder, movq.quant_conv, movq.post_quant_conv, movq.decoder):
        part.to(dtype)
        part.to(memory_format=memory_format)  # type: ignore[call-overload] # torch's stub does not know it
    return movq


class PixelTokenizer:
    """A tokenizer between bytes and codes; `dtype` is its convolutions'."""

    def __init__(self, movq: Tokenizer, dtype: torch.dtype = torch.float32) -> None:
        self.device = movq.quantizer.codebook.device
        self._movq = movq
        self._dtype = dtype

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (B, h, w, 3) uint8 whose sides the grid divides -> codes (B, C, h/f, w/f) int64."""
        batch = pixels.to(self.device).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)
        return self._movq.quantizer.encode(self._movq.encode(batch.to(self._dtype).contiguous()))

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, C, H, W) on the device -> pixels (B, H*f, W*f, 3) uint8."""
        return self._pixels(self._movq.quantizer.decode(codes))

    @torch.inference_mode()
    def preview(self, codes: Tensor) -> Tensor:
        """Codes (B, C, H, W) on the device, some masked (`codebook_size`) -> RGBA (B, H*f, W*f, 4) uint8.

        The mean of the codebook stands for a masked code; alpha is the share of a cell's channels that are
        known. Where all are, the pixels are those of `decode`, as far as no unknown neighbour reaches.
        """
        quantizer = self._movq.quantizer
        pixels = self._pixels(quantizer.decode_masked(codes))
        known = (codes != len(quantizer.codebook)).float().mean(1)  # (B, H, W)
        alpha = F.interpolate(known[:, None], size=pixels.shape[1:3], mode="nearest")
        alpha = alpha.mul(255.0).round().to(torch.uint8).permute(0, 2, 3, 1)
        return torch.cat([pixels, alpha], dim=-1)

    def _pixels(self, z_q: Tensor) -> Tensor:
        """Pixels (B, H*f, W*f, 3) uint8 of latents (B, z_channels, H, W)."""
        image = self._movq.decode(z_q.to(self._dtype)).float().clamp(-1.0, 1.0)
        pixels = image.add(1.0).mul(127.5).round().to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).contiguous()


def decode_padded(tokenizer: PixelTokenizer, codes: Tensor, buckets: Sequence[int]) -> Tensor:
    """`decode`, in batches of no size but these; the last image stands in for those that are missing."""
    most = buckets[-1]
    pixels = []
    for run in codes.split(most):
        size = bucket_for(buckets, len(run))
        padding = run[-1:].expand(size - len(run), *run.shape[1:])
        pixels.append(tokenizer.decode(torch.cat([run, padding]))[: len(run)])
    return torch.cat(pixels)


@dataclass(frozen=True)
class PixelsToCome:
    """Images that a device is decoding: `pixels` (B, h, w, 3) uint8, pinned, are whole when `done` is."""

    pixels: Tensor
    codes: Tensor
    done: torch.cuda.Event


class PixelStream:
    """Decodes on a CUDA stream of its own, so that the next steps need not wait for it."""

    def __init__(self, tokenizer: PixelTokenizer, buckets: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._buckets = buckets
        self._stream = torch.cuda.Stream(tokenizer.device)

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> PixelsToCome:
        """Begin with `codes` (B, C, H, W) when all that is queued so far has been done; waits for nothing.

        `codes` must be the caller's to give away: nobody may write to them.
        """
        self._stream.wait_stream(torch.cuda.current_stream(codes.device))
        # They belong to the stream that made them, which would use their memory anew.
        codes.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            on_device = decode_padded(self._tokenizer, codes, self._buckets)
            pixels = torch.empty(on_device.shape, dtype=torch.uint8, pin_memory=True)
            pixels.copy_(on_device, non_blocking=True)
            done = torch.cuda.Event(blocking=True)  # who waits sleeps, and leaves the processor to others
            done.record(self._stream)
        return PixelsToCome(pixels, codes, done)
