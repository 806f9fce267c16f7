"""What the fields of a generation or an edit mean to one model."""

from __future__ import annotations

import re
import secrets
from collections.abc import Set

from movq_core.errors import InvalidRequest
from movq_core.manifest import Manifest
from movq_core.params import MAX_SEED, SamplingParams
from movq_core.protocol import EditRequest, GenerateRequest, ImageFormat
from service.schemas import EditFields, GenerationFields


def generation_request(
    fields: GenerationFields, manifest: Manifest, image_format: ImageFormat, owner: str | None
) -> GenerateRequest:
    """The job's request; raises InvalidRequest where the model cannot do it."""
    check_prior(manifest)
    return GenerateRequest(
        owner=owner,
        class_id=resolve_class(fields.class_id, fields.class_name, manifest),
        num_images=fields.num_images,
        sampling=chosen_sampling(fields, fields.model_fields_set, manifest),
        format=image_format,
    )


def edit_request(
    fields: EditFields,
    manifest: Manifest,
    image_format: ImageFormat,
    owner: str | None,
    *,
    image_key: str,
    mask_key: str | None,
) -> EditRequest:
    """The job's request; raises InvalidRequest where the model cannot do it."""
    check_prior(manifest)
    return EditRequest(
        owner=owner,
        image_key=image_key,
        mask_key=mask_key,
        class_id=resolve_class(fields.class_id, fields.class_name, manifest),
        num_images=fields.num_images,
        sampling=chosen_sampling(fields, fields.model_fields_set, manifest),
        strength=fields.strength,
        feather_px=fields.feather_px,
        format=image_format,
    )


def check_prior(manifest: Manifest) -> None:
    """Raises InvalidRequest for a tokenizer alone."""
    if manifest.maskgit is None:
        raise InvalidRequest(
            f"The model {manifest.name} has no prior: it reconstructs, but cannot generate or edit."
        )


def chosen_sampling(fields: SamplingParams, said: Set[str], manifest: Manifest) -> SamplingParams:
    """The model's own choices, overridden by what was `said`; a missing seed is drawn."""
    chosen = {name: getattr(fields, name) for name in SamplingParams.model_fields if name in said}
    chosen.setdefault("seed", secrets.randbelow(MAX_SEED + 1))
    return manifest.sampling.model_copy(update=chosen)


def resolve_class(by_id: int | None, name: str | None, manifest: Manifest) -> int | None:
    """The class's index; None is unconditional. Raises InvalidRequest when there is no such class."""
    labels = manifest.labels
    if by_id is None and name is None:
        return None
    if not labels:
        raise InvalidRequest(f"The model {manifest.name} has no classes; leave class_id and class_name out.")
    if by_id is not None and by_id >= len(labels):
        raise InvalidRequest(
            f"class_id {by_id} does not exist; allowed are 0 to {len(labels) - 1}, or null for no class."
        )
    if name is None:
        return by_id
    if name not in labels:
        raise InvalidRequest(f"class_name {name!r} does not exist; allowed are {listed(labels)}.")
    by_name = labels.index(name)
    if by_id is not None and by_id != by_name:
        raise InvalidRequest(
            f"class_id {by_id} is {labels[by_id]!r}, but class_name says {name!r}; give one of them."
        )
    return by_name


MAX_LISTED = 40


def listed(labels: tuple[str, ...]) -> str:
    """Class names for a sentence; of a thousand, the first and where the others are."""
    shown = ", ".join(labels[:MAX_LISTED])
    left = len(labels) - MAX_LISTED
    return f"{shown} and {left} more, which /v1/models/NAME/classes lists" if left > 0 else shown


def prompted_class(prompt: str, manifest: Manifest) -> int | None:
    """The class that a prompt names; None when it names none, or several equally.

    A name or an id alone, else the longest name that stands in the prompt as whole words, whatever the case.
    """
    labels, words = manifest.labels, prompt.strip().casefold()
    if words.isascii() and words.isdecimal() and int(words) < len(labels):
        return int(words)
    names = [label.casefold() for label in labels]
    if words in names:
        return names.index(words)
    found = [name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words)]
    longest = [name for name in found if len(name) == max(map(len, found))]
    return names.index(longest[0]) if len(set(longest)) == 1 else None
