"""Bring the demo's images from package registries: `python -m movq_core.training.prepare_data`.

Fluent Emoji 3D (npm) with labels from emoji-datasource-google (npm), and photographs from Debian's
wallpaper packages. `npm` and `apt-get` fetch, so that mirrors and proxies set up for them are used.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from movq_core.training.classes import class_of

EMOJI_PACKAGE = "@lobehub/fluent-emoji-3d@1.1.0"
LABEL_PACKAGE = "emoji-datasource-google@16.0.0"
PHOTO_PACKAGES = ("mate-backgrounds", "plasma-workspace-wallpapers")
PATCH_SIZE = 96  # leaves room to crop 64 at random

# About half of the wallpapers are drawings and gradients; these are photographs.
PHOTOGRAPHS = (
    "Aqua", "Blinds", "BytheWater", "ColdRipple", "ColorfulCups", "DarkestHour", "Dune", "EveningGlow",
    "FallenLeaf", "Garden", "GreenMeadow", "Grey", "Kite", "LadyBird", "OneStandsOut", "Path", "RainDrops",
    "Storm", "TwoWings", "Wood", "YellowFlower", "summer_1am",
)  # fmt: skip
SKIN_TONES = {f"1f3f{digit}" for digit in "bcdef"}
PEOPLE = {"1f468", "1f469", "1f9d1", "2640", "2642", "fe0f", "200d"}  # man, woman, person, signs, joiners
OFFENSIVE = {"middle_finger"}


@dataclass(frozen=True)
class Emoji:
    """One picture: `base` is shared by all its skin tones and genders, and never split."""

    path: Path
    name: str
    base: str
    class_id: int  # -1: of no class of the demo's


def base_of(unified: str) -> str:
    """Code points without skin tone and gender: variants of one drawing share it."""
    points = [p for p in unified.lower().split("-") if p not in SKIN_TONES]
    return "-".join(p for p in points if p not in PEOPLE) or "-".join(points)


def fetch_npm(package: str, folder: Path) -> Path:
    """Unpack an npm package below `folder`; returns its root."""
    root = folder / package.rsplit("@", 1)[0].replace("/", "-").lstrip("@")
    if not root.exists():
        folder.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(  # noqa: S603 - fixed arguments
            ["npm", "pack", "--silent", package],  # noqa: S607
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
        archive = folder / packed.stdout.strip().splitlines()[-1]
        with tarfile.open(archive) as tar:
            tar.extractall(root, filter="data")
        archive.unlink()
    return root / "package"


def fetch_debian(package: str, folder: Path) -> Path:
    """Unpack a Debian package below `folder`; returns its root."""
    root = folder / package
    if not root.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", package], cwd=folder, check=True)  # noqa: S603, S607
        (archive,) = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg", "-x", str(archive), str(root)], check=True)  # noqa: S603, S607
        archive.unlink()
    return root


def list_emoji(assets: Path, labels: list[dict[str, Any]]) -> Iterator[Emoji]:
    """Every picture that has a label, skin-tone variants too; no flags, nothing offensive."""
    for entry in labels:
        if entry["category"] == "Flags" or entry["short_name"] in OFFENSIVE:
            continue
        variants = [entry, *entry.get("skin_variations", {}).values()]
        for variant in variants:
            names = [variant["unified"], variant.get("non_qualified") or variant["unified"]]
            paths = [assets / f"{name.lower()}.webp" for name in names]
            path = next((p for p in paths if p.exists()), None)
            if path is not None:
                class_id = class_of(entry["subcategory"], entry["short_name"])
                yield Emoji(path, entry["short_name"], base_of(entry["unified"]), class_id)


def read_rgba(path: Path, size: int) -> NDArray[np.uint8]:
    """The picture at `size` to a side, resampled with premultiplied alpha: no dark fringes."""
    with Image.open(path) as image:
        small = image.convert("RGBA").convert("RGBa").resize((size, size), Image.Resampling.LANCZOS)
        return np.asarray(small.convert("RGBA"))


def split_bases(emoji: list[Emoji], share: float, rng: np.random.Generator) -> set[str]:
    """Bases to hold out: `share` of each class's, so that every class is in both halves."""
    by_class: dict[int, set[str]] = {}
    claimed: set[str] = set()
    for item in emoji:  # a base belongs to the class it is first seen in
        if item.base not in claimed:
            claimed.add(item.base)
            by_class.setdefault(item.class_id, set()).add(item.base)
    held_out: set[str] = set()
    for _, bases in sorted(by_class.items()):
        ordered = sorted(bases)
        count = max(1, round(share * len(ordered)))
        held_out.update(str(b) for b in rng.permutation(ordered)[:count])
    return held_out


def save_emoji(emoji: list[Emoji], path: Path, size: int) -> None:
    """`images` (N, size, size, 4), `classes` (N,), `bases` (N,) and `names` (N,) as one .npz."""
    images = np.stack([read_rgba(item.path, size) for item in track(emoji, path.name)])
    np.savez(
        path,
        images=images,
        classes=np.array([item.class_id for item in emoji], np.int64),
        bases=np.array([item.base for item in emoji]),
        names=np.array([item.name for item in emoji]),
    )


def list_photographs(roots: list[Path]) -> list[Path]:
    """The largest file of each of `PHOTOGRAPHS`, in their order."""
    files = [p for root in roots for p in root.rglob("*.jpg") if not p.is_symlink()]
    candidates = {name: [p for p in files if name in (p.stem, *p.parts)] for name in PHOTOGRAPHS}
    return [max(paths, key=lambda p: p.stat().st_size) for paths in candidates.values()]


def cut_patches(path: Path, count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """`count` patches (count, 96, 96, 3) at random places and scales from half size to a 96 px side."""
    with Image.open(path) as image:
        photograph = image.convert("RGB")
    patches = []
    for _ in range(count):
        side = int(np.exp(rng.uniform(np.log(2 * PATCH_SIZE), np.log(min(photograph.size)))))
        left = int(rng.integers(0, photograph.width - side + 1))
        top = int(rng.integers(0, photograph.height - side + 1))
        patch = photograph.resize(
            (PATCH_SIZE, PATCH_SIZE), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side)
        )
        patches.append(np.asarray(patch))
    return np.stack(patches)


def prepare_emoji(sources: Path, out: Path, size: int, rng: np.random.Generator) -> None:
    assets = fetch_npm(EMOJI_PACKAGE, sources) / "assets"
    labels = json.loads((fetch_npm(LABEL_PACKAGE, sources) / "emoji.json").read_text(encoding="utf-8"))
    emoji = list(list_emoji(assets, labels))
    held_out = split_bases(emoji, 0.1, rng)
    save_emoji([e for e in emoji if e.base not in held_out], out / "emoji_train.npz", size)
    save_emoji([e for e in emoji if e.base in held_out], out / "emoji_heldout.npz", size)


def prepare_photographs(sources: Path, out: Path, patches: int, rng: np.random.Generator) -> None:
    paths = list_photographs([fetch_debian(package, sources) for package in PHOTO_PACKAGES])
    order = [paths[i] for i in rng.permutation(len(paths))]
    held_out, train = order[: len(order) // 5], order[len(order) // 5 :]  # whole photographs
    for name, chosen, count in (("train", train, patches), ("heldout", held_out, patches // 8)):
        cut = [cut_patches(p, count // len(chosen), rng) for p in track(chosen, f"photos {name}")]
        names = np.repeat([p.as_posix().split("/share/")[-1] for p in chosen], count // len(chosen))
        np.savez(out / f"photos_{name}.npz", images=np.concatenate(cut), names=names)


def main(
    out: Annotated[Path, typer.Option(help="where the .npz files go")] = Path("data/emoji-64"),
    sources: Annotated[Path, typer.Option(help="where the packages are unpacked")] = Path("data/sources"),
    size: Annotated[int, typer.Option(min=16, max=256, help="pixels to a side")] = 64,
    patches: Annotated[int, typer.Option(min=64, help="photograph patches for training")] = 4000,
    seed: Annotated[int, typer.Option(help="of the split and of the patches")] = 0,
) -> None:
    """Fetch, split by base emoji (10 % held out), and write arrays that the training scripts read."""
    out.mkdir(parents=True, exist_ok=True)
    prepare_emoji(sources, out, size, np.random.default_rng(seed))
    prepare_photographs(sources, out, patches, np.random.default_rng(seed + 1))


if __name__ == "__main__":
    typer.run(main)
