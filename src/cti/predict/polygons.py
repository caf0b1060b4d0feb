"""Regions as polygons, without losing a pixel.

Polygons follow the half-way line between pixel centres, corners cut; no pixel centre changes sides, so drawing them
again (pycocotools, Pillow at pixel centres) gives the region back.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
from contourpy import FillType, LineType, contour_generator
from numpy.typing import NDArray
from scipy.spatial import KDTree

Points = NDArray[np.float64]

_TOUCHING = 0.45  # below one half, pixels that touch by a corner belong together
_REACH = 0.4  # of a pixel's outline in `pixel_polygons`: it stays within 0.25 of its middle


def region_polygons(region: NDArray[np.bool_]) -> list[Points]:
    """The connected parts of a region, one polygon each.

    COCO's polygons know no holes: a hole is joined to the outline by a cut of no width, walked twice.

    Args:
        region: (H, W).

    Returns:
        Per part (n, 2) corners x, y in pixels, where the top left pixel spans 0..1; not closed.
    """
    return [_joined(rings) for rings in _rings(region, 0.5)]


def pixel_polygons(region: NDArray[np.bool_]) -> list[Points]:
    """The parts of a region, one polygon each, for tools that round corners to pixels and draw the outline too.

    A corner lies less than half a pixel right of and below the origin of its pixel, so that rounding it down (as
    Ultralytics does) and to the nearest (as supervision does) both find that pixel, and the region is drawn as it is.
    Even a single pixel has an area and four corners.

    Args:
        region: (H, W). Pixels that touch by a corner only are one part.

    Returns:
        Per part (n, 2) corners x, y in pixels, where the top left pixel is 0; not closed. A hole is joined to the
        outline by a cut of no width, walked twice.
    """
    polygons = []
    for rings in _rings(region, _TOUCHING):
        inside = [_nearest_inside(ring, region) for ring in rings]
        near = [0.25 + pixel + _REACH * (ring - 0.5 - pixel) for ring, pixel in zip(rings, inside, strict=True)]
        polygons.append(_joined(near))
    return polygons


def _rings(region: NDArray[np.bool_], level: float) -> list[list[Points]]:
    """Per connected part its outline and its holes, where a region of ones on zeros crosses `level`."""
    padded = np.pad(region.astype(np.float64), 1)  # a region that touches the border must close there
    generator = contour_generator(z=padded, fill_type=FillType.OuterOffset, line_type=LineType.Separate)
    points, offsets = cast(tuple[list[Points], list[NDArray[np.uint32]]], generator.filled(level, np.inf))
    # the last corner of a ring is the first
    return [
        [corners[start : end - 1] - 0.5 for start, end in pairwise(starts)]
        for corners, starts in zip(points, offsets, strict=True)
    ]


def _nearest_inside(ring: Points, region: NDArray[np.bool_]) -> Points:
    """For each corner of a ring, which lies between two neighbouring pixels' centres, the one in the region."""
    low, high = np.floor(ring - 0.5).astype(int), np.ceil(ring - 0.5).astype(int)
    height, width = region.shape
    x, y = low.T
    within = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    is_low = np.zeros(len(ring), bool)
    is_low[within] = region[y[within], x[within]]
    return np.where(is_low[:, None], low, high).astype(np.float64)


def _joined(rings: list[Points]) -> Points:
    """An outline and its holes as one ring; the hole that is nearest to what is joined already comes next.

    So no cut runs through another hole.
    """
    joined, waiting = rings[0], list(rings[1:])
    cuts = [_shortest_cut(joined, hole) for hole in waiting]
    while waiting:
        place = min(range(len(cuts)), key=lambda index: cuts[index].length)
        cut, hole = cuts.pop(place), waiting.pop(place)
        here = int((joined == cut.start).all(axis=1).argmax())
        joined = np.concatenate([joined[: here + 1], hole[cut.end :], hole[: cut.end + 1], joined[here:]])
        cuts = [min(old, _shortest_cut(hole, other), key=_length) for old, other in zip(cuts, waiting, strict=True)]
    return joined


@dataclass(frozen=True)
class _Cut:
    """The shortest line from what is joined (its corner `start`) to a hole (the place `end` of its corner)."""

    length: float
    start: Points
    end: int


def _shortest_cut(ring: Points, hole: Points) -> _Cut:
    lengths, places = KDTree(ring).query(hole)
    end = int(lengths.argmin())
    return _Cut(float(lengths[end]), ring[places[end]], end)


def _length(cut: _Cut) -> float:
    return cut.length
