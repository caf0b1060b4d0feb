"""From grey pixels of any depth to 8 bits: no photo comes out nearly black because its file could hold more."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_DEPTHS = (8, 10, 12, 14, 16)  # bits of cameras, whatever the file could hold
_LEVELS = 8  # a photo of fewer grey levels than this after scaling shows nothing; its own range is taken then


def to_8_bit(pixels: NDArray[np.generic], bits: int = 0) -> NDArray[np.uint8]:
    """Scale grey pixels to 8 bits.

    Whole numbers are taken for those of the smallest usual depth (8, 10, 12, 14 or 16 bits) that holds all but one
    pixel in a thousand; a few hot pixels change nothing. Floats lie in [0, 1], in [0, 255] or are whole numbers of some
    depth. Anything else, and a range too narrow to show, is stretched between its own ends. Pixels that are no numbers
    are black, infinite ones the brightest or the darkest.

    Args:
        pixels: (H, W) or (H, W, channels), integers or floats.
        bits: Depth the file states; 0 = it does not.

    Returns:
        The same shape.
    """
    exact = np.float32 if pixels.dtype.itemsize <= 2 else np.float64
    values: NDArray[Any] = np.asarray(pixels, dtype=exact)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.zeros(values.shape, dtype=np.uint8)
    low = float(np.percentile(finite, 0.1, method="lower"))
    high = float(np.percentile(finite, 99.9, method="higher"))
    full = 1.0 if pixels.dtype.kind == "f" and high <= 1 else _full(high, bits)
    too_narrow = 0 < low < high and (high - low) * 256 < _LEVELS * full
    if low < 0 or full < high or too_narrow:
        values, full = values - low, high - low or 1.0
    values = np.nan_to_num(values, nan=0.0, posinf=full, neginf=0.0)
    return np.rint(np.clip(values, 0, full) * (255.0 / full)).astype(np.uint8)


def _full(high: float, bits: int) -> float:
    """The value that is white; below `high` where no depth holds it."""
    depth = bits or next((depth for depth in _DEPTHS if high < 2**depth), _DEPTHS[-1])
    return float(2**depth - 1)
