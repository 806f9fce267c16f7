"""Runner: what the engine asks of a device; `ModelRunner` is one, `fakes.FakeRunner` another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from movq_core.manifest import Manifest
from movq_core.params import SamplingParams
from movq_core.tiles import Codes, Pixels


class Tokenizer(Protocol):
    """The part of a device that turns pixels into codes and back."""

    @property
    def manifest(self) -> Manifest: ...
    def encode(self, pixels: Pixels) -> Codes: ...
    def decode(self, codes: Codes) -> Pixels: ...


class FinishedImage(Protocol):
    """An image whose steps are taken; its decoding has begun, or will."""

    @property
    def codes(self) -> Codes:
        """(C, H, W); waits."""
        ...

    def ready(self) -> bool:
        """Whether `pixels()` will not wait for the device."""
        ...

    def pixels(self) -> Pixels:
        """Waits; raises what decoding raised."""
        ...


class Runner(Tokenizer, Protocol):
    """A device that makes images in rows."""

    def memory_bytes(self) -> Mapping[str, int]:
        """What the device's memory holds, by type; empty for the CPU. Safe to call from any thread."""
        ...

    def start(
        self, row: int, class_id: int | None, sampling: SamplingParams, known: Codes | None = None
    ) -> None:
        """Begin an image; `known` codes (C, H, W) stay, and it is made where they are `mask_code`."""
        ...

    def step(self, rows: Sequence[int], steps: Sequence[int]) -> None: ...

    def preview(self, row: int) -> Pixels:
        """RGBA (h, w, 4) of what the row holds, transparent where it is masked; waits."""
        ...

    def finish(self, rows: Sequence[int]) -> Sequence[FinishedImage]:
        """The images of rows at their end; the rows may be started anew at once."""
        ...
