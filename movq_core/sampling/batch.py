"""Batch: who rides in one step; and the step itself, the same on every device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from movq_core.models.maskgit import MaskGIT
from movq_core.sampling.guidance import guide
from movq_core.sampling.rows import Rows
from movq_core.sampling.step import unmask_step


@dataclass(frozen=True)
class Batch:
    """The entries of one forward pass: images, then a twin without class for each guided one, then padding.

    `entries` (3, B) int64 on the device:
    `row` is whose codes an entry reads; `owner` the row that gives its class and takes its new codes, which
    for a twin and for padding is the scratch row; `pair` the entry of its twin, or itself.
    `images` counts the leading entries to be sampled: all of B in a padded batch, whose shape alone must say
    what is to be done. `guided` is whether anybody has a twin.
    """

    entries: Tensor
    images: int
    guided: bool

    @property
    def row(self) -> Tensor:
        return self.entries[0]

    @property
    def owner(self) -> Tensor:
        return self.entries[1]

    @property
    def pair(self) -> Tensor:
        return self.entries[2]


def entries_of(
    rows: Sequence[int], guided: Mapping[int, bool], scratch: int, size: int | None = None
) -> Tensor:
    """Entries (3, B), on the host, of `rows`; padded to `size` of them when it is given."""
    twins = [place for place, row in enumerate(rows) if guided[row]]
    used = len(rows) + len(twins)
    padding = [scratch] * ((size or used) - used)
    pair = list(range(used + len(padding)))
    for twin, place in enumerate(twins, start=len(rows)):
        pair[place] = twin
    row = [*rows, *(rows[place] for place in twins), *padding]
    owner = [*rows, *[scratch] * len(twins), *padding]
    return torch.tensor([row, owner, pair])


def next_codes(prior: MaskGIT, rows: Rows, batch: Batch) -> Tensor:
    """Codes (B, C, H, W) of every image of `batch` after its next step: forward, guidance, `unmask_step`.

    Tensors only: on CUDA no shape depends on a value and the host waits for nothing, so it can be recorded.
    """
    codes = rows.codes[batch.row]  # (B, C, H, W)
    logits = prior(codes, rows.fields.class_id[batch.owner])  # (B, C, H, W, K)
    owner = batch.owner[: batch.images]
    if batch.guided:
        # Whoever has no twin is guided by itself: x + s * (x - x) is x to the bit.
        conditional, unconditional = logits[: batch.images], logits[batch.pair[: batch.images]]
        logits = guide(conditional.float(), unconditional.float(), rows.guidance_scale(owner))
    return unmask_step(logits, codes[: batch.images], prior.mask_code, rows.step_rows(owner))


def take_step(prior: MaskGIT, rows: Rows, batch: Batch) -> None:
    """The next step of every image of `batch`; the rows are written last."""
    rows.write(batch.owner[: batch.images], next_codes(prior, rows, batch))


def bucket_sizes(most: int) -> tuple[int, ...]:
    """1, 2, 3, 4, 6, 8, 12, 16, ... `most`: at most a third of a padded batch is padding."""
    powers = [2**k for k in range(most.bit_length())]
    sizes = {size for power in powers for size in (power, power * 3 // 2)}
    return (*sorted(size for size in sizes if size < most), most)


def bucket_for(buckets: Sequence[int], entries: int) -> int:
    """The smallest bucket that holds `entries`."""
    return next(size for size in buckets if size >= entries)


def cut(rows: Sequence[int], guided: Mapping[int, bool], most: int) -> Iterator[list[int]]:
    """`rows` in runs of at most `most` entries each; a guided row and its twin stay together."""
    run: list[int] = []
    for row in rows:
        if run and sum(1 + guided[r] for r in [*run, row]) > most:
            yield run
            run = []
        run.append(row)
    if run:
        yield run
