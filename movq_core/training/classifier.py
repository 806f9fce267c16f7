"""A small classifier of the demo's classes, to judge the prior's samples by; trained on real images only."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor, nn

from movq_core.training.common import learning_rate, set_learning_rate
from movq_core.training.data import WHITE, EmojiSet, base_weights, composite, flipped, shifted, to_pixels


def build_classifier(num_classes: int) -> nn.Sequential:
    """Pixels (B, 3, 64, 64) in [-1, 1] -> logits (B, num_classes); four strided convs, 0.4 M parameters."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 128), (128, 192)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.GELU()]
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(192, num_classes)]
    return nn.Sequential(*layers, *pooled)


def class_balanced(emoji: EmojiSet) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Probabilities (N,): every class equally often, every base equally often within its class."""
    weights = np.zeros(len(emoji.classes))
    for class_id in np.unique(emoji.classes):
        members = emoji.classes == class_id
        weights[members] = base_weights(emoji.bases[members])
    return weights / weights.sum()


def train_classifier(
    emoji: EmojiSet, num_classes: int, steps: int = 1500, batch_size: int = 48, seed: int = 0
) -> nn.Sequential:
    """Train on `emoji` (all with a class), moved and mirrored; returns it in eval mode."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build_classifier(num_classes).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    weights = class_balanced(emoji)
    for step in track(range(steps), "classifier"):
        chosen = rng.choice(len(weights), batch_size, p=weights)
        images = flipped(shifted(emoji.images[chosen], 4, rng), rng.random(batch_size) < 0.5)
        logits = model(to_pixels(composite(images, WHITE)))
        loss = F.cross_entropy(logits, torch.from_numpy(emoji.classes[chosen]), label_smoothing=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        set_learning_rate(optimizer, learning_rate(step, steps, 2e-3, warmup=50))
        optimizer.step()
    return model.eval()


@torch.inference_mode()
def predict(model: nn.Module, pixels: Tensor, batch_size: int = 64) -> Tensor:
    """Class ids (N,) of pixels (N, 3, h, w) in [-1, 1]."""
    return torch.cat([model(part).argmax(1) for part in pixels.split(batch_size)])


def recall(predicted: Tensor, classes: Tensor, num_classes: int) -> list[float]:
    """Share of each class's images that were predicted to be of it; nan for a class without images."""
    hits = predicted == classes
    return [float(hits[classes == c].float().mean()) for c in range(num_classes)]
