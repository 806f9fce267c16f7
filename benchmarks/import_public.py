"""Do public weights mean the same here? Each public MoVQGAN size, built by diffusers, imported and compared.

`python -m benchmarks.import_public` builds the three sizes with random weights (diffusers 0.42 is the peer),
saves and imports them in layouts A, B and C, exports and imports again, and holds all weights against each
other to the bit. Then it prints differing codes and the largest difference of a pixel, for batches of 1 and
3 at 256x256 and 192x320. Minutes; 270M takes some 6 GiB.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import diffusers
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from movq_core.config import MOVQ_PRESETS, MoVQConfig
from movq_core.layouts import FLAT, to_theirs
from movq_core.models.movq import MoVQ
from movq_core.public_weights import import_tokenizer, read_public_weights, write_diffusers

SIZES = ((1, 256, 256), (3, 192, 320))


def build_peer(config: MoVQConfig) -> diffusers.VQModel:
    """diffusers' own model of this shape; weights and codebook random, no bias left at zero."""
    torch.manual_seed(0)
    plain, attending = len(config.channel_multipliers) - 1, 1
    peer = diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D",) * plain + ("AttnDownEncoderBlock2D",) * attending,
        up_block_types=("AttnUpDecoderBlock2D",) * attending + ("UpDecoderBlock2D",) * plain,
        block_out_channels=tuple(config.base_channels * m for m in config.channel_multipliers),
        layers_per_block=config.encoder_blocks,
        latent_channels=config.z_channels,
        vq_embed_dim=config.z_channels,
        num_vq_embeddings=config.codebook_size,
        norm_type="spatial",
    )
    peer.eval().requires_grad_(False)
    for parameter in peer.parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    peer.quantize.embedding.weight.normal_()
    return peer


def layouts(peer: diffusers.VQModel, folder: Path) -> dict[str, Path]:
    """The peer saved in each layout."""
    peer.save_pretrained(folder / "b")
    public = read_public_weights(folder / "b")
    flat = to_theirs(public.tensors, FLAT, public.config)
    linear = {k: v[:, :, 0, 0] if ".attn" in k and v.dim() == 4 else v for k, v in flat.items()}
    torch.save({"state_dict": flat}, folder / "a.ckpt")
    torch.save(linear, folder / "c.bin")
    return {"A": folder / "a.ckpt", "B": folder / "b", "C": folder / "c.bin"}


@torch.inference_mode()
def compare(ours: MoVQ, peer: diffusers.VQModel, size: tuple[int, int, int]) -> tuple[int, int, float]:
    """Codes that differ, codes in all, and the largest difference of a pixel in [-1, 1]."""
    batch, height, width = size
    pixels = torch.rand(batch, 3, height, width) * 2 - 1
    latents = peer.encode(pixels).latents
    codes = ours.encode_codes(pixels)
    wanted: Tensor = peer.quantize(latents)[2][2].view(codes.shape)
    difference = ours.decode_codes(wanted) - peer.decode(latents).sample.clamp(-1, 1)
    return int((codes != wanted).sum()), codes.numel(), float(difference.abs().max())


def equal(a: MoVQ, b: MoVQ) -> bool:
    """Whether two models have the same shape and the same weights, to the bit."""
    theirs = b.state_dict()
    return a.config == b.config and all(torch.equal(theirs[n], t) for n, t in a.state_dict().items())


def import_all(peer: diffusers.VQModel, folder: Path) -> tuple[MoVQ, str]:
    """The peer imported, and what its ways in and out have in common."""
    models = {layout: import_tokenizer(path) for layout, path in layouts(peer, folder).items()}
    write_diffusers(models["B"], folder / "out")
    models["B again"] = import_tokenizer(folder / "out")
    different = [name for name, model in models.items() if not equal(model, models["B"])]
    return models["B"], f"NOT equal: {', '.join(different)}" if different else "A = B = C = B exported"


def main(
    sizes: Annotated[str, typer.Option(help="which, comma-separated")] = "67m,102m,270m",
) -> None:
    """Print the comparison, a line an image size."""
    table = Table(
        "model", "tensors", "parameters", "weights", "batch, size", "codes differing", "pixels differ by"
    )
    for name in sizes.split(","):
        config = MOVQ_PRESETS[f"movqgan-{name}"]
        peer = build_peer(config)
        state = peer.state_dict()
        count = (str(len(state)), f"{sum(t.numel() for t in state.values()):,}")
        with tempfile.TemporaryDirectory() as place:
            ours, weights = import_all(peer, Path(place))
        assert ours.config == config
        for size in SIZES:
            wrong, codes, difference = compare(ours, peer, size)
            table.add_row(name, *count, weights, str(size), f"{wrong} of {codes}", f"{difference:.1e}")
    Console(width=140).print(table)


if __name__ == "__main__":
    typer.run(main)
