"""BlobStore: bytes by key, over fsspec (a folder, memory, S3)."""

from __future__ import annotations

import hashlib
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import fsspec  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from movq_core.errors import BlobNotFound, BlobStoreUnavailable, InvalidRequest, MovqError

_OWNER = r"[a-z0-9][a-z0-9-]{0,31}"
_KEY = re.compile(
    rf"(images|uploads|codes|previews)/(?:(?P<owner>{_OWNER})/)?[0-9a-f]{{64}}\.(png|webp|jpeg|json)"
)
_UNFINISHED = re.compile(rf"{_KEY.pattern}\.[0-9a-f]{{32}}\.part")
# fsspec's names of stores where an object is there whole or not at all, and there are no folders to make.
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"})
FOLDERS = ("images", "uploads", "codes", "previews")
_WRITTEN_AT = ("mtime", "LastModified", "last_modified", "updated", "created")  # as fsspec's systems say it


def content_key(folder: str, data: bytes, suffix: str, owner: str | None = None) -> str:
    """Key that names its content: `folder/<sha256>.<suffix>`, or `folder/<owner>/<sha256>.<suffix>`."""
    place = f"{folder}/{owner}" if owner else folder
    return f"{place}/{hashlib.sha256(data).hexdigest()}.{suffix}"


def owner_of(key: str) -> str | None:
    """Whose the blob is; None when it is everybody's. Raises InvalidRequest for what is no key."""
    if not (match := _KEY.fullmatch(key)):
        raise InvalidRequest(f"{key!r} is not a blob key")
    return match["owner"]


def keys_in(text: str) -> Iterator[str]:
    """Every blob key that stands in a text, such as a job's record."""
    return (match.group() for match in _KEY.finditer(text))


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of the store. `name`: a key, or where a write was cut off, a key and the rest of its name."""

    name: str
    size_bytes: int
    written_at_s: float  # seconds since 1970, by the store's own clock

    @property
    def folder(self) -> str:
        return self.name.partition("/")[0]

    @property
    def is_blob(self) -> bool:
        return _KEY.fullmatch(self.name) is not None


class BlobStore:
    """Blobs under one root URL, e.g. `file:///var/lib/movq/blobs` or `memory://`; their bytes never change.

    A blob appears whole or not at all: where the store does not see to that, it is written under a temporary
    name and moved. Writing a key twice is harmless, because a key names its content; it makes the blob young
    again. All that asks the store raises BlobStoreUnavailable when it is away, or refuses.
    """

    def __init__(self, url: str) -> None:
        # What a store has told of its files is not believed a second time: other processes write there.
        self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self._root = str(root).rstrip("/")
        self._is_object_store = fsspec.utils.get_protocol(url) in _OBJECT_STORES

    def _path(self, key: str) -> str:
        owner_of(key)  # raises
        return f"{self._root}/{key}"

    def put(self, folder: str, data: bytes, suffix: str, owner: str | None = None) -> str:
        """Store `data`; returns its key. It is written even if it is there: its age counts from now on."""
        key = content_key(folder, data, suffix, owner)
        path = self._path(key)
        with _outages():
            if self._is_object_store:
                self._fs.pipe_file(path, data)
            else:
                self._write_aside(path, data)
        return key

    def _write_aside(self, path: str, data: bytes) -> None:
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        temporary = f"{path}.{uuid.uuid4().hex}.part"
        try:
            self._fs.pipe_file(temporary, data)
            self._fs.mv(temporary, path)
        except BaseException:
            with suppress(Exception):  # a full disk keeps what fitted
                self._fs.rm_file(temporary)
            raise

    def get(self, key: str) -> bytes:
        """The bytes under `key`; raises BlobNotFound."""
        path = self._path(key)
        with _outages():
            try:
                data: bytes = self._fs.cat_file(path)
            except FileNotFoundError as error:
                raise BlobNotFound(f"no blob {key}") from error
        return data

    def free_bytes(self) -> int | None:
        """What may still be written, where the store is a folder; None elsewhere, and before there is one."""
        if not isinstance(self._fs, LocalFileSystem):
            return None
        try:
            return shutil.disk_usage(self._root).free
        except FileNotFoundError:
            return None

    def files(self) -> Iterator[StoredFile]:
        """All that was ever put and is there still, folder by folder: one is held in memory at a time."""
        for folder in FOLDERS:
            with _outages():
                found = self._fs.find(f"{self._root}/{folder}", detail=True)
            for path, info in found.items():
                name = path.removeprefix(f"{self._root}/")
                if _KEY.fullmatch(name) or _UNFINISHED.fullmatch(name):
                    yield StoredFile(name, info["size"], _written_at_s(info))

    def now_s(self) -> float:
        """The time by the clock that dates the files; it need not be ours."""
        path = f"{self._root}/clock"
        with _outages():
            if not self._is_object_store:
                self._fs.makedirs(self._root, exist_ok=True)
            self._fs.touch(path)
            return _written_at_s(self._fs.info(path))

    def remove(self, file: StoredFile) -> bool:
        """Remove a file, unless it has gone or was written anew meanwhile; whether it was removed.

        Raises ValueError for a name that `put` does not give.
        """
        if not file.is_blob and not _UNFINISHED.fullmatch(file.name):
            raise ValueError(f"{file.name!r} is no file of this store")
        path = f"{self._root}/{file.name}"
        with _outages():
            try:
                # Some stores tell parts of a second in one answer and not in another.
                if int(_written_at_s(self._fs.info(path))) > int(file.written_at_s):
                    return False
                self._fs.rm_file(path)
            except FileNotFoundError:
                return False
        return True


@contextmanager
def _outages() -> Iterator[None]:
    """The store away, full or refusing, in our words. A bucket that is not there is that, too."""
    try:
        yield
    except MovqError:
        raise
    except Exception as error:
        raise BlobStoreUnavailable(
            "The store of images cannot be reached, is full or refuses. Try again shortly."
        ) from error


def _written_at_s(info: dict[str, Any]) -> float:
    """Seconds since 1970; raises OSError for a file system that does not tell."""
    for name in _WRITTEN_AT:
        match info.get(name):
            case datetime() as moment:
                return moment.timestamp()
            case int() | float() as seconds:
                return float(seconds)
    raise OSError(f"this file system does not tell when {info['name']} was written")
