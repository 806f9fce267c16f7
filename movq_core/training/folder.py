"""A folder of images, or of class folders, to learn from: read once, and split."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from movq_core.training.image_file import Framing, UnreadableImage, UnusableData, image_suffixes
from movq_core.training.image_set import CachedSquares, ImageSet, LazySquares, Squares

MIN_IMAGES = 20
MIN_IMAGES_A_CLASS = 2  # one to learn from, one to hold out
MAX_HELD_OUT = 500  # enough for a figure; they are measured again and again
CACHE_BYTES = 8 << 30  # squares on disk; a folder that needs more is decoded while it trains
READ_AT_ONCE = 256

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """Image files below `root`, by name, and their class ids; `labels` is empty without classes."""

    root: Path
    files: tuple[Path, ...]
    classes: NDArray[np.int64]
    labels: tuple[str, ...]

    def fingerprint(self, framing: Framing) -> str:
        """Of names, sizes and times of change: other files, or the same seen otherwise, have another."""
        digest = hashlib.sha256(repr((framing, self.labels)).encode())
        for path in self.files:
            status = path.stat()
            entry = (path.relative_to(self.root).as_posix(), status.st_size, status.st_mtime_ns)
            digest.update(repr(entry).encode())
        return digest.hexdigest()[:16]


def list_folder(root: Path) -> Listing:
    """A folder's images, or those of its class folders; raises UnusableData that says what is wrong."""
    if not root.is_dir():
        raise UnusableData(f"{root} is not a folder.")
    loose = _image_files(root, root.glob("*"))
    labels = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if loose and labels:
        raise UnusableData(
            f"{root} holds {len(loose)} images beside {len(labels)} folders ({labels[0]}, ...): "
            "put all images into class folders, or all into one folder."
        )
    if not labels:
        return Listing(root, tuple(loose), np.zeros(len(loose), np.int64), ())
    by_class = [_image_files(root, (root / label).rglob("*")) for label in labels]
    empty = [label for label, files in zip(labels, by_class, strict=True) if not files]
    if empty:
        raise UnusableData(f"No images in the class folders {', '.join(empty)} of {root}.")
    files = tuple(path for files in by_class for path in files)
    classes = np.repeat(np.arange(len(labels)), [len(files) for files in by_class])
    return Listing(root, files, classes, tuple(labels))


def _image_files(root: Path, paths: Iterator[Path]) -> list[Path]:
    """Those with an image's suffix, sorted; nothing hidden."""
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in image_suffixes()
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    )


@dataclass(frozen=True)
class ImageFolder:
    """A folder, read: what to learn from and what to hold out; `broken` names files that were skipped."""

    labels: tuple[str, ...]
    train: ImageSet
    heldout: ImageSet
    broken: tuple[str, ...]
    fingerprint: str


def load_folder(
    root: Path,
    framing: Framing,
    cache: Path,
    heldout_share: float = 0.1,
    cache_bytes: int = CACHE_BYTES,
) -> ImageFolder:
    """Read a folder, or what `cache` remembers of it; raises UnusableData.

    Every file is read once, so that what is broken is known before training. The squares are kept in
    `cache` unless they need more than `cache_bytes`.
    """
    listing = list_folder(root)
    fingerprint = listing.fingerprint(framing)
    index = cache / "index.npz"
    if _fingerprint_of(index) != fingerprint:
        _read_all(listing, framing, cache, cache_bytes)
    with np.load(index) as data:
        readable, contents = data["readable"], data["contents"]
        broken = tuple(str(name) for name in data["broken"])
    classes = listing.classes[readable]
    check_enough(classes, contents, listing.labels, root)
    squares: Squares
    if (cache / "squares.npy").exists():
        squares = CachedSquares(np.load(cache / "squares.npy", mmap_mode="r"))
    else:
        squares = LazySquares([listing.files[i] for i in readable], framing)
    images = ImageSet(squares, framing, np.arange(len(readable)), classes, contents)
    held_out = np.isin(contents, sorted(held_out_bases(classes, contents, heldout_share)))
    train, heldout = images.select(~held_out), images.select(held_out).one_per_base()
    _check_train(train, listing.labels)
    return ImageFolder(listing.labels, train, heldout, broken, fingerprint)


def _fingerprint_of(index: Path) -> str | None:
    if not index.exists():
        return None
    with np.load(index) as data:
        return str(data["fingerprint"])


def _read_all(listing: Listing, framing: Framing, cache: Path, cache_bytes: int) -> None:
    """Write `index.npz` and, where there is room, `squares.npy` into `cache`."""
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "index.npz").unlink(missing_ok=True)  # written last: what was cut short is begun anew
    (cache / "squares.npy").unlink(missing_ok=True)
    shape = (len(listing.files), framing.side, framing.side, 3)
    kept = None
    if 0 < np.prod(shape) <= cache_bytes:
        kept = np.lib.format.open_memmap(cache / "squares.npy", mode="w+", dtype=np.uint8, shape=shape)
    readable: list[int] = []
    contents: list[str] = []
    broken: list[str] = []
    for number, outcome in enumerate(_read_each(listing.files, framing)):
        if isinstance(outcome, UnreadableImage):
            broken.append(listing.files[number].relative_to(listing.root).as_posix())
            log.warning("skipped %s: %s", broken[-1], outcome)
            continue
        content, square = outcome
        if kept is not None:
            kept[len(readable)] = square
        readable.append(number)
        contents.append(content)
    if kept is not None:
        kept.flush()
    np.savez(
        cache / "index.npz",
        fingerprint=listing.fingerprint(framing),
        readable=np.array(readable, np.int64),
        contents=np.array(contents, np.str_),
        broken=np.array(broken, np.str_),
    )


def _read_each(
    files: Sequence[Path], framing: Framing
) -> Iterator[tuple[str, NDArray[np.uint8]] | UnreadableImage]:
    """Content's digest and square of each file in order, or why it has none."""

    def read(path: Path) -> tuple[str, NDArray[np.uint8]] | UnreadableImage:
        try:
            data = path.read_bytes()
            return hashlib.sha256(data).hexdigest()[:16], framing.square(data)
        except OSError as error:
            return UnreadableImage(str(error))
        except UnreadableImage as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in track(range(0, len(files), READ_AT_ONCE), "images"):
            yield from pool.map(read, files[start : start + READ_AT_ONCE])


def check_enough(
    classes: NDArray[np.int64], contents: NDArray[np.str_], labels: tuple[str, ...], root: Path
) -> None:
    """Raises UnusableData that says how many different images there are and how many are needed."""
    total = len(np.unique(contents))
    if total < MIN_IMAGES:
        raise UnusableData(
            f"{root} has {total} different images that can be read; at least {MIN_IMAGES} are needed, "
            "and hundreds a class for images worth looking at."
        )
    for class_id, label in enumerate(labels):
        count = len(np.unique(contents[classes == class_id]))
        if count < MIN_IMAGES_A_CLASS:
            raise UnusableData(
                f"The class {label!r} has {count} different images that can be read; at least "
                f"{MIN_IMAGES_A_CLASS} are needed: one to learn from, one to hold out."
            )


def held_out_bases(classes: NDArray[np.int64], bases: NDArray[np.str_], share: float) -> set[str]:
    """Those of each class that come first by content: no order of files and no copy changes their side."""
    ids = np.unique(classes)
    most = max(1, MAX_HELD_OUT // len(ids))
    held_out: set[str] = set()
    for class_id in ids:
        ordered = np.unique(bases[classes == class_id])
        count = min(most, max(1, round(share * len(ordered))))
        held_out.update(str(base) for base in ordered[:count])
    return held_out


def _check_train(train: ImageSet, labels: tuple[str, ...]) -> None:
    """A class may be all copies of what other classes hold out."""
    missing = set(range(len(labels))) - set(train.classes.tolist())
    if missing:
        names = ", ".join(labels[class_id] for class_id in sorted(missing))
        raise UnusableData(f"All images of {names} are copies of other classes' held-out images.")
