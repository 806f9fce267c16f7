"""`python -m tests.fuzz.seeds`: writes the seeds of the corpus, small files of every kind that is taken."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from movq_core.bundle import ModelBundle
from movq_core.codec import Codec
from movq_core.models.movq import MoVQ
from tests.fuzz.targets import FINGERPRINT
from tests.service.pictures import animated, encoded, gradient, srgb_profile
from worker.fakes import TINY

CORPUS = Path(__file__).parent / "corpus"


def pictures() -> Iterator[tuple[str, bytes]]:
    small, exif = gradient(12, 9), Image.Exif()
    exif[0x0112] = 6
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        picture = small.convert("L") if mode == "I;16" else small
        yield f"png-{mode.replace(';', '')}", encoded(picture.convert(mode))
    yield "png-profile", encoded(small, icc_profile=srgb_profile())
    yield "png-animated", animated("PNG")
    for name, options in (
        ("jpeg", {}),
        ("jpeg-progressive", {"progressive": True}),
        ("jpeg-exif", {"exif": exif}),
    ):
        yield name, encoded(small, "JPEG", **options)
    yield "jpeg-cmyk", encoded(small.convert("CMYK"), "JPEG")
    yield "mpo", encoded(small, "MPO", save_all=True, append_images=[small])
    yield "webp", encoded(small, "WEBP", exif=exif)
    yield "webp-lossless", encoded(small.convert("RGBA"), "WEBP", lossless=True)
    yield "webp-animated", animated("WEBP")


def movq_files() -> Iterator[tuple[str, bytes]]:
    codec = Codec(ModelBundle.random(TINY), FINGERPRINT)
    codes = np.random.default_rng(0).integers(0, TINY.movq.codebook_size, (2, 5, 6))
    yield "packed", codec.pack(codes, (20, 24)).to_bytes()
    file = codec.pack(codes, (20, 24))
    payload = codec._coder.encode(codes, 1, 3)  # type: ignore[union-attr]
    yield "entropy-coded", file.entropy_coded(payload, 3, 1).to_bytes()


def documents() -> Iterator[tuple[str, bytes]]:
    yield (
        "codes",
        json.dumps({"model": "tiny", "height": 8, "width": 8, "codes": [[[1, 2], [3, 4]]] * 2}).encode(),
    )
    yield "ragged", json.dumps({"model": "tiny", "height": 8, "width": 8, "codes": [[[1], [3, 4]]]}).encode()


def bundles() -> Iterator[tuple[str, bytes]]:
    config = TINY.model_dump_json(exclude={"labels"}).encode()
    yield "tiny", config + b"\0" + json.dumps(TINY.labels).encode()


def weights() -> Iterator[tuple[str, bytes]]:
    yield "whole", save(ModelBundle.random(TINY).movq.state_dict())[:4096]
    yield "other", save({"encoder.conv_in.weight": torch.zeros(2, 2)})


def checkpoints() -> Iterator[tuple[str, bytes]]:
    tensors = {name: torch.zeros(2, 2) for name in list(MoVQ(TINY.movq).state_dict())[:3]}
    yield "safetensors", save(tensors)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        torch.save({"state_dict": tensors}, path)
        yield "zip", path.read_bytes()
        torch.save(tensors, path, _use_new_zipfile_serialization=False)
        yield "legacy", path.read_bytes()


SEEDS = {
    "image": pictures, "mask": pictures, "movq": movq_files, "codes": documents,
    "manifest": bundles, "weights": weights, "public": checkpoints,
}  # fmt: skip

if __name__ == "__main__":
    for target, seeds in SEEDS.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in seeds():
            (folder / name).write_bytes(data)
