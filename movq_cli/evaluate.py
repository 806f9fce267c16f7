"""`movq evaluate`: figures of a bundle on a folder of images, or of a pair of folders."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from movq_cli.outcome import one_sentence


class Seen(StrEnum):
    """How images of any shape are measured."""

    CROP = "crop"
    PAD = "pad"
    WHOLE = "whole"


def evaluate(
    bundle: Annotated[Path | None, typer.Argument(help="a bundle's folder")] = None,
    images: Annotated[Path | None, typer.Option(help="folder of images to reconstruct")] = None,
    samples: Annotated[int, typer.Option(min=0, help="images to generate, to compare with --images")] = 0,
    real: Annotated[Path | None, typer.Option(help="of a pair: folder of real images")] = None,
    generated: Annotated[Path | None, typer.Option(help="of a pair: folder of other images")] = None,
    view: Annotated[
        Seen | None,
        typer.Option(help="as squares, or whole; --images are cropped and a pair is whole if not said"),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="a square's pixels a side, else the bundle's")
    ] = None,
    lpips_weights: Annotated[
        Path | None, typer.Option(help="vgg16-397923af.pth or alexnet-owt-7be5be79.pth")
    ] = None,
    inception_weights: Annotated[
        Path | None, typer.Option(help="pt_inception-2015-12-05-6726825d.pth")
    ] = None,
    weights_dir: Annotated[Path | None, typer.Option(help="instead: a folder with any of these")] = None,
    allow_unknown_weights: Annotated[bool, typer.Option(help="take files of another SHA-256")] = False,
    reference: Annotated[Path | None, typer.Option(help=".npz with mu and sigma of real images")] = None,
    save_statistics: Annotated[Path | None, typer.Option(help="write the real images' .npz")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures there too")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    batch_size: Annotated[int, typer.Option(min=1, help="images at once")] = 16,
) -> None:
    """Measure a tokenizer on a folder of images, and with --samples its prior; or compare two folders.

    LPIPS, FID and IS need published weights, which movq does not ship. Without the FID Inception's,
    distributions are compared in the features of the bundle's own encoder; the names say so.

    movq evaluate models/emoji-64 --images photos --json figures.json

    movq evaluate --real photos --generated samples --weights-dir weights
    """
    from rich.console import Console

    from movq_core.training.evaluation.figures import table, write_json
    from movq_core.training.evaluation.measures import WeightsPaths
    from movq_core.training.evaluation.order import EvaluationOrder
    from movq_core.training.evaluation.pictures import View

    order = EvaluationOrder(
        bundle=bundle,
        images=images,
        samples=samples,
        real=real,
        generated=generated,
        view=View(view.value) if view else None,
        size=size,
        weights=WeightsPaths(lpips_weights, inception_weights, weights_dir, allow_unknown_weights),
        reference=reference,
        save_statistics=save_statistics,
        device=device,
        batch_size=batch_size,
    )
    with one_sentence("evaluate"):
        evaluation = order.run()
        if json_file:
            write_json(json_file, evaluation.about, evaluation.groups)
    for title, figures in evaluation.groups.items():
        Console().print(table(title, figures))
