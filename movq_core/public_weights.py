"""Public weights on disk: read in any layout, tensors only, and written as diffusers reads them.

Nothing that serves imports this module: it alone in `movq_core` reads pickles, if only their tensors.
"""

from __future__ import annotations

import json
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from movq_core.config import MoVQConfig
from movq_core.errors import BundleError
from movq_core.layouts import (
    DIFFUSERS,
    Layout,
    Tensors,
    find_layout,
    infer_config,
    modern,
    to_ours,
    to_theirs,
)
from movq_core.models.movq import MoVQ

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
_DIFFUSERS_FILES = (WEIGHTS, "diffusion_pytorch_model.bin")
SPATIAL_NORM_GROUPS = 32  # written into MoVQGAN's and diffusers' code, whatever norm_num_groups says
# Beside the weights in a training checkpoint: the critic and its features, and averaged weights.
_TRAINING = ("loss.", "ema_", "model_ema.")
# What torch's reader of tensors raises, beside its own, on bytes that are no checkpoint.
_READ_ERRORS = (
    RuntimeError, EOFError, LookupError, AttributeError, TypeError, ValueError, AssertionError, OSError,
    OverflowError, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class PublicWeights:
    """Public weights in our names (float32), the shape they have, and the names that were left out."""

    layout: Layout
    config: MoVQConfig
    tensors: Tensors
    ignored: tuple[str, ...]


def read_public_weights(path: Path, prefer_ema: bool = False) -> PublicWeights:
    """Read a file or a diffusers folder in layout A, B or C.

    `prefer_ema` takes the averaged weights, which must be complete. Raises BundleError that names the tensor
    at fault; a pickle that holds more than tensors is refused.
    """
    file, groups = _locate(path)
    try:
        found = {modern(name): tensor for name, tensor in _read_tensors(file).items()}
        ignored = tuple(name for name in found if name.startswith(_TRAINING))
        tensors = {name: tensor for name, tensor in found.items() if name not in ignored}
        if prefer_ema:
            tensors = _averaged(tensors, {name: found[name] for name in ignored})
        layout = find_layout(tensors)
        config = infer_config(tensors, layout, groups)
        _check_groups(config)
        with torch.device("meta"):
            shapes = {name: tensor.shape for name, tensor in MoVQ(config).state_dict().items()}
        return PublicWeights(layout, config, to_ours(tensors, layout, config, shapes), ignored)
    except (BundleError, ValueError) as error:
        raise BundleError(f"{file}: {error}") from error


def import_tokenizer(path: Path | str, prefer_ema: bool = False) -> MoVQ:
    """A MoVQ in eval mode with public weights: a file or a diffusers folder, in layout A, B or C.

    The layout is found, every tensor must be there, fit and be used; raises BundleError that says which is
    not, and for pickles that hold more than tensors. `prefer_ema` takes a checkpoint's averaged weights.
    """
    public = read_public_weights(Path(path), prefer_ema)
    with torch.device("meta"):
        movq = MoVQ(public.config)
    movq.load_state_dict(public.tensors, strict=True, assign=True)
    return movq.eval().requires_grad_(False)


def _check_groups(config: MoVQConfig) -> None:
    if config.decoder_norm == "spatial" and config.norm_groups != SPATIAL_NORM_GROUPS:
        raise BundleError(f"public spatial norms have {SPATIAL_NORM_GROUPS} groups, not {config.norm_groups}")


def _locate(path: Path) -> tuple[Path, int]:
    """The weights file and its norm's groups, from a file or a folder."""
    folder = path if path.is_dir() else path.parent
    file = path
    if path.is_dir():
        files = [path / name for name in _DIFFUSERS_FILES if (path / name).exists()]
        if not files:
            raise BundleError(f"{path} holds none of {', '.join(_DIFFUSERS_FILES)}")
        file = files[0]
    if not file.exists():
        raise BundleError(f"{file} is missing")
    config = folder / CONFIG
    try:
        beside = json.loads(config.read_bytes()) if config.exists() else {}
        return file, int(beside.get("norm_num_groups", SPATIAL_NORM_GROUPS))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{config} is no config of diffusers: {error}") from error


def _read_tensors(file: Path) -> Tensors:
    """The state dict in `file`, at its top or under "state_dict"."""
    state: Any
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except SafetensorError as error:
            raise BundleError(f"not a safetensors file: {error}") from error
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BundleError("refused: the pickle holds more than tensors, and could run code") from error
    except _READ_ERRORS as error:
        raise BundleError(f"not a file of weights: {error}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BundleError("not a state dict: a mapping of names to tensors is wanted")
    return state


def _averaged(tensors: Tensors, training: Tensors) -> Tensors:
    """Each tensor's LitEma shadow: `ema_encoder.conv_inweight` is that of `encoder.conv_in.weight`."""
    shadows = {
        name.removeprefix("model_ema.").removeprefix("ema_").replace(".", ""): tensor
        for name, tensor in training.items()
    }
    missing = [name for name in tensors if name.replace(".", "") not in shadows]
    if missing:
        raise BundleError(f"no averaged weights of {', '.join(missing[:4])}")
    return {name: shadows[name.replace(".", "")] for name in tensors}


def write_diffusers(movq: MoVQ, folder: Path) -> None:
    """A folder that `diffusers.VQModel.from_pretrained` opens; raises BundleError for what it cannot hold."""
    config = movq.config
    if config.code_channels > 1 or config.patch_size > 1:
        raise BundleError("diffusers knows one code channel and no patches: this tokenizer cannot be written")
    if config.decoder_blocks != config.encoder_blocks + 1:
        raise BundleError("diffusers wants one block more a level in the decoder than in the encoder")
    _check_groups(config)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(to_theirs(_with_affine(movq), DIFFUSERS, config), folder / WEIGHTS)
    text = json.dumps(_diffusers_config(config), indent=2)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def _with_affine(movq: MoVQ) -> Tensors:
    """The state dict; a norm without its own weight and bias gets the ones that change nothing."""
    tensors = dict(movq.state_dict())
    for name, scale in movq.state_dict().items():
        norm, found, _ = name.partition(".scale.bias")
        if found and not movq.config.norm_affine:
            tensors[f"{norm}.norm.weight"] = torch.ones_like(scale)
            tensors[f"{norm}.norm.bias"] = torch.zeros_like(scale)
    return tensors


def _diffusers_config(config: MoVQConfig) -> dict[str, Any]:
    levels = range(len(config.channel_multipliers))
    attends = [level in config.attention_levels for level in levels]
    return {
        "_class_name": "VQModel",
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": [f"{'Attn' if attend else ''}DownEncoderBlock2D" for attend in attends],
        "up_block_types": [f"{'Attn' if attend else ''}UpDecoderBlock2D" for attend in attends[::-1]],
        "block_out_channels": [config.base_channels * m for m in config.channel_multipliers],
        "layers_per_block": config.encoder_blocks,
        "act_fn": "silu",
        "latent_channels": config.z_channels,
        "sample_size": config.image_size,
        "num_vq_embeddings": config.codebook_size,
        "norm_num_groups": config.norm_groups,
        "vq_embed_dim": config.z_channels,
        "norm_type": config.decoder_norm,
        "mid_block_add_attention": config.middle_attention,
    }
