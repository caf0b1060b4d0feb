"""Maps at the size of a photo, band by band: all of a large photo at once would fill the memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cti.method.attention import max_norm

BAND = 2**23
"""Most values of a band, 32 MB; smaller photos are one band."""


def bands(size: tuple[int, int], planes: int) -> Iterator[slice]:
    """The rows of bands, from top to bottom, of so many planes of (H, W) values."""
    height, width = size
    rows = max(BAND // (max(planes, 1) * width), 1)
    for start in range(0, height, rows):
        yield slice(start, min(start + rows, height))


def count_values(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many pixels of a mask (H, W) have each of the 256 values; numpy alone needs eight bytes a pixel for it."""
    counts = np.zeros(256, np.int64)
    for rows in bands((mask.shape[0], mask.shape[1]), 1):
        counts += np.bincount(mask[rows].ravel(), minlength=256)
    return counts


@dataclass(frozen=True, eq=False)
class Stretched:
    """Maps (n, h, w), to be read as if they were stretched bilinearly to (n, H, W).

    Args:
        maps: (n, h, w) float32 on the CPU.
        size: (H, W).
        norm: Bring each to [0, 1] by `max_norm`, over the whole of it.
    """

    maps: Tensor
    size: tuple[int, int]
    norm: bool = False

    @cached_property
    def whole(self) -> Tensor:
        """(n, H, W), all at once."""
        stretched = self._raw(slice(0, self.size[0]))
        return max_norm(stretched) if self.norm and len(stretched) else stretched

    def rows(self, rows: slice) -> Tensor:
        """Rows `rows.start` to `rows.stop` of it, (n, rows, W)."""
        if len(self.maps) * self.size[0] * self.size[1] <= BAND:
            return self.whole[:, rows]
        return max_norm(self._raw(rows), self._range) if self.norm else self._raw(rows)

    @cached_property
    def _range(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest value (n, 1, 1) of each stretched map, negative ones counting as 0."""
        ends = [self._raw(rows).relu().flatten(1).aminmax(dim=1) for rows in bands(self.size, len(self.maps))]
        low = torch.stack([end.min for end in ends]).amin(dim=0)
        high = torch.stack([end.max for end in ends]).amax(dim=0)
        return low[:, None, None], high[:, None, None]

    def _raw(self, rows: slice) -> Tensor:
        """Rows before `max_norm`. Bilinear interpolation is separable, so only a band of rows is ever mixed."""
        height, width = self.size
        if tuple(self.maps.shape[-2:]) == self.size:
            return self.maps[:, rows]
        count = rows.stop - rows.start
        if not len(self.maps):
            return self.maps.new_zeros((0, count, width))
        band = self.maps
        if count < height:
            places = (torch.arange(rows.start, rows.stop) + 0.5) * (band.shape[1] / height) - 0.5
            places = places.clamp(0, band.shape[1] - 1)
            above = places.long()
            share = (places - above)[:, None]
            below = (above + 1).clamp(max=band.shape[1] - 1)
            band = band[:, above] * (1 - share) + band[:, below] * share
        return F.interpolate(band[None], size=(count, width), mode="bilinear", align_corners=False)[0]
