"""Layouts: how public MoVQ weights name their tensors, and our names for the same ones.

A  ai-forever/MoVQGAN: a flat state dict, or one under "state_dict"
B  diffusers `VQModel`: a folder with config.json, or its weights file
C  open-muse: A's names, with the attention's projections as Linear

A layout is a list of rewrites from our names to theirs, so that one table reads and writes, and whatever is
missing, left over or of another shape has a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from movq_core.config import MoVQConfig
from movq_core.errors import BundleError

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """`rewrites`: (pattern, replacement), all applied in order; `projections` replace "qkv".

    `linear`: 1x1 convs of ours that they write without the two last axes (both forms are read).
    `fine_first`: the decoder's levels are numbered from the finest, ours from the coarsest.
    """

    name: str
    down: str
    block: str
    attention: str
    middle_attention: str
    linear: str
    fine_first: bool
    rewrites: tuple[tuple[str, str], ...]
    projections: tuple[str, str, str]

    def names(self, ours: str, config: MoVQConfig) -> tuple[str, ...]:
        """Their names of our tensor: one, or three for a fused projection."""
        if self.fine_first:
            coarsest = len(config.channel_multipliers) - 1
            ours = re.sub(
                r"^(decoder\.\w+)\.(\d+)", lambda m: f"{m[1]}.{coarsest - int(m[2])}", ours, count=1
            )
        plain = _PLAIN_DECODER if config.decoder_norm == "group" else ()
        for pattern, replacement in (*self.rewrites, *plain):
            ours = re.sub(pattern, replacement, ours)
        return tuple(ours.replace("qkv", p) for p in self.projections) if "qkv" in ours else (ours,)


_PLAIN_NORM = (r"^(encoder\..*norm\w*)\.norm\.", r"\1.")
_SPATIAL_NORM = (
    (r"^(decoder\..*norm\w*)\.norm\.", r"\1.norm_layer."),
    (r"\.scale\.", ".conv_y."),
    (r"\.shift\.", ".conv_b."),
)
# VQGAN's own decoder has no modulation: its norms are named like the encoder's.
_PLAIN_DECODER = ((r"\.norm_layer\.", "."), (r"\.spatial_norm\.", ".group_norm."))
_CODEBOOK = (r"^quantizer\.codebook$", "quantize.embedding.weight")

FLAT = Layout(
    name="flat",
    down="down",
    block="block",
    attention="attn",
    middle_attention="mid.attn_1",
    linear=r"$^",
    fine_first=True,
    rewrites=(
        _CODEBOOK,
        (r"^encoder\.levels\.(\d+)", r"encoder.down.\1"),
        (r"^decoder\.levels\.(\d+)", r"decoder.up.\1"),
        (r"^encoder\.downsamples\.(\d+)", r"encoder.down.\1.downsample"),
        (r"^decoder\.upsamples\.(\d+)", r"decoder.up.\1.upsample"),
        (r"\.middle\.block(\d)", r".mid.block_\1"),
        (r"\.middle\.attention", ".mid.attn_1"),
        (r"\.blocks\.", ".block."),
        (r"\.attentions\.", ".attn."),
        (r"\.shortcut\.", ".nin_shortcut."),
        (r"(\.attn(?:_1|\.\d+))\.out\.", r"\1.proj_out."),
        _PLAIN_NORM,
        *_SPATIAL_NORM,
    ),
    projections=("q", "k", "v"),
)

DIFFUSERS = Layout(
    name="diffusers",
    down="down_blocks",
    block="resnets",
    attention="attentions",
    middle_attention="mid_block.attentions.0",
    linear=r"\.to_(q|k|v|out\.0)\.weight$",
    fine_first=False,
    rewrites=(
        _CODEBOOK,
        (r"^encoder\.levels\.(\d+)", r"encoder.down_blocks.\1"),
        (r"^decoder\.levels\.(\d+)", r"decoder.up_blocks.\1"),
        (r"^encoder\.downsamples\.(\d+)", r"encoder.down_blocks.\1.downsamplers.0"),
        (r"^decoder\.upsamples\.(\d+)", r"decoder.up_blocks.\1.upsamplers.0"),
        (r"\.middle\.block1", ".mid_block.resnets.0"),
        (r"\.middle\.block2", ".mid_block.resnets.1"),
        (r"\.middle\.attention", ".mid_block.attentions.0"),
        (r"\.blocks\.", ".resnets."),
        (r"\.shortcut\.", ".conv_shortcut."),
        (r"(\.attentions\.\d+)\.out\.", r"\1.to_out.0."),
        (r"^(encoder\..*attentions\.\d+)\.norm\.", r"\1.group_norm."),
        (r"^(decoder\..*attentions\.\d+)\.norm\.", r"\1.spatial_norm."),
        (r"coder\.norm_out\.", "coder.conv_norm_out."),
        _PLAIN_NORM,
        *_SPATIAL_NORM,
    ),
    projections=("to_q", "to_k", "to_v"),
)

# diffusers before 0.15
_OLD_PROJECTIONS = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def modern(name: str) -> str:
    """A tensor's name as diffusers writes it today."""
    module, _, kind = name.rpartition(".")
    parent, _, leaf = module.rpartition(".")
    if ".attentions." in name and leaf in _OLD_PROJECTIONS:
        return f"{parent}.{_OLD_PROJECTIONS[leaf]}.{kind}"
    return name


def find_layout(names: Iterable[str]) -> Layout:
    """The layout of a state dict with these names; raises BundleError when it is none of ours."""
    for layout in (DIFFUSERS, FLAT):
        if any(name.startswith(f"encoder.{layout.down}.") for name in names):
            return layout
    raise BundleError("neither encoder.down.* (MoVQGAN, open-muse) nor encoder.down_blocks.* (diffusers)")


def infer_config(tensors: Tensors, layout: Layout, norm_groups: int = 32) -> MoVQConfig:
    """The shape that the tensors' names and sizes tell; `norm_groups` they do not tell.

    Raises BundleError that names the first tensor that is not there.
    """
    encoder = rf"^encoder\.{layout.down}\.(\d+)"
    first_convs = {
        int(m[1]): len(tensors[m[0]])
        for m in _matches(tensors, rf"{encoder}\.{layout.block}\.0\.conv1\.weight$")
    }
    base_channels = len(_need(tensors, "encoder.conv_in.weight"))
    codebook_size, code_dim = _need(tensors, "quantize.embedding.weight").shape
    z_channels = len(_need(tensors, "quant_conv.weight"))
    blocks = {m[2] for m in _matches(tensors, rf"{encoder}\.{layout.block}\.(\d+)\.conv1\.weight$")}
    decoder_blocks = {
        m[1] for m in _matches(tensors, rf"^decoder\.\w+\.0\.{layout.block}\.(\d+)\.conv1\.weight$")
    }
    attending = {int(m[1]) for m in _matches(tensors, rf"{encoder}\.{layout.attention}\.0\.")}
    return MoVQConfig(
        base_channels=base_channels,
        channel_multipliers=tuple(first_convs[level] // base_channels for level in sorted(first_convs)),
        encoder_blocks=len(blocks),
        decoder_blocks=len(decoder_blocks),
        attention_levels=tuple(sorted(attending)),
        middle_attention=any(name.startswith(f"encoder.{layout.middle_attention}.") for name in tensors),
        code_channels=z_channels // code_dim,
        code_dim=code_dim,
        codebook_size=codebook_size,
        norm_groups=norm_groups,
        decoder_norm="spatial" if any(".conv_y." in name for name in tensors) else "group",
    )


def _matches(names: Iterable[str], pattern: str) -> Iterator[re.Match[str]]:
    return (match for name in names if (match := re.match(pattern, name)))


def _need(tensors: Tensors, name: str) -> Tensor:
    if name not in tensors:
        raise BundleError(f"{name} is missing")
    return tensors[name]


def to_ours(theirs: Tensors, layout: Layout, config: MoVQConfig, shapes: Mapping[str, torch.Size]) -> Tensors:
    """Our tensors, float32, of `shapes`; raises BundleError that names whatever is missing, left or unfit."""
    left, faults, result = dict(theirs), [], {}
    for ours, shape in shapes.items():
        names = layout.names(ours, config)
        faults += [f"{name} is missing" for name in names if name not in left]
        parts = [left.pop(name) for name in names if name in left]
        for name, part in zip(names, parts, strict=False):
            wanted = (shape[0] // len(names), *shape[1:])
            # A Linear is a 1x1 conv without its two last axes.
            if tuple(part.shape) not in (wanted, wanted[:2] if wanted[2:] == (1, 1) else wanted):
                faults.append(f"{name} is {tuple(part.shape)}, not {wanted}")
        if not faults:
            result[ours] = torch.cat([part.float() for part in parts]).reshape(shape)
    faults += [f"{name} is not known" for name in left]
    if faults:
        raise BundleError(f"{len(faults)} tensors do not fit: {'; '.join(faults[:8])}")
    return result


def to_theirs(ours: Tensors, layout: Layout, config: MoVQConfig) -> Tensors:
    """Their tensors: fused projections cut apart and, for diffusers, as Linear."""
    result = {}
    for name, tensor in ours.items():
        theirs = layout.names(name, config)
        for part_name, part in zip(theirs, tensor.chunk(len(theirs)), strict=True):
            linear = re.search(layout.linear, part_name) is not None
            result[part_name] = (part[:, :, 0, 0] if linear else part).contiguous()
    return result
