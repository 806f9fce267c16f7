"""Sampler: many images at once, each at its own step; equal to the naive loop of `generate.py`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from movq_core.models.maskgit import MaskGIT
from movq_core.params import SamplingParams
from movq_core.sampling.batch import Batch, bucket_for, cut, entries_of, next_codes, take_step
from movq_core.sampling.graphs import StepGraphs
from movq_core.sampling.rows import Rows, to_device

# Of one forward pass on a CPU: 16 images of 16x16 in fours take a fifth less time than at once, for what a
# layer leaves is still in the cache when the next one reads it. With fewer, products have too few rows.
CACHED_POSITIONS = 1024


class Sampler:
    """`rows` images of `prior` on its device.

    `buckets`, ascending: batches are padded to the next of them and cut at the largest, so that a device
    meets few shapes, and with one bucket a single one. None: every batch has the shape that it needs, and is
    cut where it would outgrow a CPU's cache. On CUDA a step is one graph a bucket.
    """

    def __init__(self, prior: MaskGIT, rows: int, buckets: Sequence[int] | None = None) -> None:
        self.prior = prior
        self.device = next(prior.parameters()).device
        if self.device.type == "cuda" and not buckets:
            raise ValueError("on CUDA a sampler needs buckets: a graph has a fixed shape")
        self.rows = Rows(prior.config, rows, self.device)
        self.buckets = buckets
        self._guided: dict[int, bool] = {}
        self._taken: dict[int, int] = {}
        self._riding: tuple[int, ...] | None = None
        self._batches: list[Batch] = []
        self._graphs: StepGraphs | None = None
        if self.device.type == "cuda":
            self._graphs = StepGraphs(partial(take_step, prior, self.rows), self.rows.scratch, self.device)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """On CUDA: record all graphs, rather than in the midst of somebody's request."""
        if self._graphs is not None and self.buckets is not None:
            self._graphs.warm_up(self.buckets)

    @torch.inference_mode()
    def start(
        self, row: int, class_id: int | None, params: SamplingParams, known: Tensor | None = None
    ) -> None:
        """`row` begins an image of `class_id` (None: without class), of `known` codes where it has any.

        `known` (C, H, W) on the host, `mask_code` where the image is to be made; it keeps the others.
        """
        self.rows.start(row, class_id, params, known)
        self._guided[row] = class_id is not None and params.guidance_scale != 1.0
        self._taken[row] = 0
        self._riding = None

    @torch.inference_mode()
    def step(self, rows: Sequence[int], steps: Sequence[int]) -> None:
        """Take step `steps[i]` of `rows[i]`, which must be its next.

        Nothing is written when it raises. On CUDA it may return before the step has ended.
        """
        assert [self._taken[row] for row in rows] == list(steps), "a row takes its steps in order"
        if self._riding != tuple(rows):
            self._batches = self._batches_of(rows)
            self._riding = tuple(rows)
        self._take()
        for row in rows:
            self._taken[row] += 1

    def _take(self) -> None:
        if self._graphs is not None:
            for batch in self._batches:
                self._graphs(batch)
            return
        drawn = [next_codes(self.prior, self.rows, batch) for batch in self._batches]
        for batch, codes in zip(self._batches, drawn, strict=True):  # none is written before all are drawn
            self.rows.write(batch.owner[: batch.images], codes)

    def _batches_of(self, rows: Sequence[int]) -> list[Batch]:
        if self.buckets is None:
            most = max(1, CACHED_POSITIONS // self.prior.config.grid_size**2)
            return [self._exact(run) for run in cut(rows, self._guided, most)]
        return [self._padded(run) for run in cut(rows, self._guided, self.buckets[-1])]

    def _exact(self, rows: Sequence[int]) -> Batch:
        entries = entries_of(rows, self._guided, self.rows.scratch)
        return Batch(to_device(entries, self.device), len(rows), entries.shape[1] > len(rows))

    def _padded(self, rows: Sequence[int]) -> Batch:
        assert self.buckets is not None
        guided = sum(self._guided[row] for row in rows)
        size = bucket_for(self.buckets, len(rows) + guided)
        entries = entries_of(rows, self._guided, self.rows.scratch, size)
        return Batch(to_device(entries, self.device), images=size, guided=guided > 0)

    @torch.inference_mode()
    def codes(self, rows: Sequence[int]) -> Tensor:
        """A copy (B, C, H, W), on the device, of what `rows` hold after the steps taken so far."""
        return torch.stack([self.rows.codes[row] for row in rows])

    @torch.inference_mode()
    def is_batch_invariant(self) -> bool:
        """Whether an entry's logits are equal to the bit in the smallest batch and the largest, at any place.

        Then an image does not depend on its company, on this machine.
        """
        prior = self.prior
        fewest, most = (self.buckets[0], self.buckets[-1]) if self.buckets else (1, self.rows.scratch)
        shape = (most, *self.rows.codes.shape[1:])
        codes = torch.arange(torch.Size(shape).numel(), device=self.device).view(shape) % prior.mask_code
        class_ids = torch.arange(most, device=self.device) % (prior.null_class + 1)
        together = prior(codes, class_ids)
        return all(
            bool((prior(_repeated(codes[i], fewest), _repeated(class_ids[i], fewest)) == together[i]).all())
            for i in sorted({0, 1, most // 2, most - 1} & set(range(most)))
        )


def _repeated(entry: Tensor, times: int) -> Tensor:
    """A batch of one entry `times` over."""
    return entry.expand(times, *entry.shape)
