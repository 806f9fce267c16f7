"""A folder of images to measure: read in batches, as squares or as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from movq_core.training.folder import list_folder
from movq_core.training.image_file import WHITE, UnreadableImage, UnusableData, on_white


class View(StrEnum):
    """CROP: the square middle. PAD: all of it on white, as a square. WHOLE: as it is, of any shape."""

    CROP = "crop"
    PAD = "pad"
    WHOLE = "whole"


@dataclass(frozen=True)
class Pictures:
    """Images by name: their path below `root` without the suffix. Squares are `size` pixels a side."""

    root: Path
    files: dict[str, Path]
    view: View
    size: int

    @classmethod
    def open(cls, root: Path, view: View, size: int) -> Pictures:
        """Those of a folder or of its class folders; raises UnusableData."""
        files: dict[str, Path] = {}
        for file in list_folder(root).files:
            name = file.relative_to(root).with_suffix("").as_posix()
            if name in files:
                raise UnusableData(f"{files[name]} and {file.name}: two images of one name")
            files[name] = file
        if not files:
            raise UnusableData(f"{root} holds no images.")
        return cls(root, files, view, size)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def smallest_side(self) -> int:
        """Pixels of the shortest side of all images."""
        if self.view is not View.WHOLE:
            return self.size
        return min(min(self._dimensions(file)) for file in self.files.values())

    def _dimensions(self, file: Path) -> tuple[int, int]:
        try:
            with Image.open(file) as image:
                return image.size
        except (OSError, ValueError) as error:
            raise UnreadableImage(f"{file}: {error}") from error

    def batches(self, batch_size: int, names: Iterable[str] | None = None) -> Iterator[Tensor]:
        """All images, or those of `names`, in order: (B, 3, h, w) float32, whole numbers from 0 to 255.

        Images of one shape that follow one another share a batch. Raises UnreadableImage: figures of the
        rest would not be those of the folder.
        """
        images = (self.read(name) for name in (self.files if names is None else names))
        for _, alike in groupby(images, key=lambda image: image.shape):
            batch: list[Tensor] = []
            for image in alike:
                batch.append(image)
                if len(batch) == batch_size:
                    yield torch.stack(batch)
                    batch = []
            if batch:
                yield torch.stack(batch)

    def read(self, name: str) -> Tensor:
        """One image, upright and on white: (3, h, w) float32 from 0 to 255."""
        file = self.files[name]
        try:
            with Image.open(file) as image:
                seen = self._seen(on_white(ImageOps.exif_transpose(image)))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UnreadableImage(f"{file}: {error}") from error
        return torch.from_numpy(np.array(seen, np.float32)).permute(2, 0, 1).contiguous()

    def _seen(self, image: Image.Image) -> Image.Image:
        if self.view is View.WHOLE:
            return image
        square = (self.size, self.size)
        if self.view is View.CROP:
            return ImageOps.fit(image, square, Image.Resampling.LANCZOS)
        return ImageOps.pad(image, square, Image.Resampling.LANCZOS, color=WHITE)
