"""Sweep: one walk through the blob store, in which what nobody needs is removed, the oldest first."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from movq_core.blobs import BlobStore, StoredFile
from service.retention.records import JobRecords, Needs
from service.retention.settings import RetentionSettings

BATCH = 10_000  # files that are looked for in the jobs' records together
CHUNK = 100  # files removed between two calls of `go_on`
AT_ONCE = 8  # S3 takes some milliseconds for each


@dataclass
class Tally:
    """Files and their bytes, by folder or by reason."""

    files: Counter[str] = field(default_factory=Counter)
    size_bytes: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, file: StoredFile, sign: int = 1) -> None:
        self.files[name] += sign
        self.size_bytes[name] += sign * file.size_bytes


class Sweep:
    """First what is old goes, then what there is no room for.

    `go_on` is called now and then, and may raise to end the sweep. What was done until then, and what was in
    the store, is in `removed` (by reason) and `stored` (by folder).
    """

    def __init__(
        self, blobs: BlobStore, records: JobRecords, settings: RetentionSettings, go_on: Callable[[], None]
    ) -> None:
        self.removed, self.stored = Tally(), Tally()
        self._blobs, self._records, self._settings, self._go_on = blobs, records, settings, go_on
        self._begun_s = blobs.now_s()

    def run(self) -> None:
        """Raises redis.RedisError, and BlobStoreUnavailable."""
        self._by_age()
        max_bytes = self._settings.max_blobs_bytes
        while max_bytes is not None and (excess := self.stored.size_bytes.total() - max_bytes) > 0:
            if not self._by_size(excess):
                return

    def _by_age(self) -> None:
        """All is counted, and goes when it is older than it may be and named by no record."""
        aged = filter(self._is_aged, self._counted())
        while batch := list(islice(aged, BATCH)):
            needs = self._needs(batch)
            young_s = self._young_s(needs)
            named = needs.of_open | needs.of_ended
            self._remove(f for f in batch if f.name not in named and f.written_at_s < young_s)

    def _by_size(self, excess_bytes: int) -> bool:
        """The oldest go, those of ended jobs last; whether any went."""
        old = (file for file in self._blobs.files() if file.written_at_s < self._young_s(Needs()))
        batch = heapq.nsmallest(BATCH, old, key=lambda file: file.written_at_s)
        needs = self._needs(batch)
        young_s = self._young_s(needs)
        spare = [f for f in batch if f.name not in needs.of_open and f.written_at_s < young_s]
        spare.sort(key=lambda file: (file.name in needs.of_ended, file.written_at_s))
        return self._remove(_first(spare, excess_bytes), reason="size") > 0

    def _counted(self) -> Iterator[StoredFile]:
        for number, file in enumerate(self._blobs.files()):
            if number % BATCH == 0:
                self._go_on()
            self.stored.add(file.folder, file)
            yield file

    def _is_aged(self, file: StoredFile) -> bool:
        settings = self._settings
        if not file.is_blob:
            keep_s = settings.retention_grace_s
        elif file.folder == "previews":
            keep_s = settings.preview_age_s
        else:
            keep_s = settings.keep_blobs_s
        return file.written_at_s < self._begun_s - keep_s

    def _needs(self, files: Sequence[StoredFile]) -> Needs:
        running_since_s = self._begun_s - self._settings.keep_blobs_s
        return self._records.needs({file.name for file in files}, running_since_s, self._go_on)

    def _young_s(self, needs: Needs) -> float:
        """What was written since may be on its way into a record: of a job's input, or of its output."""
        return min(self._begun_s, needs.begun_at_s) - self._settings.retention_grace_s

    def _remove(self, files: Iterable[StoredFile], reason: str = "age") -> int:
        """How many went."""
        files, before = iter(files), self.removed.files.total()
        with ThreadPoolExecutor(AT_ONCE, "remover") as threads:
            while chunk := list(islice(files, CHUNK)):
                self._go_on()
                for file, has_gone in zip(chunk, threads.map(self._blobs.remove, chunk), strict=True):
                    if has_gone:
                        self.removed.add(reason if file.is_blob else "unfinished", file)
                        self.stored.add(file.folder, file, sign=-1)
        return self.removed.files.total() - before


def _first(files: Iterable[StoredFile], size_bytes: int) -> Iterator[StoredFile]:
    """As many of them as come to `size_bytes`, or a little more."""
    for file in files:
        if size_bytes <= 0:
            return
        size_bytes -= file.size_bytes
        yield file
