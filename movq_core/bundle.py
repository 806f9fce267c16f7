"""ModelBundle: a tokenizer, and mostly a prior, proved to fit; on disk one folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from movq_core.errors import BundleError
from movq_core.manifest import MASKGIT_FILE, MOVQ_FILE, Manifest, read_manifest, write_manifest
from movq_core.models.maskgit import MaskGIT
from movq_core.models.movq import MoVQ
from movq_core.public_weights import read_public_weights


@dataclass(frozen=True)
class ModelBundle:
    """Both models in eval mode, and what they are. Without a prior it can encode, decode and reconstruct."""

    manifest: Manifest
    movq: MoVQ
    maskgit: MaskGIT | None

    @classmethod
    def random(cls, manifest: Manifest, seed: int = 0) -> ModelBundle:
        """Untrained weights: for tests and benchmarks of speed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            movq = MoVQ(manifest.movq)
            maskgit = MaskGIT(manifest.maskgit) if manifest.maskgit else None
        return cls(manifest, movq.eval(), maskgit.eval() if maskgit else None)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> ModelBundle:
        """Every tensor must be there, fit and be used; raises BundleError that says which is not."""
        manifest = read_manifest(folder)
        with torch.device("meta"):
            movq = MoVQ(manifest.movq)
            maskgit = MaskGIT(manifest.maskgit) if manifest.maskgit else None
        _load_weights(movq, folder / MOVQ_FILE, device)
        if maskgit is not None:
            _load_weights(maskgit, folder / MASKGIT_FILE, device)
        return cls(manifest, movq, maskgit)

    def save(self, folder: Path) -> None:
        """Write config, labels and weights (float32) into `folder`."""
        write_manifest(self.manifest, folder)
        save_file(_contiguous(self.movq), folder / MOVQ_FILE)
        if self.maskgit is not None:
            save_file(_contiguous(self.maskgit), folder / MASKGIT_FILE)


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


def _contiguous(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in module.state_dict().items()}


def _load_weights(module: nn.Module, path: Path, device: str) -> None:
    try:
        tensors = load_file(path, device=device)
        module.load_state_dict(tensors, strict=True, assign=True)
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing") from error
    except SafetensorError as error:
        raise BundleError(f"{path} is not a safetensors file: {error}") from error
    except RuntimeError as error:
        raise BundleError(f"the weights in {path} do not fit its config.json: {error}") from error
    module.eval().requires_grad_(False)
