"""`movq reconstruct`: a picture through the codes and back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from movq_cli import options
from movq_cli.outcome import one_sentence
from movq_cli.pictures import format_of, read_picture, write_picture
from movq_cli.server import connected, followed
from movq_core.protocol import Tiling

if TYPE_CHECKING:
    from movq_core.tiles import Pixels


def reconstruct(
    image: Annotated[Path, typer.Argument(help="a picture of any size", dir_okay=False, exists=True)],
    out: Annotated[Path, typer.Option("--out", "-o", help="the picture to write")] = Path("back.png"),
    tiling: options.Tiled = Tiling.TILES,
    bundle: options.Bundle = options.DEMO,
    server: options.Server = None,
    api_key: options.ApiKey = None,
    model: options.Model = None,
) -> None:
    """Send a picture through the codes and back, and say what was lost.

    movq reconstruct photo.jpg -o back.png

    movq reconstruct photo.jpg -o back.png --server http://127.0.0.1:8000
    """
    asked = {**options.said(model=model), "tiling": tiling, "format": format_of(out)}
    with one_sentence("reconstruct"):
        if server is None:
            figures = _here(image, out, bundle, tiling)
        else:
            figures = _there(image, out, server, api_key, asked)
    typer.echo(f"{out}: {figures}")


def _here(image: Path, out: Path, bundle: Path, tiling: Tiling) -> str:
    from movq_cli.local import LocalModel

    pixels, model = read_picture(image), LocalModel(bundle)
    back, codes = model.reconstruct(pixels, tiling)
    write_picture(back, out)
    codes_bytes = math.ceil(codes.size * model.manifest.movq.bits_per_code / 8)
    bits_per_pixel = 8 * codes_bytes / (pixels.shape[0] * pixels.shape[1])
    return _figures(_psnr_db(pixels, back), codes_bytes, bits_per_pixel)


def _there(image: Path, out: Path, server: str, api_key: str | None, asked: dict[str, Any]) -> str:
    with connected(server, api_key) as client:
        made = followed(client.start_reconstruction(image, **asked))
    made.save(out)
    return _figures(made.psnr_db, made.codes_bytes, made.bits_per_pixel)


def _figures(psnr_db: float | None, codes_bytes: int, bits_per_pixel: float) -> str:
    likeness = "equal to the bit" if psnr_db is None else f"PSNR {psnr_db:.2f} dB"
    return f"{likeness}, codes of {codes_bytes:,} bytes, {bits_per_pixel:.3f} bits a pixel"


def _psnr_db(original: Pixels, back: Pixels) -> float | None:
    """None when the two are equal: the ratio is infinite."""
    error = (original.astype(float) - back) ** 2
    return 10 * math.log10(255**2 / error.mean()) if error.any() else None
