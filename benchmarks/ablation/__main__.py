"""`python -m benchmarks.ablation tokenizers | priors`: train at equal budget, print the table.

Every variant sees the same images for the same steps, from scratch, over several seeds. A finished run is
kept under `--out` and is not trained again.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.ablation.priors import GUIDANCE, KINDS, run_prior
from benchmarks.ablation.results import Result, once, summarise
from benchmarks.ablation.tokenizers import VARIANTS, run_tokenizer

app = typer.Typer(no_args_is_help=True)
Out = Annotated[Path, typer.Option(help="where finished runs are kept")]
Data = Annotated[Path, typer.Option(help="folder of prepare_data")]
Seeds = Annotated[int, typer.Option(min=1, help="runs of each variant")]
Steps = Annotated[int, typer.Option(min=1, help="optimiser steps of each run")]

RECONSTRUCTION = {
    "bits_per_pixel": "{:.3f}",
    "parameters": "{:,.0f}",
    "emoji_psnr_db": "{:.2f}",
    "emoji_ssim": "{:.3f}",
    "photographs_psnr_db": "{:.2f}",
    "photographs_ssim": "{:.3f}",
    "photographs_codebook_used": "{:.1%}",
    "cpu_seconds": "{:.0f}",
}
REPETITION = {
    f"{kind}_repeated_{figure}": form
    for kind in ("emoji", "photographs")
    for figure, form in (("pairs", "{:.0f}"), ("identical", "{:.2%}"), ("kept", "{:.3f}"))
}


LIKELIHOOD = {
    "parameters": "{:,.0f}",
    "training_cpu_s": "{:.0f}",
    "nll": "{:.3f}",
    "passes": "{:.0f}",
}
SAMPLES = {
    f"guidance_{guidance:g}_{figure}": form
    for guidance in GUIDANCE
    for figure, form in (
        ("kernel_distance", "{:.2f}"),
        ("recognised", "{:.1%}"),
        ("cpu_s_an_image", "{:.3f}"),
    )
}


def file_name(variant: str, seed: int, steps: int) -> str:
    return f"{variant.replace(', ', '-').replace(' ', '_')}-{steps}-{seed}.json"


@app.callback()
def main() -> None:
    """Train at equal budget, print the table; a finished run is kept and not trained again."""


@app.command()
def tokenizers(
    data: Data = Path("data/emoji-64"),
    out: Out = Path("runs/ablation"),
    seeds: Seeds = 3,
    steps: Steps = 600,
) -> None:
    """Spatial norm on and off; four channels, one, and one at the same bits."""
    results: list[Result] = []
    for seed in range(seeds):
        for name in VARIANTS:
            path = out / "tokenizers" / file_name(name, seed, steps)
            results.append(once(path, partial(run_tokenizer, name, seed, steps, data)))
    console = Console(width=180)
    console.print(summarise(results, RECONSTRUCTION, f"held-out reconstruction after {steps} steps"))
    console.print(summarise(results, REPETITION, "neighbours with equal codes and unequal originals"))


@app.command()
def priors(
    data: Data = Path("data/emoji-64"),
    bundle: Annotated[Path, typer.Option(help="the tokenizer that made the codes")] = Path("models/emoji-64"),
    out: Out = Path("runs/ablation"),
    seeds: Seeds = 3,
    steps: Steps = 800,
) -> None:
    """MaskGIT and code after code: likelihood, samples, passes and seconds an image."""
    results: list[Result] = []
    for seed in range(seeds):
        for kind in KINDS:
            path = out / "priors" / file_name(kind, seed, steps)
            results.append(once(path, partial(run_prior, kind, seed, steps, data, bundle)))
    console = Console(width=180)
    console.print(summarise(results, LIKELIHOOD, f"after {steps} steps; the two likelihoods do not compare"))
    console.print(summarise(results, SAMPLES, "samples against held-out emoji"))


if __name__ == "__main__":
    app()
