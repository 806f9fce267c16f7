"""BlobStore: bytes by key, over fsspec (a folder, memory, S3)."""

from __future__ import annotations

import hashlib
import re
import uuid

import fsspec  # type: ignore[import-untyped]

from movq_core.errors import BlobNotFound, InvalidRequest

_KEY = re.compile(r"(images|uploads|codes)/[0-9a-f]{64}\.(png|webp|jpeg|json)")


def content_key(folder: str, data: bytes, suffix: str) -> str:
    """Key that names its content: `folder/<sha256>.<suffix>`."""
    return f"{folder}/{hashlib.sha256(data).hexdigest()}.{suffix}"


class BlobStore:
    """Immutable blobs under one root URL, e.g. `file:///var/lib/movq/blobs` or `memory://`.

    A blob appears whole or not at all: it is written under a temporary name and moved.
    Writing a key twice is harmless, because a key names its content.
    """

    def __init__(self, url: str) -> None:
        self._fs, root = fsspec.core.url_to_fs(url)
        self._root = str(root).rstrip("/")

    def _path(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise InvalidRequest(f"{key!r} is not a blob key")
        return f"{self._root}/{key}"

    def put(self, folder: str, data: bytes, suffix: str) -> str:
        """Store `data`; returns its key."""
        key = content_key(folder, data, suffix)
        path = self._path(key)
        if self._fs.exists(path):
            return key
        self._fs.makedirs(f"{self._root}/{folder}", exist_ok=True)
        temporary = f"{path}.{uuid.uuid4().hex}.part"
        self._fs.pipe_file(temporary, data)
        self._fs.mv(temporary, path)
        return key

    def get(self, key: str) -> bytes:
        """The bytes under `key`; raises BlobNotFound."""
        try:
            data: bytes = self._fs.cat_file(self._path(key))
        except FileNotFoundError as error:
            raise BlobNotFound(f"no blob {key}") from error
        return data
