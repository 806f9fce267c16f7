"""From a folder of images to a bundle that can be served: what `movq train` does.

All that a run needs to go on is in its run folder: `plan.json`, the images and codes it has read, and both
trainers' checkpoints. The same command, given again, goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import track

from movq_core.bundle import ModelBundle
from movq_core.config import MaskGITConfig
from movq_core.errors import MovqError
from movq_core.manifest import CONFIG_FILE
from movq_core.params import SamplingParams
from movq_core.training.card import Card, measure, write_card
from movq_core.training.checkpoints import Checkpoints
from movq_core.training.distributed import Ranks
from movq_core.training.encode_dataset import CodeSet, load_codes, write_codes
from movq_core.training.export import DEMO_SAMPLING, export_bundle
from movq_core.training.folder import ImageFolder, load_folder
from movq_core.training.held_out import HeldOutPixels
from movq_core.training.image_file import Fit, Framing
from movq_core.training.image_set import FolderBatches
from movq_core.training.loop import run
from movq_core.training.recipes import MaskedPlan, TokenizerPlan, prior_plan, tokenizer_plan
from movq_core.training.train_maskgit import HeldOutCodes, PriorBatches, PriorTrainer
from movq_core.training.train_movq import TokenizerTrainer

# A preset names the recipes of both stages.
PRESETS = {"small-64": "emoji-64", "tiny": "tiny"}
SHARE_OF_A_STAGE = 0.45  # of the minutes; the rest reads, encodes, measures and draws
MIN_STEPS = 20
VERSIONS = 8  # of each picture, for the prior

Plan = TypeVar("Plan", TokenizerPlan, MaskedPlan)

console = Console()


class CannotTrain(MovqError):
    """What was asked does not fit the run that is there; the sentence says what to do."""


@dataclass(frozen=True)
class Order:
    """What the caller asked for. `minutes` or `steps` of each stage; neither: the recipes' own steps."""

    folder: Path
    out: Path
    run: Path
    preset: str = "small-64"
    minutes: float | None = None
    steps: int | None = None
    fit: Fit = Fit.CROP
    flip: bool = True
    seed: int = 0
    device: str = "auto"  # cpu, cuda, or auto


class RunPlan(BaseModel):
    """What a run keeps to until its end: `plan.json`. The `seconds` of a stage add up over sessions."""

    model_config = ConfigDict(extra="forbid")

    preset: str
    fit: Fit
    flip: bool
    seed: int
    images: str  # the folder's fingerprint
    tokenizer_steps: int
    prior_steps: int
    seconds: dict[str, float] = {}


class TwoStageRun:
    """One run: its images, its plan, and the stages in order."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.ranks = Ranks.join(order.device)
        self.tokenizer_plan = tokenizer_plan(PRESETS[order.preset])
        if (order.out / CONFIG_FILE).exists() and not self._plan_file.exists():
            raise CannotTrain(f"{order.out} holds a bundle that is not of {order.run}; choose another --out.")
        framing = Framing(self.tokenizer_plan.model.image_size, order.fit)
        self.images = load_folder(order.folder, framing, order.run / "images")
        tell_images(self.images)
        self.plan = self._read_plan() if self._plan_file.exists() else self._make_plan()

    @property
    def _plan_file(self) -> Path:
        return self.order.run / "plan.json"

    @property
    def _tokenizer(self) -> Checkpoints:
        return Checkpoints(self.order.run / "tokenizer")

    @property
    def _prior(self) -> Checkpoints:
        return Checkpoints(self.order.run / "prior")

    def go(self) -> ModelBundle:
        """Every stage from where it stands; the bundle at the end."""
        order, labels = self.order, self.images.labels
        with self._timed("tokenizer"):
            self._train_tokenizer()
        export_bundle(self._tokenizer.newest, None, order.out, ())
        bundle = ModelBundle.load(order.out, str(self.ranks.device))
        with self._timed("codes"):
            train, heldout = self._encode(bundle)
        with self._timed("prior"):
            self._train_prior(bundle, train, heldout)
        bundle = export_bundle(self._tokenizer.newest, self._prior.newest, order.out, labels, self._sampling)
        figures = measure(bundle, self.images, train, heldout)
        write_card(Card(bundle, self.images, figures, self._sampling, self._work()), order.out)
        return bundle

    def _work(self) -> dict[str, str]:
        """For the card: what was done, by stage."""
        plan, minutes = self.plan, {name: s / 60 for name, s in self.plan.seconds.items()}
        tokenizer, prior = self.tokenizer_plan.batch_size, self._prior_plan().batch_size
        return {
            "tokenizer": f"{plan.tokenizer_steps:,} x {tokenizer} | {minutes['tokenizer']:.1f}",
            "prior": f"{plan.prior_steps:,} x {prior} | {minutes['prior']:.1f}",
        }

    # -- the plan -------------------------------------------------------------------------------

    def _read_plan(self) -> RunPlan:
        plan = RunPlan.model_validate_json(self._plan_file.read_text())
        if plan.images != self.images.fingerprint:
            raise CannotTrain(
                f"The images in {self.order.folder}, or how they are framed, changed since {self.order.run} "
                "began: choose another --out, or remove that run."
            )
        if (plan.preset, plan.flip, plan.seed) != (self.order.preset, self.order.flip, self.order.seed):
            raise CannotTrain(
                f"{self.order.run} began with --preset {plan.preset} --seed {plan.seed} "
                f"{'--flip' if plan.flip else '--no-flip'}: give the same, or choose another --out."
            )
        console.print(f"{self.order.run} goes on: {plan.tokenizer_steps} and {plan.prior_steps} steps.")
        return plan

    def _make_plan(self) -> RunPlan:
        """Time a few real steps of both stages, say what it will take, and write it down."""
        order = self.order
        seconds = self._seconds_a_step()
        if order.minutes is not None:
            budget = order.minutes * 60 * SHARE_OF_A_STAGE
            steps = [max(MIN_STEPS, int(budget / s)) for s in seconds]
        else:
            steps = [order.steps or self.tokenizer_plan.steps, order.steps or self._prior_plan().steps]
        minutes = sum(n * s for n, s in zip(steps, seconds, strict=True)) / 60 / (2 * SHARE_OF_A_STAGE)
        console.print(
            f"About {minutes:.0f} minutes on this machine: {steps[0]:,} steps of the tokenizer at "
            f"{1 / seconds[0]:.1f} a second, {steps[1]:,} of the prior at {1 / seconds[1]:.1f}. "
            "Ctrl-C stops it; the same command goes on."
        )
        plan = RunPlan(
            preset=order.preset,
            fit=order.fit,
            flip=order.flip,
            seed=order.seed,
            images=self.images.fingerprint,
            tokenizer_steps=steps[0],
            prior_steps=steps[1],
        )
        self._write_plan(plan)
        return plan

    def _write_plan(self, plan: RunPlan) -> None:
        self._plan_file.parent.mkdir(parents=True, exist_ok=True)
        aside = self._plan_file.with_suffix(".part")
        aside.write_text(plan.model_dump_json(indent=2) + "\n")
        aside.replace(self._plan_file)

    def _seconds_a_step(self) -> tuple[float, float]:
        """Measured on throw-away trainers: the prior's on codes that are all zero."""
        movq = self.tokenizer_plan.model
        shape = (len(self.images.train), 1, movq.code_channels, movq.grid_size, movq.grid_size)
        train = self.images.train
        nothing = CodeSet(np.zeros(shape, np.int16), train.classes, train.bases)
        tokenizer = self._tokenizer_trainer(self.tokenizer_plan)
        prior = self._prior_trainer(self._prior_plan(), nothing)
        return time_steps(tokenizer.train_step), time_steps(prior.train_step)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.plan.seconds[stage] = self.plan.seconds.get(stage, 0.0) + time.monotonic() - started
            self._write_plan(self.plan)

    # -- the tokenizer --------------------------------------------------------------------------

    def _tokenizer_trainer(self, plan: TokenizerPlan) -> TokenizerTrainer:
        batches = FolderBatches(self.images.train, plan.batch_size, self.order.flip)
        return TokenizerTrainer(plan.model, plan, batches, self.ranks)

    def _train_tokenizer(self) -> None:
        plan = paced(self.tokenizer_plan, self.plan.tokenizer_steps, self.plan.seed)
        trainer = self._tokenizer_trainer(plan)
        state = self._tokenizer.load()
        if state is not None:
            trainer.load_state_dict(state)
        else:
            trainer.start_codebook()
        pixels = {"images": self.images.heldout.pixels().to(self.ranks.device)}
        held_out = HeldOutPixels(trainer.ema.module, pixels)
        run(trainer, held_out.evaluate, self._tokenizer.folder)

    def _encode(self, bundle: ModelBundle) -> tuple[CodeSet, CodeSet]:
        """Codes of the training and of the held-out images, written once: the tokenizer is finished."""
        rng, images = np.random.default_rng(self.plan.seed), self.images
        sources = [("train", images.train, VERSIONS), ("heldout", images.heldout, 1)]
        for split, pictures, count in sources:
            path = self._codes(split)
            if not path.exists():
                versions = pictures.versions(count, self.plan.flip, rng)
                write_codes(bundle.movq, track(versions, f"codes {split}", console=console), path)
        return load_codes(self._codes("train")), load_codes(self._codes("heldout"))

    def _codes(self, split: str) -> Path:
        return self.order.run / "codes" / f"{split}.npz"

    # -- the prior ------------------------------------------------------------------------------

    @property
    def _sampling(self) -> SamplingParams:
        """Guidance needs classes to guide towards."""
        return DEMO_SAMPLING if self.images.labels else DEMO_SAMPLING.model_copy(update={"guidance_scale": 1})

    def _prior_plan(self) -> MaskedPlan:
        plan = prior_plan(PRESETS[self.order.preset])
        assert isinstance(plan, MaskedPlan)
        config = plan.model.model_dump() | {"num_classes": len(self.images.labels)}
        return plan.model_copy(update={"model": MaskGITConfig.model_validate(config)})

    def _prior_trainer(self, plan: MaskedPlan, codes: CodeSet) -> PriorTrainer:
        return PriorTrainer(plan.model, plan, PriorBatches(codes, plan.batch_size), self.ranks)

    def _train_prior(self, bundle: ModelBundle, train: CodeSet, heldout: CodeSet) -> None:
        trainer = self._prior_trainer(paced(self._prior_plan(), self.plan.prior_steps, self.plan.seed), train)
        state = self._prior.load()
        if state is not None:
            trainer.load_state_dict(state)
        held_out = HeldOutCodes(trainer.ema.module, heldout, bundle)
        run(trainer, held_out.evaluate, self._prior.folder)


def paced(plan: Plan, steps: int, seed: int) -> Plan:
    """The plan for so many steps: a short run warms up and looks about in proportion."""
    return plan.model_copy(
        update={
            "steps": steps,
            "seed": seed,
            "warmup": min(plan.warmup, steps // 10),
            "evaluate_every": min(plan.evaluate_every, -(-steps // 4)),
        }
    )


def time_steps(step: Callable[[], object], warm: int = 3, timed: int = 9) -> float:
    """Seconds a step: the median, after the first few."""
    seconds = []
    for _ in range(warm + timed):
        started = time.monotonic()
        step()
        seconds.append(time.monotonic() - started)
    return max(1e-6, median(seconds[warm:]))


def tell_images(images: ImageFolder) -> None:
    """What was found, and what was not readable."""
    kinds = f"in {len(images.labels)} classes" if images.labels else "without classes"
    console.print(f"{len(images.train)} images to learn from and {len(images.heldout)} held out, {kinds}.")
    if images.broken:
        some = ", ".join(images.broken[:3]) + (", ..." if len(images.broken) > 3 else "")
        console.print(f"Broken files, skipped: {len(images.broken)} ({some})")
