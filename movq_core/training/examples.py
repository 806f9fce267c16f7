"""Draw an example of each class of a bundle: `python -m movq_core.training.examples --help`.

Those of `models/emoji-64` are of seed 8, picked by eye of the first twelve; docs/pictures/samples.png shows
what is not picked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from PIL import Image
from rich.progress import track

from movq_core.bundle import ModelBundle
from movq_core.errors import BundleError
from movq_core.params import MAX_SEED
from movq_core.sampling.generate import generate_codes
from movq_core.sampling.pixels import PixelTokenizer


def draw_example(bundle: ModelBundle, class_id: int, seed: int) -> Image.Image:
    """An image of the class by the bundle's own sampling: what a request for that seed would give."""
    assert bundle.maskgit is not None
    params = bundle.manifest.sampling.model_copy(update={"seed": seed})
    codes = generate_codes(bundle.maskgit, class_id, params)
    return Image.fromarray(PixelTokenizer(bundle.movq).decode(codes)[0].numpy())


def write_examples(folder: Path, seed: int) -> None:
    """Write `examples/<class_id>.png`, a picture a class, into the bundle in `folder`.

    They stand beside the classes' names where one is chosen. Raises BundleError for a bundle without classes.
    """
    bundle = ModelBundle.load(folder)
    if not bundle.manifest.labels:
        raise BundleError(f"{folder} has no classes: there is nothing to show an example of")
    (folder / "examples").mkdir(exist_ok=True)
    for class_id in track(range(len(bundle.manifest.labels)), "examples"):
        picture = draw_example(bundle, class_id, seed)
        picture.save(folder / "examples" / f"{class_id}.png", optimize=True)


def main(
    bundle: Annotated[Path, typer.Argument(help="the bundle's folder")],
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="of all the pictures")] = 0,
) -> None:
    """Write an example picture of each class into a bundle, made by its own sampling."""
    try:
        write_examples(bundle, seed)
    except BundleError as error:
        typer.echo(f"examples: {error}", err=True)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    typer.run(main)
