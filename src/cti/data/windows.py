"""Large photos window by window, at their own scale: where windows lie, what they show, how what they say is joined.

What a network needs of memory then depends on the window, not on the photo.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor


def windows(length: int, window: int, stride: int = 0) -> list[slice]:
    """Windows that cover `length` pixels, evenly spread, at most `stride` apart.

    Args:
        length: Pixels (or patches) to cover.
        window: Side of a window; 0 = one window over everything.
        stride: Largest distance between neighbours; 0 = two thirds of the window.
    """
    if window == 0 or window >= length:
        return [slice(0, length)]
    room = length - window
    steps = -(-room // (stride or max(1, window * 2 // 3)))
    return [slice(start, start + window) for start in (room * step // steps for step in range(steps + 1))]


@dataclass(frozen=True)
class Window:
    """A part of a photo.

    Args:
        rows: Its patches from top to bottom, in the photo's patch grid.
        columns: Its patches from left to right.
        image: What it shows.
    """

    rows: slice
    columns: slice
    image: Image.Image


def photo_windows(image: Image.Image, size: tuple[int, int], side: int, patch_size: int) -> Iterator[Window]:
    """Windows of a photo that is seen at `size`, two thirds of their side apart.

    Args:
        image: RGB, any size; only a window of it is held beside it.
        size: (H, W) at which the photo is seen, multiples of the patch.
        side: Of a window in pixels, a multiple of the patch.
        patch_size: Side of a patch in pixels.
    """
    for rows in windows(size[0] // patch_size, side // patch_size):
        for columns in windows(size[1] // patch_size, side // patch_size):
            box = tuple(patch_size * edge for edge in (columns.start, rows.start, columns.stop, rows.stop))
            yield Window(rows, columns, part_of(image, size, box, Image.Resampling.BICUBIC))


def part_of(
    image: Image.Image, size: tuple[int, int], box: tuple[int, ...], resampling: Image.Resampling
) -> Image.Image:
    """A part of an image as it would be at another size, without making the whole at that size.

    Args:
        image: RGB.
        size: (H, W) of the whole.
        box: left, top, right, bottom of the part, in pixels of that size.
        resampling: How it is resized.
    """
    left, top, right, bottom = box
    if image.size == size[::-1]:
        return image.crop((left, top, right, bottom))
    y, x = image.height / size[0], image.width / size[1]
    place = (left * x, top * y, min(right * x, image.width), min(bottom * y, image.height))
    return image.resize((right - left, bottom - top), resampling, place)


class Joined:
    """What windows say, averaged where they overlap; the middle of a window counts most, so that no seam is seen.

    Args:
        grid: (h, w) of the whole photo.
    """

    def __init__(self, grid: tuple[int, int]) -> None:
        self._total: Tensor | None = None
        self._weights = torch.zeros(grid)

    def add(self, window: Window, maps: Tensor) -> None:
        """Add maps (c, h, w) of a window."""
        weights = _tent(maps.shape[-2])[:, None] * _tent(maps.shape[-1])
        if self._total is None:
            self._total = torch.zeros(len(maps), *self._weights.shape)
        self._total[:, window.rows, window.columns] += weights * maps.float().cpu()
        self._weights[window.rows, window.columns] += weights

    def maps(self) -> Tensor:
        """(c, h, w) float32 on the CPU; every place must lie in a window."""
        assert self._total is not None
        return self._total / self._weights


def _tent(length: int) -> Tensor:
    """Weights (length,) that fall from the middle to both ends, and are nowhere 0."""
    places = torch.arange(1, length + 1, dtype=torch.float32)
    return torch.minimum(places, length + 1 - places)
