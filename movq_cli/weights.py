"""`movq import`, `movq export`: public MoVQ weights to a bundle of ours, and back."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from movq_cli.outcome import one_sentence


class Layout(StrEnum):
    """What `movq export` can write."""

    DIFFUSERS = "diffusers"


def import_weights(
    source: Annotated[Path, typer.Argument(help="a .ckpt, .bin, .pt or .safetensors, or a diffusers folder")],
    out: Annotated[Path, typer.Option(help="the bundle's folder, e.g. models/NAME")],
    prefer_ema: Annotated[bool, typer.Option(help="take a checkpoint's averaged weights")] = False,
    force: Annotated[bool, typer.Option(help="write over a bundle that is there")] = False,
) -> None:
    """Make a bundle of public MoVQGAN weights: MoVQGAN's own, diffusers' or open-muse's.

    The layout is found; every tensor must fit. The bundle has no prior: it encodes, decodes and reconstructs.
    """
    from movq_core.bundle import ModelBundle
    from movq_core.manifest import CONFIG_FILE, Manifest, fingerprint, name_for
    from movq_core.public_weights import import_tokenizer

    if (out / CONFIG_FILE).exists() and not force:
        raise typer.BadParameter(f"{out} holds a bundle already; --force writes over it", param_hint="--out")
    with one_sentence("import"):
        movq = import_tokenizer(source, prefer_ema)
        ModelBundle(Manifest(name=name_for(out), movq=movq.config), movq, None).save(out)
    config, parameters = movq.config, sum(p.numel() for p in movq.parameters())
    typer.echo(
        f"{out}: {parameters:,} parameters, codes of {config.code_channels} x {config.codebook_size}, "
        f"f = {config.downsampling_factor}, fingerprint {fingerprint(out)}"
    )


def export_weights(
    bundle: Annotated[Path, typer.Argument(help="a bundle's folder")],
    out: Annotated[Path, typer.Option(help="the folder to write")],
    layout: Annotated[Layout, typer.Option(help="whose names the tensors get")] = Layout.DIFFUSERS,
) -> None:
    """Write a bundle's tokenizer so that `diffusers.VQModel.from_pretrained` opens it."""
    from movq_core.bundle import ModelBundle
    from movq_core.public_weights import write_diffusers

    assert layout is Layout.DIFFUSERS
    with one_sentence("export"):
        write_diffusers(ModelBundle.load(bundle).movq, out)
    typer.echo(f"{out}: a diffusers VQModel")
