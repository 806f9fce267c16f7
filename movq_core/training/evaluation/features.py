"""Feature networks: LPIPS and the FID Inception from their files, and the tokenizer's own encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
import torchmetrics
from torch import Tensor

from movq_core.models.movq import MoVQ
from movq_core.training.evaluation.inception import FIDInception
from movq_core.training.evaluation.lpips import (
    ALEXNET_TAPS,
    LPIPS,
    VGG16_TAPS,
    alexnet_features,
    vgg16_features,
)
from movq_core.training.evaluation.weights_file import (
    ALEXNET,
    ALEXNET_HEADS,
    INCEPTION,
    VGG16,
    VGG16_HEADS,
    Tensors,
    WeightsError,
    fill,
    read_tensors,
)


class FeatureNetwork(Protocol):
    """Images to vectors, to compare distributions.

    `kind` stands in the figures' names; `name`, in files of statistics, tells weights apart too.
    """

    kind: str
    name: str

    def features(self, images: Tensor) -> Tensor:
        """Images (B, 3, h, w), 0 to 255, to features (B, D)."""
        ...


class InceptionFeatures:
    """The 2048 features of FID, and the logits of IS."""

    kind = "FID Inception"
    name = "FID Inception 2015-12-05"

    def __init__(self, network: FIDInception) -> None:
        self._network = network

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        return self._network(images)

    @torch.inference_mode()
    def logits(self, features: Tensor) -> Tensor:
        """Features (N, 2048) to logits (N, 1008), on the CPU."""
        return self._network.logits(features.to(self._network.fc.weight.device)).cpu()


class EncoderFeatures:
    """A stand-in that needs no download: what a tokenizer's encoder sees, averaged over the image.

    z_channels features, which know of colour and texture and little of meaning. Their figures compare only
    among images seen by the same tokenizer.
    """

    kind = "movq encoder"

    def __init__(self, movq: MoVQ, fingerprint: str) -> None:
        self.name = f"movq encoder {fingerprint}"
        self._movq = movq

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        pixels = padded(images / 127.5 - 1.0, self._movq.config.downsampling_factor)
        return self._movq.encode(pixels).mean((2, 3))


def padded(pixels: Tensor, factor: int) -> Tensor:
    """(B, 3, h, w) with its last row and column repeated up to multiples of `factor`."""
    height, width = pixels.shape[-2:]
    return F.pad(pixels, (0, -width % factor, 0, -height % factor), mode="replicate")


def load_inception(path: Path, allow_unknown: bool = False) -> FIDInception:
    """The FID Inception, frozen, from its file or the file's folder; raises WeightsError."""
    with torch.device("meta"):
        network = FIDInception()
    fill(network, read_tensors(path, [INCEPTION], allow_unknown), path)
    return network.float().eval().requires_grad_(False)


def load_lpips(path: Path, heads: Path | None = None, allow_unknown: bool = False) -> LPIPS:
    """LPIPS v0.1, frozen; raises WeightsError.

    `path` is torchvision's file of VGG16's or AlexNet's weights, a file of its `features` alone, or a folder
    with one of them. `heads` are the linear heads, by default those in torchmetrics' wheel.
    """
    backbone = _features_only(read_tensors(path, [VGG16, ALEXNET], allow_unknown), path)
    is_vgg = backbone["0.weight"].shape[-1] == 3
    network = (
        LPIPS("VGG16", vgg16_features(), VGG16_TAPS)
        if is_vgg
        else LPIPS("AlexNet", alexnet_features(), ALEXNET_TAPS)
    )
    fill(network.features, backbone, path)
    published = VGG16_HEADS if is_vgg else ALEXNET_HEADS
    heads = heads or Path(torchmetrics.__file__).parent / "functional/image/lpips_models" / published.name
    tensors = read_tensors(heads, [published], allow_unknown)
    # The authors keep a dropout, number 0, before each head.
    named = {
        name.removeprefix("lin").replace(".model.1.weight", ""): value for name, value in tensors.items()
    }
    fill(network.heads, named, heads)
    return network.float().eval().requires_grad_(False)


def _features_only(tensors: Tensors, path: Path) -> dict[str, Tensor]:
    """`features.0.weight` and its like as `0.weight`; the classifier is not needed."""
    kept = {
        name.removeprefix("features."): value
        for name, value in tensors.items()
        if not name.startswith("classifier.")
    }
    if "0.weight" not in kept:
        raise WeightsError(f"{path}: neither VGG16's nor AlexNet's weights: no features.0.weight")
    return kept
