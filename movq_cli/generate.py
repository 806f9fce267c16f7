"""`movq generate`: images of a class."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from movq_cli import options
from movq_cli.outcome import one_sentence
from movq_cli.pictures import format_of, paths_of, write_picture
from movq_cli.progress import bar
from movq_cli.server import connected, followed
from movq_core.params import MAX_SEED
from movq_core.protocol import Priority


def generate(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="the picture to write; several are NAME-0, NAME-1...")
    ] = Path("movq.png"),
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
    """Make new images of a class, or without one of whatever comes.

    movq generate --class smiley --seed 7 -o smiley.png

    movq generate --class smiley -n 4 --steps 24 -o smiley.png   writes smiley-0.png to smiley-3.png

    movq generate --class smiley --server http://127.0.0.1:8000
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
    paths = paths_of(out, num_images)
    picture_format = format_of(out)
    with one_sentence("generate"):
        if server is None:
            seeds = _here(bundle, class_name, class_id, sampling, paths)
        else:
            asked = options.said(class_id=class_id, model=model) | sampling
            asked |= {"format": picture_format, "priority": priority, "num_images": num_images}
            seeds = _there(server, api_key, class_name, asked, paths)
    for path, own in zip(paths, seeds, strict=True):
        typer.echo(f"{path}: seed {own}")


def _here(
    bundle: Path, class_name: str | None, class_id: int | None, sampling: dict[str, Any], paths: list[Path]
) -> list[int | None]:
    """Generate in this process; the seeds."""
    with bar() as shown:
        shown("loads the model", None)
        from movq_cli.local import LocalModel, class_id_of, sampling_of

        model = LocalModel(bundle)
        chosen = sampling_of(model.manifest, {"seed": secrets.randbelow(MAX_SEED + 1), **sampling})
        which = class_id_of(model.manifest, class_name, class_id)
        made = model.generate(which, chosen, len(paths), lambda share: shown("at work", share))
    for path, (_, pixels) in zip(paths, made, strict=True):
        write_picture(pixels, path)
    return [seed for seed, _ in made]


def _there(
    server: str, api_key: str | None, class_name: str | None, asked: dict[str, Any], paths: list[Path]
) -> list[int | None]:
    """Generate on a server; the seeds."""
    with connected(server, api_key) as client:
        images = followed(client.start_generation(class_name, watched=True, **asked))
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    return [image.seed for image in images]
