"""Codec: a bundle as a compressor, pixels to `MovqFile` and back, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from movq_core import manifest, tiles
from movq_core.bundle import ModelBundle
from movq_core.entropy import DEFAULT_GROUPS, EntropyCoder
from movq_core.errors import InvalidMovqFile
from movq_core.movq_file import MovqFile, crc_of, pack_codes, unpack_codes
from movq_core.tiles import Codes, Pixels


class Codec:
    """One bundle; `fingerprint` is its name in the files. Without a prior every file is packed."""

    def __init__(self, bundle: ModelBundle, fingerprint: str) -> None:
        self.manifest = bundle.manifest
        self.fingerprint = fingerprint
        self._movq = bundle.movq
        self._coder = EntropyCoder(bundle.maskgit) if bundle.maskgit is not None else None

    @classmethod
    def load(cls, folder: Path) -> Codec:
        """Raises BundleError."""
        return cls(ModelBundle.load(folder), manifest.fingerprint(folder))

    def codes_of(self, pixels: Pixels) -> Codes:
        """Codes (C, ceil(h / f), ceil(w / f)) of pixels (h, w, 3)."""
        return tiles.finish(tiles.encode_tiles(self._encode, pixels, self.manifest.movq.downsampling_factor))

    def pixels_of(self, codes: Codes, size: tuple[int, int]) -> Pixels:
        """Pixels (h, w, 3) of `size` (h, w) from codes that cover it."""
        factor = self.manifest.movq.downsampling_factor
        return tiles.finish(tiles.decode_tiles(self._decode, codes, factor, size))

    def pack(self, codes: Codes, size: tuple[int, int]) -> MovqFile:
        """A file of `codes` (C, H, W) at log2 K bits each; raises InvalidMovqFile for what fits in none."""
        config = self.manifest.movq
        file = MovqFile(
            fingerprint=self.fingerprint,
            height=size[0],
            width=size[1],
            shape=(codes.shape[0], codes.shape[1], codes.shape[2]),
            codebook_size=config.codebook_size,
            groups=0,
            class_id=None,
            codes_crc=crc_of(codes),
            payload=pack_codes(codes, config.codebook_size),
        )
        file.check()
        return file

    def compress(
        self,
        codes: Codes,
        size: tuple[int, int],
        class_ids: Sequence[int | None] = (None,),
        groups: int = DEFAULT_GROUPS,
        verify: bool = True,
    ) -> MovqFile:
        """The smallest file: packed, or entropy-coded with one of `class_ids` (None: no class).

        `verify` decodes it once, and packs what does not come back.
        """
        packed = self.pack(codes, size)
        if self._coder is None:
            return packed
        payloads = {class_id: self._coder.encode(codes, class_id, groups) for class_id in class_ids}
        class_id, payload = min(payloads.items(), key=lambda item: len(item[1]))
        if len(payload) >= len(packed.payload):
            return packed
        file = packed.entropy_coded(payload, groups, class_id)
        return file if not verify or self._comes_back(file) else packed

    def _comes_back(self, file: MovqFile) -> bool:
        try:
            self.codes_in(file)
        except InvalidMovqFile:
            return False
        return True

    def codes_in(self, file: MovqFile) -> Codes:
        """The codes (C, H, W) that went into `file`.

        Raises InvalidMovqFile for another bundle's file, and rather than give any other codes.
        """
        self._check_ours(file)
        if file.groups == 0:
            return file.check_codes(unpack_codes(file.payload, file.shape, file.codebook_size))
        assert self._coder is not None
        return file.check_codes(self._coder.decode(file.payload, file.shape, file.class_id, file.groups))

    def decode(self, file: MovqFile) -> Pixels:
        """The picture (h, w, 3) in `file`; raises as `codes_in` does."""
        return self.pixels_of(self.codes_in(file), (file.height, file.width))

    def _check_ours(self, file: MovqFile) -> None:
        config, prior = self.manifest.movq, self.manifest.maskgit
        if file.fingerprint != self.fingerprint:
            raise InvalidMovqFile(
                f"the file is of bundle {file.fingerprint}; {self.manifest.name} is {self.fingerprint}"
            )
        factor = config.downsampling_factor
        shape = (config.code_channels, -(-file.height // factor), -(-file.width // factor))
        if (file.shape, file.codebook_size) != (shape, config.codebook_size):
            raise InvalidMovqFile(
                f"{file.width}x{file.height} pixels have codes {shape} of {config.codebook_size}, "
                f"not {file.shape} of {file.codebook_size}"
            )
        if file.groups and prior is None:
            raise InvalidMovqFile(f"the file is entropy-coded; {self.manifest.name} has no prior")
        if prior is not None and file.class_id is not None and file.class_id >= prior.num_classes:
            raise InvalidMovqFile(f"class {file.class_id}; {self.manifest.name} has {prior.num_classes}")

    @torch.inference_mode()
    def _encode(self, pixels: Pixels) -> Codes:
        image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
        codes: Codes = self._movq.encode_codes(image.float().div(127.5).sub(1.0).contiguous())[0].numpy()
        return codes

    @torch.inference_mode()
    def _decode(self, codes: Codes) -> Pixels:
        image = self._movq.decode_codes(torch.from_numpy(np.ascontiguousarray(codes))[None])[0]
        pixels: Pixels = image.add(1.0).mul(127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
        return pixels
