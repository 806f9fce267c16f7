"""`movq train`: a folder of images to a bundle that `movq up` serves."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from movq_cli.outcome import one_sentence


class Preset(StrEnum):
    """Shapes and recipes; `movq_core.training.two_stage` knows what they stand for."""

    SMALL_64 = "small-64"
    TINY = "tiny"


class Framed(StrEnum):
    """How images of any shape become squares."""

    CROP = "crop"
    PAD = "pad"


def train(
    folder: Annotated[Path, typer.Argument(help="images, or one folder of images a class")],
    out: Annotated[Path, typer.Option(help="the bundle's folder, e.g. models/mine")],
    preset: Annotated[
        Preset, typer.Option(help="small-64: 64x64 pixels; tiny: seconds, a test")
    ] = Preset.SMALL_64,
    minutes: Annotated[
        float | None, typer.Option(min=0.0, help="how long it may take, both stages together")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="instead: optimiser steps of each stage")] = None,
    fit: Annotated[
        Framed, typer.Option(help="crop: the middle, for photographs; pad: the whole on white, for icons")
    ] = Framed.CROP,
    flip: Annotated[bool, typer.Option(help="learn from mirrored images too; not for letters")] = True,
    run: Annotated[
        Path | None, typer.Option(help="what it needs to go on; else runs/NAME of the bundle")
    ] = None,
    seed: int = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: CUDA where there is one")] = "auto",
) -> None:
    """Train a tokenizer and a prior on your own images: a bundle with its card.

    First it says how many images it found and how long it will take;
    without --minutes or --steps that is hours.

    When it is stopped, the same command goes on.

    Class folders give a prior with classes, a flat folder one without.

    movq train photos --minutes 30 --out models/photos
    """
    if minutes is not None and steps is not None:
        raise typer.BadParameter("give --minutes or --steps, not both")
    from movq_core.training.image_file import Fit
    from movq_core.training.two_stage import Order, TwoStageRun

    order = Order(
        folder=folder,
        out=out,
        run=run or Path("runs") / out.name,
        preset=preset.value,
        minutes=minutes,
        steps=steps,
        fit=Fit(fit.value),
        flip=flip,
        seed=seed,
        device=device,
    )
    try:
        with one_sentence("train"):
            TwoStageRun(order).go()
    except KeyboardInterrupt:
        typer.echo(f"\nStopped; the same command goes on from {order.run}.", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{out}: a bundle, and README.md with its figures. Serve it: movq up --models {out}")
