"""TileJobs: the encode, decode and reconstruct jobs under way; they take turns, a tile each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Protocol

from movq_core.errors import DeviceFault
from movq_core.manifest import Manifest
from movq_core.protocol import DecodeRequest, EncodeRequest, GenerateRequest, Tiling
from movq_core.tiles import TILE_CELLS, Codes, Pixels, decode_tiles, encode_tiles
from worker.work import Outcome, Work


class Tokenizer(Protocol):
    """The part of a device that turns pixels into codes and back."""

    @property
    def manifest(self) -> Manifest: ...
    def encode(self, pixels: Pixels) -> Codes: ...
    def decode(self, codes: Codes) -> Pixels: ...


@dataclass
class TileJob:
    """A job under way: each `next(tiles)` works one tile, and the last one returns the Outcome."""

    work: Work
    tiles: Generator[None, None, Outcome]


class TileJobs:
    """Owned by the engine thread. A job that raises fails alone; a DeviceFault passes."""

    def __init__(self, tokenizer: Tokenizer, clock: Callable[[], float]) -> None:
        self._tokenizer = tokenizer
        self._clock = clock
        self._jobs: deque[TileJob] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, work: Work) -> None:
        self._jobs.append(TileJob(work, self._tiles(work)))

    def cancel(self, job_id: str) -> Work | None:
        """Drop a job; its work, if it was here."""
        for job in self._jobs:
            if job.work.job_id == job_id:
                self._jobs.remove(job)
                return job.work
        return None

    def work_tile(self) -> Outcome | None:
        """One tile of the job whose turn it is; the Outcome when that was the end of it."""
        job = self._jobs.popleft()
        try:
            next(job.tiles)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome
        except DeviceFault:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a job raises is its own failure
            return Outcome(job.work, error=error)
        self._jobs.append(job)
        return None

    def _tiles(self, work: Work) -> Generator[None, None, Outcome]:
        assert not isinstance(work.request, GenerateRequest)
        started_s = self._clock()
        tile_cells = TILE_CELLS if work.request.tiling is Tiling.TILES else None
        if isinstance(work.request, DecodeRequest):
            assert work.codes is not None
            assert work.size is not None
            image = yield from self._decode(work.codes, work.size, tile_cells)
            outcome = Outcome(work, images=(image,), codes=work.codes)
        else:
            assert work.pixels is not None
            factor = self._tokenizer.manifest.movq.downsampling_factor
            codes = yield from encode_tiles(self._tokenizer.encode, work.pixels, factor, tile_cells)
            outcome = Outcome(work, codes=codes)
            if not isinstance(work.request, EncodeRequest):
                size = work.pixels.shape[0], work.pixels.shape[1]
                image = yield from self._decode(codes, size, tile_cells)
                outcome = replace(outcome, images=(image,))
        return replace(outcome, started_s=started_s, finished_s=self._clock())

    def _decode(
        self, codes: Codes, size: tuple[int, int], tile_cells: int | None
    ) -> Generator[None, None, Pixels]:
        factor = self._tokenizer.manifest.movq.downsampling_factor
        return decode_tiles(self._tokenizer.decode, codes, factor, size, tile_cells)
