"""The bundle that all of them serve: 16x16x4 codes of 1024 for 128x128 pixels, a prior of 8 layers x 256."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from movq_core.bundle import ModelBundle
from movq_core.config import MOVQ_PRESETS, MaskGITConfig
from movq_core.manifest import Manifest

CLASSES = 10
# Fresh weights give nearly flat logits; a trained prior has opinions.
SHARPNESS = 40.0

GRID = 16


def manifest_of(grid: int) -> Manifest:
    movq = MOVQ_PRESETS["emoji-64"].model_copy(update={"image_size": 8 * grid, "codebook_size": 1024})
    return Manifest(
        name=f"benchmark-{movq.image_size}",
        movq=movq,
        maskgit=MaskGITConfig(grid_size=grid, num_classes=CLASSES, width=256, depth=8, heads=8),
        labels=tuple(f"class {number}" for number in range(CLASSES)),
    )


@contextmanager
def served_bundle(grid: int = GRID) -> Iterator[Path]:
    """Its folder, with random weights of a fixed seed; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="movq-bundle-") as folder:
        with ThreadPoolExecutor(1) as maker:  # which ends: OpenMP keeps threads for each that has computed
            maker.submit(_save_bundle, grid, Path(folder)).result()
        yield Path(folder)


def _save_bundle(grid: int, folder: Path) -> None:
    bundle = ModelBundle.random(manifest_of(grid))
    assert bundle.maskgit is not None
    for table in [*bundle.maskgit.heads, *bundle.maskgit.code_embeddings, bundle.maskgit.class_embedding]:
        table.weight.data.mul_(SHARPNESS)
    bundle.save(folder)


def cache_of(model_dir: Path) -> Path:
    """Where its servers keep what they found to be fastest here: so all do the same arithmetic."""
    cache_dir = model_dir / "cache"
    cache_dir.mkdir(exist_ok=True)
    return cache_dir
