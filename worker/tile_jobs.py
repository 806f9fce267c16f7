"""TileJobs: the encode, decode and reconstruct jobs under way; they take turns, a tile each.

An edit begins here, too: its window is encoded as one tile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass

from movq_core.errors import DeviceFault
from movq_core.protocol import DecodeRequest, EditRequest, GenerateRequest, ReconstructRequest, Tiling
from movq_core.tiles import TILE_CELLS, Codes, Pixels, decode_tiles, encode_tiles
from worker.runner import Tokenizer
from worker.work import Outcome, Work


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

    def cancel(self, job_id: str) -> None:
        """Drop a job, if it is here."""
        self._jobs = deque(job for job in self._jobs if job.work.job_id != job_id)

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
        started_s = self._clock()
        tile_cells = _tile_cells(work)
        codes, size, image = work.codes, work.size, None
        if codes is None:
            assert work.pixels is not None
            factor = self._tokenizer.manifest.movq.downsampling_factor
            codes = yield from encode_tiles(self._tokenizer.encode, work.pixels, factor, tile_cells)
            size = work.pixels.shape[0], work.pixels.shape[1]
        if isinstance(work.request, DecodeRequest | ReconstructRequest):
            assert size is not None
            image = yield from self._decode(codes, size, tile_cells)
        return Outcome(
            work,
            images=() if image is None else (image,),
            codes=codes,
            manifest=self._tokenizer.manifest,
            started_s=started_s,
            finished_s=self._clock(),
        )

    def _decode(
        self, codes: Codes, size: tuple[int, int], tile_cells: int | None
    ) -> Generator[None, None, Pixels]:
        factor = self._tokenizer.manifest.movq.downsampling_factor
        return decode_tiles(self._tokenizer.decode, codes, factor, size, tile_cells)


def _tile_cells(work: Work) -> int | None:
    """A tile's side; None: all in one. An edit's window has the size that the tokenizer was trained for."""
    request = work.request
    assert not isinstance(request, GenerateRequest)
    is_whole = isinstance(request, EditRequest) or request.tiling is Tiling.WHOLE
    return None if is_whole else TILE_CELLS
