"""Catalog: the bundles that are served, by name; what stands on the disk now, not when the service began."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from movq_core.errors import BundleError, InvalidRequest
from movq_core.manifest import CONFIG_FILE, LABELS_FILE, Manifest, read_manifest

EXAMPLES = "examples"
LOOK_S = 1.0  # how often the folders are looked at

log = structlog.get_logger("movq.service")


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder, and what its manifest said when it was last read."""

    folder: Path
    manifest: Manifest
    read_at: tuple[int, ...]  # modification times of the manifest's files

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def created(self) -> int:
        """When its manifest was written, in seconds since 1970."""
        return max(self.read_at) // 10**9

    def example(self, class_id: int) -> Path | None:
        """The picture that shows a class, where the bundle has one."""
        path = self.folder / EXAMPLES / f"{class_id}.png"
        return path if class_id < len(self.manifest.labels) and path.is_file() else None


class Catalog:
    """Bundles in the order of their folders; the first is the default.

    A manifest that has changed is read again; where it can no longer be read, the one known stays, and the
    log says so.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._bundles = [_read(folder) for folder in folders]  # raises BundleError
        _check_names(self._bundles)
        self._looked_s = time.monotonic()

    @property
    def bundles(self) -> Sequence[Bundle]:
        self._look()
        return self._bundles

    @property
    def default(self) -> Bundle:
        return self.bundles[0]

    def find(self, name: str) -> Bundle | None:
        return next((bundle for bundle in self.bundles if bundle.name == name), None)

    def choose(self, name: str | None) -> Bundle:
        """The bundle of this name, the default without one. Raises InvalidRequest that lists the names."""
        if name is None:
            return self.default
        if bundle := self.find(name):
            return bundle
        names = ", ".join(bundle.name for bundle in self.bundles)
        raise InvalidRequest(f"There is no model {name[:64]!r}; served are {names}.")

    def _look(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        fresh = [_refreshed(bundle) for bundle in self._bundles]
        try:
            _check_names(fresh)
        except BundleError as error:
            log.warning("the models stay as they were", reason=str(error))
        else:
            self._bundles = fresh


def _read(folder: Path) -> Bundle:
    read_at = _modified(folder)  # before it is read: a change in between is then seen
    return Bundle(folder, read_manifest(folder), read_at)


def _modified(folder: Path) -> tuple[int, ...]:
    """Times of the manifest's files; 0 for one that is not there."""
    files = (folder / CONFIG_FILE, folder / LABELS_FILE)
    return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)


def _refreshed(bundle: Bundle) -> Bundle:
    if _modified(bundle.folder) == bundle.read_at:
        return bundle
    try:
        fresh = _read(bundle.folder)
    except BundleError as error:
        log.warning("a manifest cannot be read; the old one stays", model=bundle.name, reason=str(error))
        return bundle
    log.info("a bundle was exchanged", model=fresh.name, before=bundle.name)
    return fresh


def _check_names(bundles: Sequence[Bundle]) -> None:
    names = [bundle.name for bundle in bundles]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BundleError(f"Two bundles are named {', '.join(twice)}; each needs a name of its own.")
