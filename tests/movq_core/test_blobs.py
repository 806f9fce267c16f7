"""Blobs: content-named, whole or absent, never outside their folder."""

import hashlib

import pytest

from movq_core.blobs import BlobStore
from movq_core.errors import BlobNotFound, InvalidRequest


@pytest.fixture(params=["file", "memory"])
def blobs(request, tmp_path):
    return BlobStore(f"file://{tmp_path}" if request.param == "file" else f"memory://{tmp_path}")


def test_put_and_get(blobs):
    key = blobs.put("images", b"bytes", "png")
    assert key == f"images/{hashlib.sha256(b'bytes').hexdigest()}.png"
    assert blobs.get(key) == b"bytes"
    assert blobs.put("images", b"bytes", "png") == key


def test_leaves_no_partial_file(tmp_path):
    BlobStore(f"file://{tmp_path}").put("images", b"bytes", "png")
    assert [p.suffix for p in tmp_path.rglob("*") if p.is_file()] == [".png"]


def test_missing(blobs):
    with pytest.raises(BlobNotFound):
        blobs.get(f"images/{'0' * 64}.png")


@pytest.mark.parametrize("key", ["../etc/passwd", "images/../x.png", "/etc/passwd", "images/a.png", ""])
def test_only_keys_of_ours_are_looked_up(blobs, key):
    with pytest.raises(InvalidRequest):
        blobs.get(key)
