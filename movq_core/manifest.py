"""Manifest: what a bundle on disk is, read without torch.

The service reads it for its bounds and class names; `bundle.py` adds the weights.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from movq_core.config import MaskGITConfig, MoVQConfig
from movq_core.errors import BundleError
from movq_core.params import SamplingParams
from movq_core.protocol import JobKind

CONFIG_FILE = "config.json"
LABELS_FILE = "labels.json"
MOVQ_FILE = "movq.safetensors"
MASKGIT_FILE = "maskgit.safetensors"
MAX_JSON_BYTES = 4 * 2**20  # of each of the two; read before anything in them is believed

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # it stands in URLs and in the keys of queues


class Manifest(BaseModel):
    """`config.json` and `labels.json` of a bundle.

    `sampling` holds the choices that suit this prior; a request overrides them one by one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    movq: MoVQConfig
    maskgit: MaskGITConfig | None = None
    sampling: SamplingParams = SamplingParams()
    labels: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files in a bundle's folder that it is made of."""
        weights = (MOVQ_FILE, MASKGIT_FILE) if self.maskgit else (MOVQ_FILE,)
        return (CONFIG_FILE, LABELS_FILE, *weights)

    @property
    def tasks(self) -> tuple[JobKind, ...]:
        """What can be asked of it: without a prior, neither to generate nor to edit."""
        needs_prior = (JobKind.GENERATE, JobKind.EDIT)
        return tuple(kind for kind in JobKind if self.maskgit or kind not in needs_prior)

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot name a bundle: 1 to 64 of a to z, 0 to 9, '.', '_' and '-' can, "
                "of which the first is a letter or a digit"
            )
        return name

    @model_validator(mode="after")
    def _fits(self) -> Self:
        prior, tokenizer = self.maskgit, self.movq
        if prior is None:
            return self
        ours = (prior.code_channels, prior.codebook_size, prior.grid_size)
        theirs = (tokenizer.code_channels, tokenizer.codebook_size, tokenizer.grid_size)
        if ours != theirs:
            raise ValueError(f"prior (channels, codebook, grid) {ours} != tokenizer's {theirs}")
        if len(self.labels) != prior.num_classes:
            raise ValueError(f"{len(self.labels)} labels for {prior.num_classes} classes")
        return self


def name_for(folder: Path) -> str:
    """A bundle's name, after its folder's: `My Model` gives `my-model`; `bundle` where nothing is left."""
    letters = re.sub(r"[^a-z0-9._-]+", "-", folder.resolve().name.lower())
    return letters.lstrip("._-")[:64].rstrip("._-") or "bundle"


def read_manifest(folder: Path) -> Manifest:
    """The manifest in `folder`; raises BundleError that names the file at fault."""
    config, labels = (_read_json(folder, name) for name in (CONFIG_FILE, LABELS_FILE))
    if not isinstance(config, dict):
        raise BundleError(f"{folder / CONFIG_FILE} is not a JSON object")
    try:
        return Manifest.model_validate({**config, "labels": labels})
    except ValidationError as error:
        faults = "; ".join(": ".join([*map(str, fault["loc"]), fault["msg"]]) for fault in error.errors())
        raise BundleError(f"the manifest in {folder} is not valid: {faults}") from error


def _read_json(folder: Path, name: str) -> Any:
    path = folder / name
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing: {folder} is not a bundle") from error
    if len(data) > MAX_JSON_BYTES:
        raise BundleError(f"{path} is longer than {MAX_JSON_BYTES:,} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        raise BundleError(f"the manifest in {folder} is not JSON: {error}") from error


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `config.json` and `labels.json` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = manifest.model_dump(mode="json", exclude={"labels"})
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    labels = json.dumps(list(manifest.labels), indent=2, ensure_ascii=False)
    (folder / LABELS_FILE).write_text(labels + "\n", encoding="utf-8")


def fingerprint(folder: Path) -> str:
    """First 12 hex digits of a SHA-256 over the bundle's config, labels and weights."""
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, LABELS_FILE, MOVQ_FILE, MASKGIT_FILE):
        path = folder / name
        if path.exists():
            digest.update(name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
