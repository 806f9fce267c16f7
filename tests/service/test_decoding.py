"""The processes that decode: what they may, what becomes of them, and of the uploads beside them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from movq_core.errors import ImageTooLarge, InvalidImage
from service.decoding import process as decoding_process
from service.decoding.frames import Answer, BrokenFrame, read_frame
from service.decoding.pool import DecodingPool
from service.decoding.process import DecodingProcess
from service.uploads import CleanImage, Uploads
from tests.service.pictures import encoded, gradient

MAX_PIXELS = 4096 * 4096
SMALL = encoded(gradient())

Open = Callable[..., Uploads]


_OTHERS: set[int] = set()  # decoders of the whole session, which are not looked at here


@pytest.fixture
def open_uploads() -> Iterator[Open]:
    _OTHERS.update(decoders())
    pools: list[DecodingPool] = []

    def start(**changes: Any) -> Uploads:
        options = {"max_pixels": MAX_PIXELS, "max_bytes": 2**24, "timeout_s": 20, "processes": 1}
        pools.append(DecodingPool(**{**options, **changes}))
        return Uploads(pools[-1])

    yield start
    for pool in pools:
        pool.close()
    assert decoders() == set()


def decoders(parent: int | None = None) -> set[int]:
    """Process ids of the decoders that a process has."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (folder / "cmdline").read_bytes().split(b"\0")
            mine = int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == (parent or os.getpid())
            if mine and b"service.decoding" in command:
                found.add(int(folder.name))
    return found - _OTHERS


@pytest.fixture(scope="module")
def large() -> bytes:
    """It takes a second to decode."""
    noise = np.random.default_rng(0).integers(0, 256, (4000, 4000, 3), np.uint8)
    return encoded(Image.fromarray(noise), "JPEG")


def clean(uploads: Uploads, data: bytes = SMALL) -> CleanImage:
    return asyncio.run(uploads.clean(data))


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGKILL, signal.SIGXCPU])
def test_who_dies_of_an_upload_takes_nobody_along(
    open_uploads: Open, large: bytes, how: signal.Signals
) -> None:
    uploads = open_uploads(processes=2)

    async def three() -> list[object]:
        await asyncio.gather(uploads.clean(SMALL), uploads.clean(SMALL))
        begun = asyncio.ensure_future(uploads.clean(large))
        await asyncio.sleep(0.2)
        busy = max(decoders(), key=cpu_ticks)
        beside = [asyncio.ensure_future(uploads.clean(SMALL)) for _ in range(4)]
        os.kill(busy, how)
        return await asyncio.gather(begun, *beside, return_exceptions=True)

    dead, *others = asyncio.run(three())
    assert isinstance(dead, InvalidImage)
    assert str(dead) == "The image is damaged: its decoder did not survive it."
    assert all(isinstance(other, CleanImage) for other in others)
    assert clean(uploads).width == 40


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_one_that_was_killed_idle_costs_no_upload(open_uploads: Open) -> None:
    uploads = open_uploads()
    clean(uploads)
    (pid,) = decoders()
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    assert clean(uploads).width == 40


def test_who_is_late_is_killed(open_uploads: Open, large: bytes) -> None:
    uploads = open_uploads(timeout_s=1.0)
    clean(uploads)
    slow = open_uploads(timeout_s=0.05)
    with pytest.raises(InvalidImage, match=r"could not be decoded within 0\.05 s"):
        clean(slow, large)


def test_more_memory_than_a_picture_may_take(
    open_uploads: Open, large: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding_process, "BYTES_A_PIXEL", 1)
    monkeypatch.setattr(decoding_process, "BASE_MEMORY_BYTES", 200 * 2**20)
    uploads = open_uploads(max_bytes=2**20)
    with pytest.raises(ImageTooLarge, match="more memory to decode than a picture may"):
        clean(uploads, large)
    assert clean(uploads).width == 40


@pytest.mark.parametrize(
    ("mode", "image_format"), [("RGB", "JPEG"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("P", "PNG")]
)
def test_the_largest_picture_has_room(uploads: Uploads, mode: str, image_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned, which takes another copy
    options = {"compress_level": 1} if image_format == "PNG" else {}
    data = encoded(gradient(4096, 4096).convert(mode), image_format, exif=exif, **options)
    assert clean(uploads, data).width == 4096


def test_they_are_replaced_before_they_are_old(open_uploads: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_process, "WORKS", 2)
    uploads = open_uploads()
    seen = []
    for _ in range(5):
        clean(uploads)
        while not (found := decoders()):  # it is there, and not yet a decoder
            time.sleep(0.01)
        seen.append(max(found))
    assert len(set(seen)) == 3


def test_they_have_no_secret_no_file_and_bounds(open_uploads: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOVQ_WEBHOOK_SECRET", "whsec_hush")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    clean(open_uploads())
    (pid,) = decoders()
    process = Path(f"/proc/{pid}")
    with suppress(PermissionError):  # only root may look: not even its own user
        assert b"hush" not in (process / "environ").read_bytes()
        assert len(list((process / "fd").iterdir())) <= 4
    limits = (process / "limits").read_text()
    for name, value in (("Max core file size", 0), ("Max file size", 0), ("Max open files", 16)):
        assert limits.partition(name)[2].split()[:2] == [str(value)] * 2, name
    assert "unlimited" not in limits.partition("Max address space")[2].split()[:2]
    assert limits.partition("Max cpu time")[2].split()[0] != "unlimited"
    status = (process / "status").read_text()
    assert (process / "oom_score_adj").read_text() == "1000\n"
    assert "NoNewPrivs:\t1" in status
    assert int((process / "stat").read_text().rpartition(")")[2].split()[16]) == 5  # nice


def is_alive(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


_SERVICE = """
import asyncio, sys, time
from service.decoding.pool import DecodingPool
pool = DecodingPool(max_pixels=2**24, max_bytes=2**24, timeout_s=60, processes=2)
pool.start()
print("up", flush=True)
time.sleep(60)
"""


def test_they_die_with_the_service() -> None:
    """By kill -9, after which the service can tell nobody."""
    with subprocess.Popen([sys.executable, "-c", _SERVICE], stdout=subprocess.PIPE) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == b"up\n"
        give_up_at_s = time.monotonic() + 20
        while len(decoders(service.pid)) < 2 and time.monotonic() < give_up_at_s:
            time.sleep(0.05)
        children = decoders(service.pid)
        assert len(children) == 2
        time.sleep(1.5)  # until they have asked the kernel to be killed
        for pid in children:
            os.kill(pid, signal.SIGSTOP)  # amid a picture, say: they could not notice by themselves
        service.kill()
    time.sleep(0.3)
    assert not [pid for pid in children if is_alive(pid)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "has gone"),
        (b"\xff\xff\xff\xff", "a head of"),
        (b"\x02\0\0\0[]", "not a head"),
        (b'\x0f\0\0\0{"sizes": [-1]}', "parts of|not a head"),
        (b'\x18\0\0\0{"sizes": [99999999999]}', "parts of|not a head"),
        (b'\x0e\0\0\0{"sizes": [9]}abc', "has gone"),
        (b"\x80\x04\x95\x1f\0\0\0\0\0\0\0\x8c\x05posix", "a head of"),  # a pickle
    ],
)
def test_what_a_decoder_says_is_not_believed(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "said"
    path.write_bytes(data)
    with path.open("rb") as stream, pytest.raises(BrokenFrame, match=says):
        read_frame(stream, Answer, max_bytes=1000)


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        (Answer(shape=[4, 4]), [b"too few"]),
        (Answer(shape=[4, 4]), []),
        (Answer(shape=[2**20, 2**20]), [b""]),
        (Answer(shape=[-1, -1]), [b"abc"]),
        (Answer(), [b""]),
    ],
)
def test_an_answer_that_cannot_be_is_a_refusal(
    open_uploads: Open, monkeypatch: pytest.MonkeyPatch, answer: Answer, parts: list[bytes]
) -> None:
    monkeypatch.setattr(DecodingProcess, "ask", lambda *_: (answer, parts))
    with pytest.raises(InvalidImage, match="did not survive it"):
        clean(open_uploads())


def test_an_error_that_it_must_not_know_is_a_refusal(
    open_uploads: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = open_uploads()
    monkeypatch.setattr(DecodingProcess, "ask", lambda *_: (Answer(error="SystemExit", message="x"), []))
    with pytest.raises(InvalidImage, match="x"):
        clean(uploads)
