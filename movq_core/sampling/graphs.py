"""StepGraphs: a step as one CUDA graph a shape of batch; launched in microseconds, whatever it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from movq_core.sampling.batch import Batch, entries_of

# PyTorch's own number: libraries choose kernels and take workspaces in their first calls.
WARM_UP_STEPS = 3


@dataclass
class StepGraph:
    """A recorded step. It reads `batch`, whose memory is its own; `loaded` was copied there last."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    loaded: Batch | None = None


class StepGraphs:
    """Takes steps on a CUDA device; a shape of batch is recorded when it is first met.

    All graphs share one pool of memory: no tensor of a graph outlives its replay, for all that a step leaves
    behind is in the rows. Rules: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    def __init__(self, take_step: Callable[[Batch], None], scratch: int, device: torch.device) -> None:
        self._take_step = take_step
        self._scratch = scratch
        self._device = device
        self._graphs: dict[tuple[int, bool], StepGraph] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # one for all: the pool's memory belongs to a stream
        self._last_step: torch.cuda.Event | None = None

    def warm_up(self, buckets: Iterable[int]) -> None:
        """Record every shape, the largest first, so that the others find room in its memory."""
        for size in sorted(buckets, reverse=True):
            for guided in (True, False) if size > 1 else (False,):  # a twin is an entry more
                self.recorded(size, guided)

    def __call__(self, batch: Batch) -> None:
        """Launch the step of `batch`; returns when the step before it has ended.

        So the device always has its next step, and a newcomer waits for no more than one.
        """
        graph = self.recorded(batch.entries.shape[1], batch.guided)
        if graph.loaded is not batch:
            graph.batch.entries.copy_(batch.entries)
            graph.loaded = batch
        graph.graph.replay()
        this_step = torch.cuda.Event(blocking=True)
        this_step.record()
        if self._last_step is not None:
            self._last_step.synchronize()
        self._last_step = this_step

    def recorded(self, size: int, guided: bool) -> StepGraph:
        """The step of a batch of `size` entries."""
        key = size, guided
        if key not in self._graphs:
            self._graphs[key] = self._record(size, guided)
        return self._graphs[key]

    def _record(self, size: int, guided: bool) -> StepGraph:
        """The step of `size` entries, warmed up and recorded on the scratch row: nobody's codes change."""
        entries = entries_of([], {}, self._scratch, size).to(self._device)
        batch = Batch(entries, images=size, guided=guided)
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP_STEPS):
                self._take_step(batch)
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # thread_local: another thread may wait for a decode's event meanwhile, which is no business of ours.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            self._take_step(batch)
        return StepGraph(graph, batch)
