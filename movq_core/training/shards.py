"""Shards: tar files in WebDataset's layout, read in sequence, in an order that can be taken up anywhere.

A sample is an image and, where there are classes, its class id: `000123.jpg` and `000123.cls`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tarfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import webdataset as wds  # type: ignore[import-untyped]
from numpy.typing import NDArray
from torch import Tensor
from webdataset.shardlists import expand_urls  # type: ignore[import-untyped]
from webdataset.tariterators import (  # type: ignore[import-untyped]
    base_plus_ext,
    group_by_keys,
    tar_file_expander,
)

from movq_core.training.data import Crops, Versions, versions_of
from movq_core.training.image_file import Framing, UnreadableImage, UnusableData, image_suffixes

Sample = dict[str, Any]  # "__key__", "__url__", and bytes by suffix

STAND_INS = 8  # more broken images in a row than this are no accident

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shards:
    """Tar files and the number of samples in each (N,)."""

    files: tuple[Path, ...]
    sizes: NDArray[np.int64]
    framing: Framing

    @classmethod
    def open(cls, pattern: str, framing: Framing) -> Shards:
        """Local files by WebDataset's notation, `train-{000..099}.tar`; raises UnusableData.

        Only the headers are read, to count: the position in a run can then be found without reading it all.
        """
        files = tuple(Path(name) for name in expand_urls(pattern))
        missing = [str(path) for path in files if not path.is_file()]
        if missing:
            raise UnusableData(f"{len(missing)} of {len(files)} shards are not there: {missing[0]}, ...")
        sizes = np.array([count_samples(path) for path in files], np.int64)
        if not sizes.all():
            raise UnusableData(f"The shard {files[int(sizes.argmin())]} holds no samples.")
        return cls(files, sizes, framing)

    def read(self, order: NDArray[np.int64], buffer: int = 0, seed: int = 0) -> Iterator[Sample]:
        """The samples of the shards in `order`, shuffled in a buffer of so many where there is one."""
        samples = (sample for index in order for sample in read_shard(self.files[index]))
        return iter(wds.shuffle(buffer, initial=buffer, seed=seed)(samples)) if buffer > 1 else samples

    def versions(
        self, number: int, flip: bool = False, rng: np.random.Generator | None = None, at_once: int = 64
    ) -> Iterator[Versions]:
        """Each image in `number` versions, in the shards' order: its middle, then random crops of it."""
        rng = rng or np.random.default_rng(0)
        readable = self._readable()
        while part := list(islice(readable, at_once)):
            squares = np.stack([square for square, _, _ in part])
            pixels = versions_of(squares, self.framing.size, number, flip, rng)
            classes = np.array([class_id for _, class_id, _ in part], np.int64)
            yield Versions(pixels, classes, np.array([content for _, _, content in part]))

    def _readable(self) -> Iterator[tuple[NDArray[np.uint8], int, str]]:
        """Square, class id (0 without classes) and digest of each image; what is broken is logged."""
        with_classes: bool | None = None
        for sample in self.read(np.arange(len(self.files))):
            with_classes = "cls" in sample if with_classes is None else with_classes
            if with_classes != ("cls" in sample):
                raise UnusableData(f"Some samples have a .cls and some have none: {name_of(sample)}.")
            try:
                data = image_of(sample)
                square = self.framing.square(data)
            except UnreadableImage as error:
                log.warning("skipped %s: %s", name_of(sample), error)
                continue
            yield square, int(sample.get("cls", 0)), hashlib.sha256(data).hexdigest()[:16]


def read_shard(path: Path) -> Iterator[Sample]:
    """The samples of one tar file. WebDataset's own opener leaves the files open; this one closes them."""
    with path.open("rb") as stream:
        yield from group_by_keys(tar_file_expander(iter([{"url": str(path), "stream": stream}])))


def count_samples(path: Path) -> int:
    """Samples in a shard: neighbours of one key are one sample."""
    with tarfile.open(path) as tar:
        keys = [base_plus_ext(member.name)[0] for member in tar if member.isreg()]
    return sum(key is not None and key != before for before, key in zip([None, *keys], keys, strict=False))


def image_of(sample: Sample) -> bytes:
    """Bytes of the sample's image; raises UnreadableImage where there is none."""
    for suffix, data in sample.items():
        if f".{suffix}" in image_suffixes():
            return bytes(data)
    raise UnreadableImage(f"no image among {', '.join(s for s in sample if not s.startswith('__'))}")


def name_of(sample: Sample) -> str:
    return f"{sample['__url__']}:{sample['__key__']}"


class Lane:
    """An endless stream of samples: in epoch e every `lanes`-th shard of e's order, from `lane` on.

    What it holds at a position depends on nothing else, so that ranks may share the lanes out as they like.
    """

    def __init__(self, shards: Shards, lane: int, lanes: int, seed: int, buffer: int) -> None:
        self._shards, self._lane, self._lanes = shards, lane, lanes
        self._seed, self._buffer = seed, buffer
        self._ahead: deque[Sample] = deque()
        self._samples: Iterator[Sample] | None = None
        self.position = 0

    def seek(self, position: int) -> None:
        """Go on to the sample at `position`; whole epochs are stepped over unread, nothing is decoded."""
        if self._samples is None:
            self._samples, self.position = self._from(position), position
        while self.position < position:
            self.next()

    def next(self) -> Sample:
        self.peek(0)
        self.position += 1
        return self._ahead.popleft()

    def peek(self, offset: int) -> Sample:
        """The sample so many after the next, which stays where it is."""
        assert self._samples is not None, "seek comes first"
        while len(self._ahead) <= offset:
            self._ahead.append(next(self._samples))
        return self._ahead[offset]

    def _from(self, position: int) -> Iterator[Sample]:
        epoch = 0
        while position >= (size := int(self._shards.sizes[self._order(epoch)].sum())):
            position, epoch = position - size, epoch + 1
        for e in count(epoch):
            seed = self._seed + e * self._lanes + self._lane
            yield from islice(self._shards.read(self._order(e), self._buffer, seed), position, None)
            position = 0

    def _order(self, epoch: int) -> NDArray[np.int64]:
        shuffled = np.random.default_rng([self._seed, epoch]).permutation(len(self._shards.files))
        return shuffled[self._lane :: self._lanes]


class ShardBatches:
    """Batches for the tokenizer out of shards: a few rows of each batch from each lane.

    A rank reads the lanes of its own rows only. The position is the number of batches drawn, the same on
    every rank. An image that is broken is logged once, and the lane's next one stands in for it.
    """

    def __init__(
        self, shards: Shards, batch_size: int, seed: int = 0, shuffle: int = 2000, flip: bool = True
    ) -> None:
        """`shuffle` is the number of samples, undecoded, that wait in all lanes' buffers together."""
        self.batch_size = batch_size
        self._shards, self._flip, self._seed, self._shuffle = shards, flip, seed, shuffle
        self._lanes = self._new_lanes()
        self._rows_a_lane = batch_size // len(self._lanes)
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._drawn = 0
        self.broken: set[str] = set()

    def draw(self, rng: np.random.Generator, part: slice = slice(None)) -> Tensor:
        """Rows `part` of the next batch: (n, 3, size, size) in [-1, 1]."""
        framing = self._shards.framing
        crops = Crops.draw(self.batch_size, framing.room, self._flip, rng)
        rows = range(self.batch_size)[part]
        squares = list(self._pool.map(self._square, self._samples(rows)))
        self._drawn += 1
        return crops[part].of(np.stack(squares), framing.size)

    def _new_lanes(self) -> list[Lane]:
        """As many as divide the batch and as there are shards for."""
        size, files = self.batch_size, len(self._shards.files)
        lanes = max(n for n in range(1, size + 1) if size % n == 0 and n <= files)
        return [Lane(self._shards, i, lanes, self._seed, self._shuffle // lanes) for i in range(lanes)]

    def _samples(self, rows: range) -> list[list[Sample]]:
        """For each row its sample, and after it those that may stand in for it."""
        chosen = []
        for row in rows:
            lane = self._lanes[row // self._rows_a_lane]
            lane.seek(self._drawn * self._rows_a_lane + row % self._rows_a_lane)
            chosen.append([lane.peek(offset) for offset in range(1 + STAND_INS)])
        return chosen

    def _square(self, samples: list[Sample]) -> NDArray[np.uint8]:
        for sample in samples:
            try:
                return self._shards.framing.square(image_of(sample))
            except UnreadableImage as error:
                self._report(sample, error)
        raise UnusableData(f"{len(samples)} broken images in a row, from {name_of(samples[0])} on.")

    def _report(self, sample: Sample, error: UnreadableImage) -> None:
        name = name_of(sample)
        if name not in self.broken:
            self.broken.add(name)
            log.warning("skipped %s: %s (%d so far)", name, error, len(self.broken))

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self._drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._drawn = state["drawn"]
        self._lanes = self._new_lanes()
