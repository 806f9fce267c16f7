"""Blobs: content-named, whole or absent, never outside their folder."""

import hashlib
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from movq_core.blobs import BlobStore
from movq_core.errors import BlobNotFound, BlobStoreUnavailable, InvalidRequest
from tests.conftest import free_port


@pytest.fixture(params=["file", "memory", "s3"])
def blobs(request, tmp_path):
    if request.param == "s3":
        return BlobStore(f"{request.getfixturevalue('s3_url')}{tmp_path}")
    return BlobStore(f"{request.param}://{tmp_path}")


def test_put_and_get(blobs):
    key = blobs.put("images", b"bytes", "png")
    assert key == f"images/{hashlib.sha256(b'bytes').hexdigest()}.png"
    assert blobs.get(key) == b"bytes"
    assert blobs.put("images", b"bytes", "png") == key


def test_leaves_no_partial_file(tmp_path):
    BlobStore(f"file://{tmp_path}").put("images", b"bytes", "png")
    assert [p.suffix for p in tmp_path.rglob("*") if p.is_file()] == [".png"]


def test_a_store_that_is_full_or_read_only_is_no_bug(tmp_path):
    (tmp_path / "images").write_text("a file, where a folder must be")
    with pytest.raises(BlobStoreUnavailable, match="store of images"):
        BlobStore(f"file://{tmp_path}").put("images", b"bytes", "png")


def test_a_write_that_was_cut_short_leaves_nothing(tmp_path):
    """Here a file may not be longer than 1,000 bytes, as on a disk that is nearly full."""
    blobs = BlobStore(str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(BlobStoreUnavailable):
            blobs.put("images", b"." * 5000, "png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert blobs.get(blobs.put("images", b"." * 5000, "png")) == b"." * 5000


def test_an_object_is_put_at_once_and_no_bucket_is_made(s3_url):
    store = BlobStore(f"{s3_url}/at-once")
    store.put("images", b"bytes", "png")
    assert [file.is_blob for file in store.files()] == [True]
    missing = BlobStore("s3://no-such-bucket")
    with pytest.raises(BlobStoreUnavailable):
        missing.put("images", b"bytes", "png")


def test_s3_away(s3_url, monkeypatch):
    nowhere, at_once = f"http://127.0.0.1:{free_port()}", {"retries": {"max_attempts": 0}}
    fs = fsspec.filesystem("s3", endpoint_url=nowhere, config_kwargs=at_once)
    store = BlobStore(s3_url)
    monkeypatch.setattr(store, "_fs", fs)
    monkeypatch.setattr(fs, "retries", 1)  # both are patient: ten seconds
    with pytest.raises(BlobStoreUnavailable):
        store.put("images", b"bytes", "png")
    with pytest.raises(BlobStoreUnavailable):
        store.get(f"images/{'0' * 64}.png")


def test_missing(blobs):
    with pytest.raises(BlobNotFound):
        blobs.get(f"images/{'0' * 64}.png")


@pytest.mark.parametrize("key", ["../etc/passwd", "images/../x.png", "/etc/passwd", "images/a.png", ""])
def test_only_keys_of_ours_are_looked_up(blobs, key):
    with pytest.raises(InvalidRequest):
        blobs.get(key)


def test_files_are_told_with_their_ages(blobs):
    key = blobs.put("codes", b"bytes", "json", owner="anna")
    (file,) = blobs.files()
    assert (file.name, file.size_bytes, file.folder, file.is_blob) == (key, 5, "codes", True)
    assert abs(file.written_at_s - blobs.now_s()) < 10


def test_a_file_is_removed_once_and_only_as_it_was_seen(blobs):
    blobs.put("images", b"bytes", "png")
    (file,) = blobs.files()
    seen_before = replace(file, written_at_s=file.written_at_s - 100)
    assert not blobs.remove(seen_before), "it was put again since"
    assert blobs.remove(file)
    assert not blobs.remove(file)
    assert not list(blobs.files())
    with pytest.raises(ValueError, match="no file of this store"):
        blobs.remove(replace(file, name="images/../secret.png"))


def test_free_space_is_told_of_a_folder_only(tmp_path: Path) -> None:
    assert BlobStore(str(tmp_path / "not-yet")).free_bytes() is None
    free_bytes = BlobStore(str(tmp_path)).free_bytes()
    assert free_bytes is not None
    assert 0 < free_bytes <= shutil.disk_usage(tmp_path).total
    assert BlobStore("memory://free").free_bytes() is None
