"""From grey pixels of any depth to 8 bits: no photo comes out nearly black because its file could hold more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cti.config import DataConfig

_DEPTHS = (8, 10, 12, 14, 16)  # bits of cameras, whatever the file could hold
_LEVELS = 8  # a photo of fewer grey levels than this after scaling shows nothing; its own range is taken then


@dataclass(frozen=True)
class Reading:
    """How the values in a file become 8-bit colours, the same for all photos of a data set and for new ones.

    Args:
        levels: What becomes black and white in photos of more than 8 bits (`data.levels`); empty = found for each one.
        bands: Which bands of files that have more than colours become red, green and blue (`data.bands`), counted
            from 1; empty = none was named.
    """

    levels: tuple[float, ...] = ()
    bands: tuple[int, ...] = ()

    @classmethod
    def of(cls, config: DataConfig) -> "Reading":
        """What the configuration says."""
        return cls(config.levels, config.bands)


AS_IT_IS = Reading()
"""By each photo's own range; files of many bands are refused."""


def to_8_bit(pixels: NDArray[np.generic], bits: int = 0, levels: Sequence[float] = ()) -> NDArray[np.uint8]:
    """Scale grey pixels to 8 bits.

    Whole numbers are taken for those of the smallest usual depth (8, 10, 12, 14 or 16 bits) that holds all but one
    pixel in a thousand; a few hot pixels change nothing. Floats lie in [0, 1], in [0, 255] or are whole numbers of some
    depth. Anything else, and a range too narrow to show, is stretched between its own ends. Pixels that are no numbers
    are black, infinite ones the brightest or the darkest.

    Args:
        pixels: (H, W) or (H, W, channels), integers or floats.
        bits: Depth the file states; 0 = it does not.
        levels: The values that become black and white, so that all photos are scaled alike; empty = found by the above.

    Returns:
        The same shape.
    """
    exact = np.float32 if pixels.dtype.itemsize <= 2 else np.float64
    values: NDArray[Any] = np.asarray(pixels, dtype=exact)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.zeros(values.shape, dtype=np.uint8)
    if levels:
        return _scaled(values - exact(levels[0]), levels[1] - levels[0])
    low, high = ends_of(finite)
    full = 1.0 if pixels.dtype.kind == "f" and high <= 1 else _full(high, bits)
    too_narrow = 0 < low < high and (high - low) * 256 < _LEVELS * full
    if low < 0 or full < high or too_narrow:
        values, full = values - low, high - low or 1.0
    return _scaled(values, full)


def ends_of(pixels: NDArray[Any]) -> tuple[float, float]:
    """The values that all but one pixel in a thousand reach, and do not exceed."""
    return (
        float(np.percentile(pixels, 0.1, method="lower")),
        float(np.percentile(pixels, 99.9, method="higher")),
    )


def _scaled(values: NDArray[Any], full: float) -> NDArray[np.uint8]:
    return np.rint(np.nan_to_num(np.clip(values, 0, full)) * (255.0 / full)).astype(np.uint8)


def _full(high: float, bits: int) -> float:
    """The value that is white; below `high` where no depth holds it."""
    depth = bits or next((depth for depth in _DEPTHS if high < 2**depth), _DEPTHS[-1])
    return float(2**depth - 1)
