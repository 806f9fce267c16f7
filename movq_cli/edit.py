"""`movq edit`: a part of a picture made anew."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from movq_cli import options
from movq_cli.outcome import one_sentence
from movq_cli.pictures import format_of, paths_of, read_mask, read_picture, write_picture
from movq_cli.progress import bar
from movq_cli.server import connected, followed
from movq_core.params import MAX_SEED
from movq_core.protocol import Priority

if TYPE_CHECKING:
    from movq_core.edit_area import Edges, EditArea

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
    bundle: options.Bundle = options.DEMO,
    server: options.Server = None,
    api_key: options.ApiKey = None,
    model: options.Model = None,
    priority: options.Urgency = Priority.NORMAL,
) -> None:
    """Make a part of a picture anew; all else stays as it is, pixel for pixel.

    The part is a mask, boxes, or a margin around the picture; without any of them --strength below 1 makes
    a variation of the whole.

    movq edit face.png --box 8,8,40,40 --class smiley -o new.png

    movq edit face.png --mask mask.png -n 4 -o new.png   writes new-0.png to new-3.png

    movq edit face.png --expand 0,0,64,0 -o wider.png --server http://127.0.0.1:8000
    """
    sampling = options.said(
        seed=seed,
        steps=steps,
        temperature=temperature,
        choice_temperature=choice_temperature,
        guidance_scale=guidance_scale,
        guidance_schedule=guidance_schedule,
        mask_schedule=mask_schedule,
        order=order,
        top_k=top_k,
    )
    part = _Part(
        image,
        mask,
        _boxes(box or ()),
        _margins(expand),
        options.said(strength=strength, feather_px=feather_px),
    )
    paths = paths_of(out, num_images)
    picture_format = format_of(out)
    with one_sentence("edit"):
        if server is None:
            seeds = _here(bundle, part, class_name, class_id, sampling, paths)
        else:
            asked = options.said(class_id=class_id, model=model) | sampling
            asked |= {"format": picture_format, "priority": priority, "num_images": num_images}
            seeds = _there(server, api_key, part, class_name, asked, paths)
    for path, own in zip(paths, seeds, strict=True):
        typer.echo(f"{path}: seed {own}")


class _Part(NamedTuple):
    """What is to be made anew of which picture, as it was said."""

    image: Path
    mask: Path | None
    boxes: list[Edges]
    margins: Edges | None
    params: dict[str, Any]


def _here(
    bundle: Path,
    part: _Part,
    class_name: str | None,
    class_id: int | None,
    sampling: dict[str, Any],
    paths: list[Path],
) -> list[int | None]:
    """Edit in this process; the seeds."""
    with bar() as shown:
        shown("loads the model", None)
        from movq_cli.local import LocalModel, class_id_of, edit_params_of, sampling_of

        params = edit_params_of(part.params)
        area = _area(part, params.strength)
        model = LocalModel(bundle)
        chosen = sampling_of(model.manifest, {"seed": secrets.randbelow(MAX_SEED + 1), **sampling})
        which = class_id_of(model.manifest, class_name, class_id)
        made = model.edit(area, params, which, chosen, len(paths), lambda share: shown("at work", share))
    for path, (_, pixels) in zip(paths, made, strict=True):
        write_picture(pixels, path)
    return [seed for seed, _ in made]


def _area(part: _Part, strength: float) -> EditArea:
    """The picture and its mask, read; raises InvalidRequest and its kinds."""
    from movq_core.edit_area import EditArea
    from movq_core.movq_file import MAX_PIXELS

    image = read_picture(part.image)
    mask = None if part.mask is None else read_mask(part.mask, image)
    return EditArea.of(image, mask, part.boxes, part.margins, strength=strength, max_pixels=MAX_PIXELS)


def _there(
    server: str,
    api_key: str | None,
    part: _Part,
    class_name: str | None,
    asked: dict[str, Any],
    paths: list[Path],
) -> list[int | None]:
    """Edit on a server; the seeds."""
    wanted = {"mask": part.mask, "box": part.boxes, "expand": part.margins, **part.params, **asked}
    with connected(server, api_key) as client:
        images = followed(client.start_edit(part.image, class_name, watched=True, **wanted))
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    return [image.seed for image in images]


def _boxes(texts: Sequence[str]) -> list[Edges]:
    from movq_core.edit_area import checked_box, edges_of

    with _said_in("--box"):
        return [checked_box(edges_of(text)) for text in texts]


def _margins(text: str | None) -> Edges | None:
    from movq_core.edit_area import checked_margins, edges_of

    with _said_in("--expand"):
        return None if text is None else checked_margins(edges_of(text))


@contextmanager
def _said_in(option: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
