"""Regions as polygons, without losing a pixel.

Polygons follow the half-way line between pixel centres, corners cut; no pixel centre changes sides, so drawing them
again (pycocotools, Pillow at pixel centres) gives the region back.
"""

from itertools import pairwise
from typing import cast

import numpy as np
from contourpy import FillType, LineType, contour_generator
from numpy.typing import NDArray

Points = NDArray[np.float64]


def region_polygons(region: NDArray[np.bool_]) -> list[Points]:
    """The connected parts of a region, one polygon each.

    COCO's polygons know no holes: a hole is joined to the outline by a cut of no width, walked twice.

    Args:
        region: (H, W).

    Returns:
        Per part (n, 2) corners x, y in pixels, where the top left pixel spans 0..1; not closed.
    """
    padded = np.pad(region.astype(np.float64), 1)  # a region that touches the border must close there
    generator = contour_generator(z=padded, fill_type=FillType.OuterOffset, line_type=LineType.Separate)
    points, offsets = cast(tuple[list[Points], list[NDArray[np.uint32]]], generator.filled(0.5, np.inf))
    polygons = []
    for corners, starts in zip(points, offsets, strict=True):
        rings = [corners[start : end - 1] - 0.5 for start, end in pairwise(starts)]  # the last corner is the first
        polygons.append(_joined(rings))
    return polygons


def _joined(rings: list[Points]) -> Points:
    """An outline and its holes as one ring, each hole cut open where it is nearest to what is joined already."""
    joined = rings[0]
    for hole in rings[1:]:
        distances = ((joined[:, None] - hole[None]) ** 2).sum(axis=-1)
        here, there = np.unravel_index(distances.argmin(), distances.shape)
        turned = np.concatenate([hole[there:], hole[: there + 1]])
        joined = np.concatenate([joined[: here + 1], turned, joined[here:]])
    return joined
