"""Recipes: how a model is trained. Named ones are YAML files beside this module; a run saves its own.

A recipe file holds a recipe's keys and `model`: a preset's name, or the model's config itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from movq_core.config import (
    AUTOREGRESSIVE_PRESETS,
    MASKGIT_PRESETS,
    MOVQ_PRESETS,
    AutoregressiveConfig,
    MaskGITConfig,
    MoVQConfig,
)
from movq_core.errors import MovqError
from movq_core.params import MaskSchedule

P = TypeVar("P", bound=BaseModel)
Schedule = Literal["cosine", "linear", "constant"]


class UnusableRecipe(MovqError):
    """There is no such recipe, or a key or value of it is not allowed; the sentence says what is."""


class Recipe(BaseModel):
    """What both models' recipes have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(ge=1)  # optimiser steps
    batch_size: int = Field(ge=1)  # images of one optimiser step, over all ranks and micro-batches
    accumulate: int = Field(default=1, ge=1)  # micro-batches of a rank
    peak_rate: float = Field(ge=0.0)
    betas: tuple[float, float]
    weight_decay: float = Field(ge=0.0)
    warmup: int = Field(default=100, ge=0)
    schedule: Schedule = "cosine"
    clip_norm: float = Field(default=1.0, gt=0.0)
    ema_decay: float = Field(default=0.999, ge=0.0, lt=1.0)
    precision: Literal["float32", "bfloat16"] = "float32"  # of the forward pass; losses are float32
    compile: bool = False
    checkpoint_activations: bool = False
    evaluate_every: int = Field(default=1000, ge=1)
    log_every: int = Field(default=50, ge=1)
    keep_last: int = Field(default=1, ge=1)  # checkpoints
    seed: int = 0

    def check_divides(self, ranks: int) -> None:
        """Raises UnusableRecipe unless every micro-batch has the same number of images."""
        if self.batch_size % (ranks * self.accumulate):
            raise UnusableRecipe(
                f"batch_size {self.batch_size} is not a multiple of "
                f"{ranks} ranks x accumulate {self.accumulate}"
            )


class TokenizerRecipe(Recipe):
    """How a tokenizer is trained; the defaults are the demo's."""

    steps: int = Field(default=13_000, ge=1)
    batch_size: int = Field(default=8, ge=1)
    peak_rate: float = Field(default=1.2e-3, ge=0.0)
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(default=1e-4, ge=0.0)
    ema_decay: float = Field(default=0.998, ge=0.0, lt=1.0)
    train: Literal["all", "decoder"] = "all"  # "decoder": encoder and codebook stay as they are
    l1: float = Field(default=1.0, ge=0.0)
    l2: float = Field(default=1.0, ge=0.0)
    gradient: float = Field(default=0.5, ge=0.0)
    perceptual: float = Field(default=0.0, ge=0.0)
    lpips_weights: Path | None = None
    commitment: float = Field(default=0.25, ge=0.0)
    codebook: Literal["ema", "gradient"] = "ema"  # "gradient": VQGAN's codebook loss
    codebook_weight: float = Field(default=1.0, ge=0.0)  # of the codebook loss
    codebook_decay: float = Field(default=0.99, ge=0.0, lt=1.0)
    revive_below: float = Field(default=0.03, ge=0.0)  # of the mean usage of a code
    start_batches: int = Field(default=32, ge=1)  # whose vectors start the codebook, by k-means
    entropy_weight: float = Field(default=0.0, ge=0.0)
    entropy_temperature: float = Field(default=1.0, gt=0.0)  # squared distance at which usage softens
    disc_weight: float = Field(default=0.0, ge=0.0)  # 0: no critic
    disc_start: int = Field(default=0, ge=0)  # in optimiser steps
    disc_rate: float = Field(default=2e-4, ge=0.0)
    disc_betas: tuple[float, float] = (0.5, 0.9)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.perceptual and self.lpips_weights is None:
            raise ValueError("perceptual needs lpips_weights, the path of the LPIPS weights")
        return self


class PriorRecipe(Recipe):
    """How a prior is trained; the defaults are the demo's. The last two matter to a masked prior only."""

    steps: int = Field(default=11_000, ge=1)
    batch_size: int = Field(default=16, ge=1)
    peak_rate: float = Field(default=6e-4, ge=0.0)
    betas: tuple[float, float] = (0.9, 0.96)
    weight_decay: float = Field(default=0.045, ge=0.0)  # of matrices
    warmup: int = Field(default=300, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0.0, lt=1.0)
    class_dropout: float = Field(default=0.1, ge=0.0, le=1.0)
    visible_weight: float = Field(default=0.1, ge=0.0)
    mask_schedule: MaskSchedule = MaskSchedule.COSINE


class TokenizerPlan(TokenizerRecipe):
    """A tokenizer's recipe file: the recipe, and what it trains."""

    model: MoVQConfig


class MaskedPlan(PriorRecipe):
    """A masked prior's recipe file."""

    kind: Literal["masked"] = "masked"
    model: MaskGITConfig


class AutoregressivePlan(PriorRecipe):
    """An autoregressive prior's recipe file."""

    kind: Literal["autoregressive"]
    model: AutoregressiveConfig


PRIOR_PLANS: dict[str, type[MaskedPlan | AutoregressivePlan]] = {
    "masked": MaskedPlan,
    "autoregressive": AutoregressivePlan,
}


def tokenizer_plan(source: str, changes: Sequence[str] = ()) -> TokenizerPlan:
    """The recipe named `source`, or in that file, with `key=value` changes; raises UnusableRecipe."""
    return _validate(TokenizerPlan, _read("tokenizer", source, changes, MOVQ_PRESETS))


def prior_plan(source: str, changes: Sequence[str] = ()) -> MaskedPlan | AutoregressivePlan:
    """As `tokenizer_plan`; the key `kind` says which prior."""
    data = _read("prior", source, changes, {**AUTOREGRESSIVE_PRESETS, **MASKGIT_PRESETS})
    kind = data.get("kind", "masked")
    if kind not in PRIOR_PLANS:
        raise UnusableRecipe(f"kind is one of {', '.join(PRIOR_PLANS)}, not {kind}")
    return _validate(PRIOR_PLANS[kind], data)


def save_plan(plan: BaseModel, path: Path) -> None:
    """Write it with every default spelt out; the file is a recipe again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False))


def recipe_names(model: str) -> list[str]:
    """Names of the recipes of a "tokenizer" or a "prior"."""
    files = (entry.name for entry in _folder().iterdir())
    return sorted(
        name.removeprefix(f"{model}-").removesuffix(".yaml") for name in files if name.startswith(f"{model}-")
    )


def _folder() -> resources.abc.Traversable:
    return resources.files("movq_core.training") / "recipes"


def _read(
    model: str, source: str, changes: Sequence[str], presets: Mapping[str, BaseModel]
) -> dict[str, Any]:
    data = _parse(_text(model, source), source)
    if not isinstance(data, dict):
        raise UnusableRecipe(f"{source} holds no keys")
    _spell_out(data, presets)
    for change in changes:
        _apply(data, change)
        _spell_out(data, presets)
    return data


def _spell_out(data: dict[str, Any], presets: Mapping[str, BaseModel]) -> None:
    """Put the preset's config in the place of its name, so that a change can reach into it."""
    name = data.get("model")
    if isinstance(name, str):
        if name not in presets:
            raise UnusableRecipe(f"model is one of {', '.join(presets)}, or a config; not {name}")
        data["model"] = presets[name].model_dump(mode="json")


def _text(model: str, source: str) -> str:
    if source.endswith((".yaml", ".yml", ".json")):
        try:
            return Path(source).read_text()
        except OSError as error:
            raise UnusableRecipe(f"The recipe {source} cannot be read: {error}") from error
    names = recipe_names(model)
    if source not in names:
        raise UnusableRecipe(
            f"{source} is no recipe of a {model}: give a file.yaml, or one of {', '.join(names)}"
        )
    return (_folder() / f"{model}-{source}.yaml").read_text()


def _apply(data: dict[str, Any], change: str) -> None:
    """`key=value` or `model.key=value`, the value in YAML."""
    name, sign, value = change.partition("=")
    if not sign:
        raise UnusableRecipe(f"A change is key=value, not {change}")
    *outer, key = name.strip().split(".")
    place: Any = data
    for part in outer:
        place = place.get(part)
        if not isinstance(place, dict):
            raise UnusableRecipe(f"{name} is not a key: {part} holds none")
    place[key] = _parse(value, change)


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UnusableRecipe(f"{source} is not YAML: {error}") from error


def _validate(plan: type[P], data: dict[str, Any]) -> P:
    try:
        return plan.model_validate(data)
    except ValidationError as error:
        raise UnusableRecipe("; ".join(_sentence(plan, e) for e in error.errors())) from error


def _sentence(plan: type[BaseModel], error: Mapping[str, Any]) -> str:
    """What is wrong with one key, and what is allowed."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        owner: Any = plan.model_fields["model"].annotation if len(error["loc"]) > 1 else plan
        return f"{where} is not a key; allowed are {', '.join(owner.model_fields)}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}, not {error['input']!r}" if where else message
