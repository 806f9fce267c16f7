"""Ranks: the processes of one run, started by torchrun, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Ranks:
    """This process among `count`, and its device. One process alone talks to nobody: every call is free."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def join(cls, device: str = "auto") -> Self:
        """Meet the other processes that torchrun started; without torchrun, one process.

        `device` is "cpu" (gloo), "cuda" (NCCL, a GPU a process), or "auto": CUDA where there is one.
        """
        kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        place = torch.device(kind)
        if kind == "cuda":
            place = torch.device(kind, int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(place)
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(device=place)
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
        return cls(dist.get_rank(), dist.get_world_size(), place)

    def leave(self) -> None:
        """Say goodbye, after the last call."""
        if self.count > 1:
            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this process logs, evaluates and saves."""
        return self.rank == 0

    @contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """Around what the first rank writes to a shared disk and the others then read."""
        if self.count > 1 and not self.is_first:
            dist.barrier()
        yield
        if self.count > 1 and self.is_first:
            dist.barrier()

    def part(self, batch_size: int) -> slice:
        """This rank's rows of a batch; `batch_size` is a multiple of `count`."""
        rows = batch_size // self.count
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def shared(self, module: nn.Module) -> nn.Module:
        """`module` for the forward pass: its gradients will be the mean over the ranks."""
        if self.count == 1:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices, gradient_as_bucket_view=True)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the ranks, equal to the bit on all of them; carries no gradient."""
        if self.count == 1:
            return tensor.detach()
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over the ranks; carries no gradient."""
        return self.sum(tensor) / self.count

    def gather(self, tensor: Tensor) -> Tensor:
        """The ranks' tensors (n, ...), all of one shape, one after another: (count * n, ...)."""
        if self.count == 1:
            return tensor
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.count)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def gather_objects(self, value: Any) -> list[Any]:
        """Every rank's `value`, by rank."""
        if self.count == 1:
            return [value]
        values = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def agree(self, tensor: Tensor) -> None:
        """Write the first rank's numbers into `tensor` on every rank."""
        if self.count > 1:
            dist.broadcast(tensor, 0)
