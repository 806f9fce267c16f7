"""Small trainers for the tests; as a program, one rank of a run that torchrun started.

`torchrun --nproc-per-node 2 -m tests.movq_core.training.trainers DATA OUT` trains each of KINDS for STEPS
steps and saves what each rank ends with.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from movq_core.config import AUTOREGRESSIVE_PRESETS, MASKGIT_PRESETS, MOVQ_PRESETS
from movq_core.training.data import TokenizerBatches, load_emoji, load_photographs
from movq_core.training.distributed import Ranks
from movq_core.training.encode_dataset import CodeSet
from movq_core.training.recipes import PriorRecipe, TokenizerRecipe
from movq_core.training.train_maskgit import PriorBatches, PriorTrainer
from movq_core.training.train_movq import TokenizerTrainer

STEPS = 6  # Adam makes steps of rounding: how far it goes depends on the CPU
KINDS = {
    "tokenizer": {"revive_below": 0.8, "codebook_decay": 0.8},
    "micro-batches": {"accumulate": 2, "codebook": "gradient"},
    "critic": {"disc_weight": 0.8, "disc_start": 2, "entropy_weight": 0.1},
    "masked": {},
    "autoregressive": {"accumulate": 2},
}


def tokenizer_trainer(data, emoji_share=0.7, ranks=None, source=TokenizerBatches, **recipe):
    batches = source(load_emoji(data, "train"), load_photographs(data, "train"), 4, emoji_share)
    recipe = TokenizerRecipe(batch_size=4, **{"warmup": 5} | recipe)
    trainer = TokenizerTrainer(MOVQ_PRESETS["tiny"], recipe, batches, ranks)
    trainer.start_codebook(batches=8)
    return trainer


def code_set():
    """Thirty images of three classes; a class's codes are ten times its id and up to two more."""
    rng = np.random.default_rng(0)
    classes = np.arange(30) % 3
    codes = (classes[:, None, None, None, None] * 10 + rng.integers(0, 3, (30, 2, 2, 4, 4))).astype(np.int16)
    return CodeSet(codes, classes, np.array([f"b{i}" for i in range(30)]))


def prior_trainer(kind="masked", dropout=0.1, ranks=None, **recipe):
    presets = MASKGIT_PRESETS if kind == "masked" else AUTOREGRESSIVE_PRESETS
    config = presets["tiny"].model_copy(update={"dropout": dropout})
    recipe = PriorRecipe(batch_size=8, **{"warmup": 5} | recipe)
    return PriorTrainer(config, recipe, PriorBatches(code_set(), 8), ranks)


def train(kind, data, ranks):
    """Weights, averages, codebook statistics and figures after STEPS steps of one of KINDS."""
    recipe = {"steps": STEPS, **KINDS[kind]}
    if kind in ("masked", "autoregressive"):
        trainer = prior_trainer(kind, dropout=0.0, ranks=ranks, **recipe)
    else:
        trainer = tokenizer_trainer(data, ranks=ranks, **recipe)
    steps = [trainer.train_step() for _ in range(STEPS)]
    figures = steps[-1] | {"revived": sum(figures.get("revived", 0.0) for figures in steps)}
    state = trainer.state_dict()
    weights = state["movq"] if "movq" in state else state["prior"]
    return {
        "weights": weights,
        "ema": state["ema"],
        "codebook": state.get("codebook", {}),
        "figures": figures,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    ranks = Ranks.join("cpu")
    outcomes = {kind: train(kind, Path(sys.argv[1]), ranks) for kind in KINDS}
    torch.save(outcomes, Path(sys.argv[2]) / f"rank{ranks.rank}.pt")
    ranks.leave()
