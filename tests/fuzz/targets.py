"""Targets: what reads bytes of others. Each may raise errors of our tree, and nothing else."""

from __future__ import annotations

import shutil
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from movq_core.bundle import ModelBundle
from movq_core.codec import Codec
from movq_core.edit_area import mask_of
from movq_core.errors import MovqError
from movq_core.manifest import read_manifest
from movq_core.movq_file import MovqFile
from movq_core.public_weights import read_public_weights
from service.decoding.pictures import decoded_rgb, opened
from worker.fakes import TINY
from worker.pool import read_codes

MAX_PIXELS = 2**18  # of pictures, so that each is quick
FINGERPRINT = "0123456789ab"  # of the codec's bundle, in the corpus' files too


def image(data: bytes) -> None:
    """An upload."""
    decoded_rgb(data, MAX_PIXELS)


def mask(data: bytes) -> None:
    """An edit's mask."""
    with opened(data, MAX_PIXELS) as picture:
        mask_of(picture, picture.size)


def movq(data: bytes) -> None:
    """A `.movq` file, as it is, and with a checksum that fits: the coverage behind it is what matters."""
    body = data[:-4]
    for candidate in (data, body + zlib.crc32(body).to_bytes(4, "little")):
        with suppress(MovqError):
            file = MovqFile.from_bytes(candidate)
            if file.height * file.width <= MAX_PIXELS:  # larger ones take their time, and may
                _codec().codes_in(file)


def codes(data: bytes) -> None:
    """A document of codes, as the worker reads it."""
    read_codes(data)


def manifest(data: bytes) -> None:
    """A bundle's two JSON files, with a zero byte between."""
    config, _, labels = data.partition(b"\0")
    with tempfile.TemporaryDirectory(dir=_memory()) as name:
        folder = Path(name)
        (folder / "config.json").write_bytes(config)
        (folder / "labels.json").write_bytes(labels or b"[]")
        read_manifest(folder)
        ModelBundle.load(folder)  # whose models are built before their weights are missed


def weights(data: bytes) -> None:
    """A bundle's weights."""
    with tempfile.TemporaryDirectory(dir=_memory()) as name:
        folder = shutil.copytree(_tiny(), Path(name) / "bundle")
        (folder / "movq.safetensors").write_bytes(data)
        ModelBundle.load(folder)


def public(data: bytes) -> None:
    """Somebody else's checkpoint, which may be a pickle."""
    with tempfile.TemporaryDirectory(dir=_memory()) as name:
        for suffix in ("safetensors", "ckpt"):
            path = Path(name) / f"model.{suffix}"
            path.write_bytes(data)
            with suppress(MovqError):
                read_public_weights(path)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (image, mask, movq, codes, manifest, weights, public)
}


def attack(target: Callable[[bytes], None], data: bytes) -> None:
    """What is not an error of our tree passes: it is a finding."""
    with suppress(MovqError):
        target(data)


@cache
def _codec() -> Codec:
    return Codec(ModelBundle.random(TINY), FINGERPRINT)


@cache
def _tiny() -> Path:
    folder = Path(tempfile.mkdtemp(dir=_memory())) / "tiny"
    ModelBundle.random(TINY).save(folder)
    return folder


def _memory() -> str | None:
    """A folder in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
