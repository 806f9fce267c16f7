"""ModelBundle: a tokenizer, and mostly a prior, proved to fit; on disk one folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from movq_core.checksums import check_files, write_checksums
from movq_core.errors import BundleError
from movq_core.manifest import MASKGIT_FILE, MOVQ_FILE, Manifest, read_manifest, write_manifest
from movq_core.models.maskgit import MaskGIT
from movq_core.models.movq import MoVQ


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
        """The files must be those that were exported, where that is known, and every tensor must be there,
        fit and be used; raises BundleError that says which is not.
        """
        manifest = read_manifest(folder)
        check_files(folder, manifest.files)
        with torch.device("meta"):
            movq = MoVQ(manifest.movq)
            maskgit = MaskGIT(manifest.maskgit) if manifest.maskgit else None
        _load_weights(movq, folder / MOVQ_FILE, device)
        if maskgit is not None:
            _load_weights(maskgit, folder / MASKGIT_FILE, device)
        return cls(manifest, movq, maskgit)

    def save(self, folder: Path) -> None:
        """Write config, labels, weights (float32) and their checksums into `folder`."""
        write_manifest(self.manifest, folder)
        save_file(_contiguous(self.movq), folder / MOVQ_FILE)
        if self.maskgit is not None:
            save_file(_contiguous(self.maskgit), folder / MASKGIT_FILE)
        write_checksums(folder, self.manifest.files)


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
