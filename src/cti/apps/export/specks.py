"""Specks: parts of a few pixels, which as outlines are only in the way of whoever corrects or learns from them."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cti.classes import IGNORE_INDEX

MOST_PIXELS = 16
MOST_SHARE = 1 / 10_000
"""Of the photo's pixels: on small photos few pixels may be a thing."""

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def without_specks(mask: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """Leave out, as background, the parts of classes that are too small for an outline; all polygons are made of that.

    A part (corners connect) is a speck if it has fewer pixels than `MOST_PIXELS`, and than `MOST_SHARE` of the photo.
    The largest part of a class always stays, so that no class of a photo is lost.

    Args:
        mask: (H, W) mask values.

    Returns:
        The mask (H, W), and the number of specks that are left out of it.
    """
    limit = min(MOST_PIXELS, MOST_SHARE * mask.size)
    found, left_out = mask, 0
    for value in np.unique(mask).tolist():
        if value in (0, IGNORE_INDEX):
            continue
        labels, _ = ndimage.label(mask == value, structure=_EIGHT_NEIGHBOURS)
        sizes = np.bincount(labels.ravel())
        specks = sizes < limit
        specks[0] = specks[1 + int(sizes[1:].argmax())] = False  # what is not of this class, and its largest part
        if specks.any():
            found = np.where(specks[labels], np.uint8(0), found)
            left_out += int(specks.sum())
    return found, left_out
