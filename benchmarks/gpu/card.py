"""Card: the device under test, its clock and its models; Scale: how large; Table: what is printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import rich.table
import torch
from torch import nn

from benchmarks.measuring import Timing, interleaved
from movq_core.config import MASKGIT_PRESETS, MOVQ_PRESETS, MoVQConfig
from movq_core.models.maskgit import MaskGIT
from movq_core.sampling.batch import bucket_sizes
from movq_core.sampling.sampler import Sampler

Case = Callable[[], object]
Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Scale:
    """How large, how often."""

    prior: str
    batches: tuple[int, ...]  # images at once
    crowd: int  # images of the agreement
    in_order_batches: tuple[int, ...]
    tokenizers: dict[str, MoVQConfig]
    decode_batches: tuple[int, ...]
    product_size: int
    copy_bytes: int
    steps: int = 12
    rounds: int = 5


PAPER = Scale(
    prior="imagenet-256",
    batches=(1, 8, 32, 64),
    crowd=64,
    in_order_batches=(1, 4, 16),
    tokenizers={name: MOVQ_PRESETS[name] for name in ("movq-256", "movqgan-67m")},
    decode_batches=(1, 8),
    product_size=8192,
    copy_bytes=2**31,
)
SMALL_TOKENIZER = MoVQConfig(  # a shape that diffusers can build, too
    image_size=32,
    base_channels=32,
    channel_multipliers=(1, 2),
    encoder_blocks=1,
    decoder_blocks=2,
    attention_levels=(1,),
    code_channels=1,
    code_dim=4,
    codebook_size=64,
)
TINY = Scale(
    prior="tiny",
    batches=(1, 3),
    crowd=6,
    in_order_batches=(1, 2),
    tokenizers={"small": SMALL_TOKENIZER},
    decode_batches=(1, 2),
    product_size=256,
    copy_bytes=2**20,
    steps=4,
    rounds=2,
)


@dataclass
class Table:
    """One question's answer."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str | float, ...]] = field(default_factory=list)
    seconds: float = 0.0

    def rich(self) -> rich.table.Table:
        """For a console."""
        table = rich.table.Table(title=f"{self.title} ({self.seconds:.0f} s)")
        for column in self.columns:
            table.add_column(column, justify="right")
        for row in self.rows:
            table.add_row(*(value if isinstance(value, str) else f"{value:.4g}" for value in row))
        return table


class Card:
    """A device and a scale; `timings` keeps every measurement by table and case."""

    def __init__(self, device: torch.device, scale: Scale) -> None:
        self.device = device
        self.scale = scale
        self.on_cuda = device.type == "cuda"
        self.dtype = torch.bfloat16 if self.on_cuda else torch.float32
        self.timings: dict[str, dict[str, Timing]] = {}
        self.peak_flops = 0.0  # of products in `dtype`, a second; the table of peaks finds it

    def synchronise(self) -> None:
        if self.on_cuda:
            torch.cuda.synchronize(self.device)

    def measure(self, table: str, cases: dict[str, Case], rounds: int | None = None) -> dict[str, Timing]:
        timings = interleaved(cases, rounds or self.scale.rounds, after=self.synchronise)
        self.timings[table] = timings
        return timings

    def model(self, build: Callable[[], Model]) -> Model:
        """Random weights, made on the device."""
        torch.manual_seed(0)
        with self.device:
            return build().eval().requires_grad_(False)

    def prior(self) -> MaskGIT:
        return self.model(lambda: MaskGIT(MASKGIT_PRESETS[self.scale.prior])).to(self.dtype)

    def sampler(self, prior: MaskGIT, rows: int, buckets: Sequence[int] | None = None) -> Sampler:
        """As a worker has it: exact batches on the CPU, `buckets` or the usual ones on CUDA."""
        return Sampler(prior, rows, (buckets or bucket_sizes(2 * rows)) if self.on_cuda else None)
