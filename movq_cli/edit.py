"""`movq edit`: a part of a picture made anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from movq_cli import options
from movq_cli.outcome import one_sentence
from movq_cli.pictures import format_of, paths_of
from movq_cli.server import connected, followed, needed
from movq_core.protocol import Priority

_SIDES = "LEFT,TOP,RIGHT,BOTTOM"


def edit(
    image: Annotated[Path, typer.Argument(help="a picture of any size", dir_okay=False, exists=True)],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="the picture to write; several are NAME-0, NAME-1...")
    ] = Path("edit.png"),
    mask: Annotated[
        Path | None,
        typer.Option(
            help="a picture of the same size: transparent, or else white, is made anew",
            dir_okay=False,
            exists=True,
        ),
    ] = None,
    box: Annotated[
        list[str] | None, typer.Option(metavar=_SIDES, help="pixels to make anew; may be repeated")
    ] = None,
    expand: Annotated[str | None, typer.Option(metavar=_SIDES, help="pixels to add around it")] = None,
    strength: Annotated[
        float | None, typer.Option(help="the share of the codes there that is made anew, to 1")
    ] = None,
    feather_px: Annotated[int | None, typer.Option(min=0, help="how wide the edge is blended")] = None,
    class_name: options.ClassName = None,
    class_id: options.ClassId = None,
    num_images: options.NumImages = 1,
    seed: options.Seed = None,
    steps: options.Steps = None,
    temperature: options.Temperature = None,
    choice_temperature: options.ChoiceTemperature = None,
    guidance_scale: options.GuidanceScale = None,
    guidance_schedule: options.Guidance = None,
    mask_schedule: options.Masking = None,
    order: options.Order = None,
    top_k: options.TopK = None,
    server: options.Server = None,
    api_key: options.ApiKey = None,
    model: options.Model = None,
    priority: options.Urgency = Priority.NORMAL,
) -> None:
    """Make a part of a picture anew, on a server; all else stays as it is, pixel for pixel.

    The part is a mask, boxes, or a margin around the picture; without any of them --strength below 1 makes
    a variation of the whole.

    movq edit face.png --box 8,8,40,40 --class smiley -o new.png --server http://127.0.0.1:8000

    movq edit face.png --expand 0,0,64,0 -o wider.png --server http://127.0.0.1:8000
    """
    paths = paths_of(out, num_images)
    asked = options.said(
        class_id=class_id,
        strength=strength,
        feather_px=feather_px,
        seed=seed,
        steps=steps,
        temperature=temperature,
        choice_temperature=choice_temperature,
        guidance_scale=guidance_scale,
        guidance_schedule=guidance_schedule,
        mask_schedule=mask_schedule,
        order=order,
        top_k=top_k,
        model=model,
        num_images=num_images,
        format=format_of(out),
        priority=priority,
    )
    boxes = [_sides(one, "--box") for one in box or ()]
    margins = _sides(expand, "--expand") if expand else None
    with one_sentence("edit"), connected(needed(server), api_key) as client:
        job = client.start_edit(
            image, class_name, mask=mask, box=boxes, expand=margins, watched=True, **asked
        )
        images = followed(job)
        for path, made in zip(paths, images, strict=True):
            made.save(path)
            typer.echo(f"{path}: seed {made.seed}")


def _sides(text: str, option: str) -> tuple[int, int, int, int]:
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not four numbers {_SIDES}", param_hint=option) from error
    return left, top, right, bottom
