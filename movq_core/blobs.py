"""BlobStore: bytes by key, over fsspec (a folder, memory, S3)."""

from __future__ import annotations

import hashlib
import re
import uuid

import fsspec  # type: ignore[import-untyped]

from movq_core.errors import BlobNotFound, InvalidRequest

_OWNER = r"[a-z0-9][a-z0-9-]{0,31}"
_KEY = re.compile(
    rf"(images|uploads|codes|previews)/(?:(?P<owner>{_OWNER})/)?[0-9a-f]{{64}}\.(png|webp|jpeg|json)"
)


def content_key(folder: str, data: bytes, suffix: str, owner: str | None = None) -> str:
    """Key that names its content: `folder/<sha256>.<suffix>`, or `folder/<owner>/<sha256>.<suffix>`."""
    place = f"{folder}/{owner}" if owner else folder
    return f"{place}/{hashlib.sha256(data).hexdigest()}.{suffix}"


def owner_of(key: str) -> str | None:
    """Whose the blob is; None when it is everybody's. Raises InvalidRequest for what is no key."""
    if not (match := _KEY.fullmatch(key)):
        raise InvalidRequest(f"{key!r} is not a blob key")
    return match["owner"]


class BlobStore:
    """Immutable blobs under one root URL, e.g. `file:///var/lib/movq/blobs` or `memory://`.

    A blob appears whole or not at all: it is written under a temporary name and moved.
    Writing a key twice is harmless, because a key names its content.
    """

    def __init__(self, url: str) -> None:
        self._fs, root = fsspec.core.url_to_fs(url)
        self._root = str(root).rstrip("/")

    def _path(self, key: str) -> str:
        owner_of(key)  # raises
        return f"{self._root}/{key}"

    def put(self, folder: str, data: bytes, suffix: str, owner: str | None = None) -> str:
        """Store `data`; returns its key."""
        key = content_key(folder, data, suffix, owner)
        path = self._path(key)
        if self._fs.exists(path):
            return key
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
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
