"""ModelRunner: weights, per-row buffers and everything that runs on the device.

The only file of the worker with torch in it. Engine thread only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from movq_core.bundle import ModelBundle
from movq_core.errors import DeviceFault
from movq_core.params import SamplingParams
from movq_core.sampling.generate import step_rows
from movq_core.sampling.guidance import guide
from movq_core.sampling.schedule import mask_plan
from movq_core.sampling.step import unmask_step
from movq_core.tiles import Codes, Pixels


@dataclass(frozen=True)
class Row:
    """What a row was started with; its codes live in the runner's buffer."""

    class_id: int | None
    sampling: SamplingParams
    plan: tuple[int, ...]

    @property
    def guided(self) -> bool:
        return self.class_id is not None and self.sampling.guidance_scale != 1.0


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


class ModelRunner:
    """`rows` images at once, each at its own step.

    On the CPU every image is encoded and decoded alone, and the prior's output for a row does not depend on
    the batch: codes and pixels are equal to `generate_codes()` and `decode_codes()` to the bit.
    """

    def __init__(self, model_dir: Path, rows: int, device: str = "auto") -> None:
        self.device = resolve_device(device)
        self.rows = rows
        self.bundle = ModelBundle.load(model_dir, str(self.device))
        self.manifest = self.bundle.manifest
        self._started: dict[int, Row] = {}
        self._codes = self._empty_codes()
        self._warm_up()

    def _empty_codes(self) -> Tensor:
        config = self.manifest.movq
        shape = (self.rows, config.code_channels, config.grid_size, config.grid_size)
        return torch.full(shape, config.codebook_size, device=self.device)

    def _warm_up(self) -> None:
        """One image of each kind of work: the first request pays for no initialisation."""
        size = self.manifest.movq.image_size
        self.decode(self.encode(np.zeros((size, size, 3), np.uint8)))
        if self.bundle.maskgit is not None:
            self.start(0, None, SamplingParams(steps=1))
            self.step([0], [0])
            self.finish(0)

    @torch.inference_mode()
    def is_batch_invariant(self) -> bool:
        """Whether a row's logits are equal to the bit alone and in a full batch, on this machine."""
        prior = self.bundle.maskgit
        if prior is None:
            return True
        codes = torch.arange(self._codes.numel(), device=self.device) % prior.mask_code
        codes = codes.view_as(self._codes)
        class_ids = torch.arange(self.rows, device=self.device) % (prior.null_class + 1)
        together = prior(codes, class_ids)
        alone = [prior(codes[i : i + 1], class_ids[i : i + 1]) for i in range(min(self.rows, 4))]
        return all(torch.equal(one[0], together[i]) for i, one in enumerate(alone))

    def start(self, row: int, class_id: int | None, sampling: SamplingParams) -> None:
        """Fill `row` with mask codes and note what it wants."""
        config = self.manifest.movq
        masked = config.code_channels * config.grid_size**2
        plan = mask_plan(sampling.mask_schedule, sampling.steps, masked)
        self._started[row] = Row(class_id, sampling, plan)
        self._codes[row] = config.codebook_size

    @torch.inference_mode()
    def step(self, rows: Sequence[int], steps: Sequence[int]) -> None:
        """Take step `steps[i]` of `rows[i]`, all in one batch. Nothing is written when it raises."""
        with self._device_faults():
            prior = self.bundle.maskgit
            assert prior is not None
            index = torch.tensor(rows, device=self.device)
            wanted = [self._started[row] for row in rows]
            codes = self._codes[index]
            logits = self._logits(codes, wanted)
            noise = step_rows(
                [w.sampling for w in wanted], list(steps), [w.plan for w in wanted], self.device
            )
            self._codes[index] = unmask_step(logits, codes, prior.mask_code, noise)

    def _logits(self, codes: Tensor, wanted: list[Row]) -> Tensor:
        """Logits of all rows; those that ask for guidance ride twice in the same batch."""
        prior = self.bundle.maskgit
        assert prior is not None
        labels = [prior.null_class if w.class_id is None else w.class_id for w in wanted]
        guided = [i for i, w in enumerate(wanted) if w.guided]
        class_ids = torch.tensor(labels + [prior.null_class] * len(guided), device=self.device)
        if not guided:
            return prior(codes, class_ids)
        logits = prior(torch.cat([codes, codes[guided]]), class_ids)
        conditional, unconditional = logits[: len(codes)], logits[len(codes) :]
        scale = torch.tensor([wanted[i].sampling.guidance_scale for i in guided], device=self.device)
        conditional[guided] = guide(conditional[guided], unconditional, scale)
        return conditional

    def finish(self, row: int) -> Codes:
        """The codes (C, H, W) of a row at its end; the row may be started anew."""
        with self._device_faults():
            del self._started[row]
            codes: Codes = self._codes[row].cpu().numpy().copy()
            return codes

    @torch.inference_mode()
    def encode(self, pixels: Pixels) -> Codes:
        """Codes (C, h/f, w/f) of pixels (h, w, 3) whose sides the grid divides."""
        with self._device_faults():
            image = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)
            batch = image.permute(2, 0, 1)[None].float().div(127.5).sub(1.0)
            codes: Codes = self.bundle.movq.encode_codes(batch.contiguous())[0].cpu().numpy()
            return codes

    @torch.inference_mode()
    def decode(self, codes: Codes) -> Pixels:
        """Pixels (H*f, W*f, 3) of codes (C, H, W)."""
        with self._device_faults():
            batch = torch.from_numpy(np.ascontiguousarray(codes)).to(self.device)[None]
            image = self.bundle.movq.decode_codes(batch)[0]
            bytes_ = image.add(1.0).mul(127.5).round().to(torch.uint8)
            pixels: Pixels = bytes_.permute(1, 2, 0).contiguous().cpu().numpy()
            return pixels

    @contextmanager
    def _device_faults(self) -> Iterator[None]:
        """A CUDA error leaves the device in an unknown state: say so, and let the process end."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if self.device.type == "cuda":
                raise DeviceFault(str(error)) from error
            raise
