"""`python -m benchmarks.gpu.paper_bundle FOLDER`: a bundle of the paper's size, random weights, to be served.

Its images are noise; its speed is that of a trained one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from movq_core.bundle import ModelBundle
from movq_core.config import MASKGIT_PRESETS, MOVQ_PRESETS
from movq_core.manifest import Manifest


def main(folder: Annotated[Path, typer.Argument(help="a new one")]) -> None:
    prior = MASKGIT_PRESETS["imagenet-256"]
    manifest = Manifest(
        name="paper-256",
        movq=MOVQ_PRESETS["movq-256"],
        maskgit=prior,
        labels=tuple(f"class {number}" for number in range(prior.num_classes)),
    )
    torch.manual_seed(0)
    ModelBundle.random(manifest).save(folder)


if __name__ == "__main__":
    typer.run(main)
