"""Window: the square of an image that an edit is made in, and the way back into the image; Pillow, no torch.

See decision 17: the prior makes images of one size, and people edit images of any.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt

from movq_core.edits import Mask
from movq_core.tiles import Pixels

CONTEXT = 1.5  # sides of the window a side of what is masked: the prior has to see what it continues


@dataclass(frozen=True)
class Window:
    """The part of `image` (h, w, 3) at `rows` and `columns`: all of `mask` (h, w), and its surroundings.

    To the model it is shown as a square: where the image is too narrow for one, its edge is repeated.
    """

    image: Pixels
    mask: Mask
    rows: slice
    columns: slice
    feather_px: int

    @classmethod
    def around(cls, image: Pixels, mask: Mask, least_px: int, feather_px: int) -> Self:
        """The smallest square with room for the mask, some context and the feather.

        It has at least `least_px` a side, but never more than the image's longer side, where all has room.
        """
        rows, columns = _extent(mask, axis=0), _extent(mask, axis=1)
        longest = max(len(rows), len(columns))
        side = max(int(CONTEXT * longest), longest + 2 * feather_px, least_px)
        down, across = (
            _around(at, side, length) for at, length in zip((rows, columns), mask.shape, strict=True)
        )
        return cls(image, mask, down, across, feather_px)

    def pixels(self, size: int) -> Pixels:
        """What the window shows (size, size, 3); the image's own pixels where that is the window's side."""
        down, across = self._places(size)
        part = _resized(self.image[self.rows, self.columns], _length(down), _length(across))
        padding = [(place.start, size - place.stop) for place in (down, across)]
        return np.pad(part, [*padding, (0, 0)], mode="edge")

    def touched(self, size: int) -> Mask:
        """The mask at `size` (size, size): every pixel that the mask touches, however little of it."""
        down, across = self._places(size)
        mask = np.zeros((size, size), np.bool_)
        part = _touched(self.mask[self.rows, self.columns], _length(down))
        mask[down, across] = _touched(part.T, _length(across)).T
        return mask

    def paste(self, pixels: Pixels) -> Pixels:
        """The image with `pixels` (size, size, 3) where it is masked; the seam fades over `feather_px`.

        A masked pixel is wholly new. One that is farther than `feather_px` from all of them is as it was.
        """
        old = self.image[self.rows, self.columns]
        new = _resized(pixels[self._places(len(pixels))], *old.shape[:2])
        image = self.image.copy()
        layers = (Image.fromarray(layer) for layer in (new, old, self._opacity))
        image[self.rows, self.columns] = np.asarray(Image.composite(*layers))
        return image

    @cached_property
    def _opacity(self) -> NDArray[np.uint8]:
        """How much of the new is seen in the window: 255 on the mask, falling to 0 beyond the feather."""
        mask = self.mask[self.rows, self.columns]
        if mask.all():  # no seam; and for a large image its distances would take seconds
            return np.full(mask.shape, 255, np.uint8)
        distance = distance_transform_edt(~mask)
        opacity = np.where(distance <= self.feather_px, 1.0 - distance / (self.feather_px + 1), 0.0)
        return (255.0 * opacity).round().astype(np.uint8)

    def _places(self, size: int) -> tuple[slice, slice]:
        """Rows and columns of the square (size, size) where the window's part of the image is shown."""
        height, width = _length(self.rows), _length(self.columns)
        down, across = (max(1, round(length * size / max(height, width))) for length in (height, width))
        top, left = (size - down) // 2, (size - across) // 2
        return slice(top, top + down), slice(left, left + across)


def _extent(mask: Mask, axis: int) -> range:
    """From the first to the last place of an axis that is masked anywhere."""
    places = np.flatnonzero(mask.any(axis=1 - axis))
    return range(int(places[0]), int(places[-1]) + 1)


def _around(masked: range, side: int, length: int) -> slice:
    """`side` places of an axis with `masked` in their middle, inside the axis; all of a shorter one."""
    side = min(side, length)
    start = masked.start - (side - len(masked)) // 2
    start = min(max(0, start), length - side)
    return slice(start, start + side)


def _length(places: slice) -> int:
    return int(places.stop - places.start)


def _resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """Pixels at another size; a copy when they have it already."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def _touched(mask: Mask, rows: int) -> Mask:
    """`rows` rows of a mask, each whether the source rows under it are masked, those half under it too."""
    place, source = np.arange(rows), len(mask)
    first, last = place * source // rows, -(-(place + 1) * source // rows) - 1
    return np.asarray(np.logical_or.reduceat(mask, first, axis=0) | mask[last])
