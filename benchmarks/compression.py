"""Ours against JPEG and WebP: bits a pixel and likeness, on pictures that no training saw.

`python -m benchmarks.compression` prints two tables and draws `docs/pictures/compression.png`. It needs the
images that `python -m movq_core.training.prepare_data` brings. Sizes are whole files, headers too.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from movq_core.codec import Codec
from movq_core.entropy import DEFAULT_GROUPS
from movq_core.movq_file import MAX_GROUPS, OVERHEAD_BYTES, MovqFile
from movq_core.tiles import Pixels
from movq_core.training.data import heldout_emoji, heldout_patches
from movq_core.training.evaluate import quantised_to_8_bits

JPEG_QUALITIES = (1, 3, 5, 8, 12, 18, 25, 35, 50, 65, 80, 90)
WEBP_QUALITIES = (0, 1, 3, 6, 10, 20, 35, 50, 65, 80, 90)
GROUPS = (1, 4, 8, 16, 32, MAX_GROUPS)


@dataclass(frozen=True)
class PictureSet:
    """Pictures (h, w, 3) of one kind, and the class of each; None: none is given."""

    name: str
    images: list[Pixels]
    class_ids: list[int | None]

    def part(self, count: int) -> PictureSet:
        """At most `count` of them, evenly spread."""
        chosen = np.unique(np.linspace(0, len(self.images) - 1, min(count, len(self.images))).astype(int))
        return PictureSet(self.name, [self.images[i] for i in chosen], [self.class_ids[i] for i in chosen])


@dataclass(frozen=True)
class Point:
    """Means over a set: bits a pixel, PSNR in dB, SSIM."""

    bits: float
    psnr_db: float
    ssim: float


Curve = list[Point]


def to_images(pixels: Tensor) -> list[Pixels]:
    """(N, 3, h, w) in [-1, 1] to N pictures (h, w, 3)."""
    return list(quantised_to_8_bits(pixels).byte().permute(0, 2, 3, 1).numpy())


def heldout_pictures(data: Path, side: int) -> list[Pixels]:
    """The held-out photographs whole: their middle squares at `side` pixels."""
    names = np.unique(np.load(data / "emoji-64" / "photos_heldout.npz")["names"])
    pictures = []
    for name in names:
        with Image.open(next(data.glob(f"sources/*/usr/share/{name}"))) as image:
            edge = min(image.size)
            left, top = (image.width - edge) // 2, (image.height - edge) // 2
            box = (left, top, left + edge, top + edge)
            square = image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS, box=box)
            pictures.append(np.asarray(square))
    return pictures


def picture_sets(data: Path, side: int, count: int) -> list[PictureSet]:
    arrays = data / "emoji-64"
    emoji, pixels = heldout_emoji(arrays)
    classes = [int(c) if c >= 0 else None for c in emoji.classes]
    patches, pictures = to_images(heldout_patches(arrays, 64)), heldout_pictures(data, side)
    return [
        PictureSet("emoji, 64x64", to_images(pixels), classes).part(count),
        PictureSet("patches of photographs, 64x64", patches, [None] * len(patches)).part(count),
        PictureSet(f"photographs, {side}x{side}", pictures, [None] * len(pictures)),
    ]


def similarity(original: Pixels, other: Pixels) -> tuple[float, float]:
    """PSNR in dB and SSIM (Wang et al. 2004: Gaussian of 1.5), on 8-bit RGB."""
    ssim = structural_similarity(
        original, other, channel_axis=2, data_range=255,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    return float(peak_signal_noise_ratio(original, other, data_range=255)), float(ssim)


def mean_point(originals: Iterable[Pixels], coded: Iterable[tuple[int, Pixels]]) -> Point:
    """The means over pictures, each with its file's bytes and what came back."""
    rows = [
        (8 * size_bytes / (original.shape[0] * original.shape[1]), *similarity(original, other))
        for original, (size_bytes, other) in zip(originals, coded, strict=True)
    ]
    return Point(*np.mean(rows, axis=0).tolist())


def through_pillow(image: Pixels, **options: Any) -> tuple[int, Pixels]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, **options)
    with Image.open(buffer) as back:
        return buffer.getbuffer().nbytes, np.asarray(back.convert("RGB"))


def sweep(images: list[Pixels], qualities: Iterable[int], **options: Any) -> Curve:
    """One point a quality, from the fewest bits to the most."""
    curve = [mean_point(images, [through_pillow(i, quality=q, **options) for i in images]) for q in qualities]
    return sorted(curve, key=lambda point: point.bits)


def at_equal_bits(curve: Curve, bits: float) -> str:
    """PSNR and SSIM of a curve there, between its points; a codec that cannot be as small says so."""
    if bits < curve[0].bits:
        return f"none below {curve[0].bits:.2f} bits"
    along = [p.bits for p in curve]
    psnr_db = np.interp(bits, along, [p.psnr_db for p in curve])
    return f"{psnr_db:.2f} dB, {np.interp(bits, along, [p.ssim for p in curve]):.3f}"


@dataclass(frozen=True)
class Result:
    """All curves of one set; `seconds` is what entropy-coding one of its pictures took."""

    pictures: PictureSet
    packed: Point
    entropy: Point
    packed_share: float  # entropy-coded payload against the packed one
    seconds: float
    jpeg: Curve
    webp: Curve


def measure(codec: Codec, pictures: PictureSet) -> Result:
    codes = [codec.codes_of(image) for image in pictures.images]
    sizes = [(image.shape[0], image.shape[1]) for image in pictures.images]
    back = [codec.pixels_of(c, size) for c, size in zip(codes, sizes, strict=True)]
    packed = [codec.pack(c, size) for c, size in zip(codes, sizes, strict=True)]
    started = time.perf_counter()
    coded = [
        codec.compress(c, size, (class_id,), verify=False)
        for c, size, class_id in zip(codes, sizes, pictures.class_ids, strict=True)
    ]
    seconds = (time.perf_counter() - started) / len(coded)

    def point(files: list[MovqFile]) -> Point:
        return mean_point(pictures.images, [(len(f.to_bytes()), b) for f, b in zip(files, back, strict=True)])

    return Result(
        pictures,
        point(packed),
        point(coded),
        sum(len(f.payload) for f in coded) / sum(len(f.payload) for f in packed),
        seconds,
        sweep(pictures.images, JPEG_QUALITIES, format="JPEG", optimize=True),
        sweep(pictures.images, WEBP_QUALITIES, format="WEBP", method=6),
    )


def bits_a_code(codec: Codec, pictures: PictureSet, groups: int) -> float:
    """Mean over a set; a file that is no smaller entropy-coded counts as packed."""
    payload, codes = 0, 0
    for image, class_id in zip(pictures.images, pictures.class_ids, strict=True):
        grid = codec.codes_of(image)
        payload += len(codec.compress(grid, image.shape[:2], (class_id,), groups, verify=False).payload)
        codes += grid.size
    return 8 * payload / codes


def groups_table(codec: Codec, sets: list[PictureSet]) -> Table:
    """Bits a code for each number of passes."""
    table = Table("passes a grid", *(s.name for s in sets), title="bits a code, entropy-coded")
    for groups in GROUPS:
        mark = " (default)" if groups == DEFAULT_GROUPS else ""
        table.add_row(f"{groups}{mark}", *(f"{bits_a_code(codec, s, groups):.2f}" for s in sets))
    return table


def bits_table(results: list[Result]) -> Table:
    table = Table(
        "", "bits a pixel", "PSNR, SSIM", "JPEG at these bits", "WebP at these bits",
        title=f"whole files; ours have {OVERHEAD_BYTES} bytes of header",
    )  # fmt: skip
    for result in results:
        forms = (("packed", result.packed), (f"entropy-coded, {result.packed_share:.0%}", result.entropy))
        for form, ours in forms:
            table.add_row(
                f"{result.pictures.name} ({len(result.pictures.images)}), {form}",
                f"{ours.bits:.3f}",
                f"{ours.psnr_db:.2f} dB, {ours.ssim:.3f}",
                at_equal_bits(result.jpeg, ours.bits),
                at_equal_bits(result.webp, ours.bits),
            )
        table.caption = f"{table.caption or ''} {result.seconds:.2f} s a picture;".lstrip()
    return table


def draw(results: list[Result], path: Path) -> None:
    """A column a set; PSNR above, SSIM below."""
    figure, axes = plt.subplots(2, len(results), figsize=(4.2 * len(results), 6.4), sharex="col")
    measures: list[tuple[str, Callable[[Point], float]]] = [
        ("PSNR, dB", lambda point: point.psnr_db),
        ("SSIM", lambda point: point.ssim),
    ]
    for column, result in zip(axes.T, results, strict=True):
        column[0].set_title(result.pictures.name)
        column[-1].set_xlabel("bits a pixel, whole file")
        for axis, (label, value) in zip(column, measures, strict=True):
            for name, curve, colour in (("JPEG", result.jpeg, "#c05621"), ("WebP", result.webp, "#2b6cb0")):
                axis.plot(
                    [p.bits for p in curve], [value(p) for p in curve], ".-", label=name, color=colour, lw=1.2
                )
            for name, ours, marker in (
                ("packed", result.packed, "o"),
                ("entropy-coded", result.entropy, "D"),
            ):
                axis.plot(
                    ours.bits, value(ours), marker, label=f"movq, {name}", ms=8, ls="none",
                    color="#276749" if marker == "D" else "#68d391", mec="black", mew=0.6, zorder=3,
                )  # fmt: skip
            axis.set_xscale("log")
            axis.set_xticks([0.2, 0.5, 1, 2, 5], labels=["0.2", "0.5", "1", "2", "5"])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
            axis.set_ylabel(label)
    axes[1, 0].legend(loc="lower right", frameon=False, fontsize=9)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(
    bundle: Annotated[Path, typer.Option(help="the bundle's folder")] = Path("models/emoji-64"),
    data: Annotated[Path, typer.Option(help="what prepare_data brought")] = Path("data"),
    side: Annotated[int, typer.Option(min=64, help="pixels of a whole photograph")] = 512,
    count: Annotated[int, typer.Option(min=1, help="small pictures of each kind")] = 100,
    plot: Annotated[Path, typer.Option(help="where the picture goes")] = Path(
        "docs/pictures/compression.png"
    ),
) -> None:
    """Measure, print and draw."""
    codec, sets = Codec.load(bundle), picture_sets(data, side, count)
    results = [measure(codec, pictures) for pictures in sets]
    Console(width=150).print(bits_table(results))
    draw(results, plot)
    Console(width=150).print(groups_table(codec, [pictures.part(16) for pictures in sets[:2]]))


if __name__ == "__main__":
    typer.run(main)
