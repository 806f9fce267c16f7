"""HeldOutPixels: what a tokenizer's run logs about images that it does not learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from movq_core.models.movq import MoVQ
from movq_core.training.common import image_grid
from movq_core.training.evaluate import evaluate_reconstruction, reconstruct


@dataclass(frozen=True)
class HeldOutPixels:
    """Held-out pixels (N, 3, S, S) in [-1, 1] by name, and what is logged about them."""

    movq: MoVQ
    pixels: Mapping[str, Tensor]

    def evaluate(self, writer: SummaryWriter, step: int) -> str:
        """Write figures and a grid of pairs to TensorBoard; returns a line for the terminal."""
        parts = []
        for name, held_out in self.pixels.items():
            pixels = held_out.to(next(self.movq.parameters()).device)
            figures = evaluate_reconstruction(self.movq, pixels)
            writer.add_scalar(f"heldout/{name}_psnr_db", figures.psnr_db, step)
            writer.add_scalar(f"heldout/{name}_ssim", figures.ssim, step)
            writer.add_scalar(f"heldout/{name}_codebook_used", figures.codebook_used, step)
            some = pixels[:: max(1, len(pixels) // 12)][:12]
            pairs = image_grid([some, reconstruct(self.movq, some)[0]])
            writer.add_image(f"heldout/{name}", pairs, step)
            used = f"{figures.codebook_used:.0%} of codes"
            parts.append(f"{name} {figures.psnr_db:.2f} dB {figures.ssim:.3f} {used}")
        return "  ".join(parts)
