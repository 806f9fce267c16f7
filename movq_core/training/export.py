"""Make a bundle of checkpoints: `python -m movq_core.training.export --help`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from movq_core.bundle import ModelBundle
from movq_core.config import MaskGITConfig, MoVQConfig
from movq_core.errors import BundleError
from movq_core.manifest import Manifest, fingerprint, name_for
from movq_core.models.maskgit import MaskGIT
from movq_core.models.movq import MoVQ
from movq_core.params import SamplingParams
from movq_core.training.classes import LABELS
from movq_core.training.common import load_checkpoint

# What suited the demo's prior when its samples were looked at; a request may choose otherwise.
DEMO_SAMPLING = SamplingParams(steps=16, temperature=0.9, choice_temperature=6.0, guidance_scale=3.0)


def export_bundle(
    movq: Path,
    maskgit: Path | None,
    out: Path,
    labels: tuple[str, ...],
    sampling: SamplingParams = DEMO_SAMPLING,
) -> ModelBundle:
    """Write the averaged weights of the checkpoints as a bundle named after its folder.

    Raises BundleError for an autoregressive prior, which no bundle holds (decision 8).
    """
    state = load_checkpoint(movq)
    config = MoVQConfig.model_validate(state["config"])
    tokenizer = MoVQ(config)
    tokenizer.load_state_dict(state["ema"])
    manifest = Manifest(name=name_for(out), movq=config)
    prior = None
    if maskgit is not None:
        state = load_checkpoint(maskgit)
        if state.get("kind") == "autoregressive":
            raise BundleError(f"{maskgit} is an autoregressive prior; a bundle holds a masked one")
        prior_config = MaskGITConfig.model_validate(state["config"])
        prior = MaskGIT(prior_config)
        prior.load_state_dict(state["ema"])
        manifest = Manifest(
            name=name_for(out), movq=config, maskgit=prior_config, sampling=sampling, labels=labels
        )
    bundle = ModelBundle(manifest, tokenizer.eval(), prior.eval() if prior else None)
    bundle.save(out)
    return bundle


def main(
    movq: Annotated[Path, typer.Option(help="the tokenizer's checkpoint")] = Path("runs/movq/checkpoint.pt"),
    maskgit: Annotated[Path | None, typer.Option(help="the prior's checkpoint")] = None,
    out: Annotated[Path, typer.Option(help="the bundle's folder")] = Path("models/emoji-64"),
    labels: Annotated[
        Path | None, typer.Option(help="a JSON list of the classes' names; else the demo's")
    ] = None,
) -> None:
    """Make a bundle of checkpoints; without a prior it reconstructs only."""
    names = LABELS if labels is None else tuple(json.loads(labels.read_text(encoding="utf-8")))
    export_bundle(movq, maskgit, out, names)
    typer.echo(f"{out}: fingerprint {fingerprint(out)}")


if __name__ == "__main__":
    typer.run(main)
