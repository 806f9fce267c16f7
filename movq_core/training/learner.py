"""Learner: a module, its optimiser, and how a gradient gets from micro-batches and ranks into a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch._dynamo
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from movq_core.models.movq import ResidualBlock, SpatialAttention
from movq_core.models.transformer import TransformerBlock
from movq_core.training.common import set_learning_rate
from movq_core.training.distributed import Ranks
from movq_core.training.recipes import Recipe

COMPILED_SHAPES = 64  # of one kind of block: each width and resolution is its own code; torch stops at 8


class Learner:
    """One forward call and one backward a micro-batch; gradients add up until `step`.

    The gradient is the mean over the ranks, sent once a step: with the last micro-batch.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        ranks: Ranks,
        clip: bool = True,
    ) -> None:
        self.module, self.optimizer = module, optimizer
        self.clip_norm = recipe.clip_norm if clip else float("inf")
        self._bfloat16 = recipe.precision == "bfloat16"
        self._device = ranks.device
        self._forward = ranks.shared(module)

    def __call__(self, *inputs: Tensor) -> Any:
        """The module's outcome at the recipe's precision."""
        with self.autocast():
            return self._forward(*inputs)

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16)

    def gathering(self, last: bool) -> AbstractContextManager[Any]:
        """Around the forward and backward of a micro-batch: the ranks meet at the `last` one only."""
        if last or not isinstance(self._forward, DistributedDataParallel):
            return nullcontext()
        return self._forward.no_sync()

    def step(self, rate: float) -> float:
        """Clip, step, forget the gradient; returns its norm before clipping."""
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.clip_norm)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm.item()


def prepare_blocks(module: nn.Module, recipe: Recipe) -> None:
    """Compile the module's blocks, or let them recompute their activations, as the recipe says.

    Block by block: compilation takes minutes less, and what stands between the blocks (the quantiser, the
    decoder's last layer, whose gradient the critic's weight needs alone) stays as it is.
    """
    if recipe.compile:
        torch._dynamo.config.recompile_limit = COMPILED_SHAPES
    for block in _blocks(module):
        if recipe.compile:
            block.forward = torch.compile(block.forward, dynamic=False)
        if recipe.checkpoint_activations:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    kinds = (ResidualBlock, SpatialAttention, TransformerBlock)
    return (block for block in module.modules() if isinstance(block, kinds))
