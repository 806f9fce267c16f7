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
    """A square of `image` (h, w, 3) that holds all of `mask` (h, w), and its surroundings.

    `top` and `left` may be negative: where the square sticks out, the image's edge is repeated.
    """

    image: Pixels
    mask: Mask
    top: int
    left: int
    side: int
    feather_px: int

    @classmethod
    def around(cls, image: Pixels, mask: Mask, least_px: int, feather_px: int) -> Self:
        """The smallest square with room for the mask, some context and the feather.

        It has at least `least_px` a side, but never more than the image's longer side, where all has room.
        """
        height, width = mask.shape
        rows, columns = _extent(mask, axis=0), _extent(mask, axis=1)
        longest = max(len(rows), len(columns))
        side = max(int(CONTEXT * longest), longest + 2 * feather_px, least_px)
        side = min(side, max(height, width))
        return cls(image, mask, _start(rows, side, height), _start(columns, side, width), side, feather_px)

    def pixels(self, size: int) -> Pixels:
        """What the window shows (size, size, 3); the image's own pixels where that is the window's side."""
        height, width = self.mask.shape
        rows = np.arange(self.top, self.top + self.side).clip(0, height - 1)
        columns = np.arange(self.left, self.left + self.side).clip(0, width - 1)
        return _resized(self.image[np.ix_(rows, columns)], size)

    def touched(self, size: int) -> Mask:
        """The mask at `size` (size, size): every pixel that the mask touches, however little of it."""
        mask = np.zeros((self.side, self.side), np.bool_)
        inside, part = self._inside()
        mask[inside] = self.mask[part]
        return _touched(_touched(mask, size).T, size).T

    def paste(self, pixels: Pixels) -> Pixels:
        """The image with `pixels` (size, size, 3) where it is masked; the seam fades over `feather_px`.

        A masked pixel is wholly new. One that is farther than `feather_px` from all of them is as it was.
        """
        inside, part = self._inside()
        new, old = _resized(pixels, self.side)[inside], self.image[part]
        blended = Image.composite(Image.fromarray(new), Image.fromarray(old), Image.fromarray(self._opacity))
        image = self.image.copy()
        image[part] = np.asarray(blended)
        return image

    @cached_property
    def _opacity(self) -> NDArray[np.uint8]:
        """How much of the new is seen, where window and image meet: 255 on the mask, 0 beyond the feather."""
        distance = distance_transform_edt(~self.mask[self._inside()[1]])
        opacity = np.where(distance <= self.feather_px, 1.0 - distance / (self.feather_px + 1), 0.0)
        return (255.0 * opacity).round().astype(np.uint8)

    def _inside(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """What window and image have in common: as a part of the window, and as a part of the image."""
        starts = (self.top, self.left)
        part = [
            slice(max(0, start), min(start + self.side, length))
            for start, length in zip(starts, self.mask.shape, strict=True)
        ]
        down, across = (slice(s.start - start, s.stop - start) for s, start in zip(part, starts, strict=True))
        return (down, across), (part[0], part[1])


def _extent(mask: Mask, axis: int) -> range:
    """From the first to the last place of an axis that is masked anywhere."""
    places = np.flatnonzero(mask.any(axis=1 - axis))
    return range(int(places[0]), int(places[-1]) + 1)


def _start(masked: range, side: int, length: int) -> int:
    """Where a window of `side` begins on an axis: `masked` in its middle, inside the image where it fits."""
    if side > length:
        return (length - side) // 2
    middle = masked.start - (side - len(masked)) // 2
    return min(max(0, middle), length - side)


def _resized(pixels: Pixels, size: int) -> Pixels:
    """A square of pixels at `size` to a side; a copy when it has it already."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def _touched(mask: Mask, size: int) -> Mask:
    """`size` rows of a mask, each whether the source rows under it are masked, those half under it too."""
    place, rows = np.arange(size), len(mask)
    first, last = place * rows // size, -(-(place + 1) * rows // size) - 1
    return np.asarray(np.logical_or.reduceat(mask, first, axis=0) | mask[last])
