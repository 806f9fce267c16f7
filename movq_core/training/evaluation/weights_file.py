"""Published weights of feature networks: files known by their SHA-256, read as tensors and nothing else."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from movq_core.errors import MovqError

Tensors = Mapping[str, Tensor]


class WeightsError(MovqError):
    """A file of weights is missing, is not the one that was published, or does not fit."""


@dataclass(frozen=True)
class Published:
    """A file that others measure with: its name, the digest of its bytes, and where it comes from."""

    name: str
    sha256: str
    source: str


VGG16 = Published(
    "vgg16-397923af.pth",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    "https://download.pytorch.org/models/vgg16-397923af.pth",
)
ALEXNET = Published(
    "alexnet-owt-7be5be79.pth",
    "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
)
# torch-fidelity publishes the same bytes as weights-inception-2015-12-05-6726825d.pth.
INCEPTION = Published(
    "pt_inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    "https://github.com/mseitzer/pytorch-fid/releases",
)
# LPIPS v0.1; the wheels of lpips and of torchmetrics hold the same bytes.
VGG16_HEADS = Published(
    "vgg.pth",
    "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    "https://github.com/richzhang/PerceptualSimilarity, lpips/weights/v0.1",
)
ALEXNET_HEADS = Published(
    "alex.pth",
    "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    "https://github.com/richzhang/PerceptualSimilarity, lpips/weights/v0.1",
)


def locate(path: Path, published: Iterable[Published]) -> Path:
    """`path`, or where it is a folder the first of the published files in it; raises WeightsError."""
    wanted = list(published)
    candidates = [path / file.name for file in wanted] if path.is_dir() else [path]
    found = [file for file in candidates if file.is_file()]
    if not found:
        names = " or ".join(f"{file.name} ({file.source})" for file in wanted)
        raise WeightsError(f"{path}: not there. Wanted is {names}.")
    return found[0]


def read_tensors(path: Path, published: Iterable[Published], allow_unknown: bool = False) -> Tensors:
    """The tensors in a `.pth` or `.safetensors`, by name; raises WeightsError.

    Its bytes must be those of one of the `published`, unless `allow_unknown`. A pickle that holds more than
    tensors is refused whatever its digest.
    """
    wanted = list(published)
    file = locate(path, wanted)
    data = file.read_bytes()  # hashed and read once: what is loaded is what was checked
    digest = hashlib.sha256(data).hexdigest()
    if not allow_unknown and digest not in {known.sha256 for known in wanted}:
        names = " or ".join(f"{known.name} ({known.sha256[:8]}...)" for known in wanted)
        raise WeightsError(
            f"{file}: its SHA-256 {digest[:8]}... is not that of {names}. "
            "Figures of other weights compare with nobody's; --allow-unknown-weights takes them all the same."
        )
    return _parse(file, data)


def _parse(file: Path, data: bytes) -> Tensors:
    try:
        if file.suffix == ".safetensors":
            return load(data)
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{file}: refused, the pickle holds more than tensors") from error
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(f"{file}: not a file of weights: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{file}: not a state dict, a mapping of names to tensors")
    return state


def fill(module: nn.Module, tensors: Tensors, origin: Path) -> None:
    """Make `tensors` those of `module`, which may be on "meta"; raises WeightsError: all of both must fit."""
    try:
        module.load_state_dict(dict(tensors), strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"{origin}: {error}") from error
