"""Masks drawn from COCO's annotations when they are asked for."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cti.classes import IGNORE_INDEX
from cti.data.images import MAX_PIXELS, image_size
from cti.data.readers.coco_file import Key, read_coco_file
from cti.files import JsonObject

_FAR = 16  # outlines may leave the photo a little; a corner this many photo sides away is a mistake


@dataclass(frozen=True)
class CocoMask:
    """A mask drawn from COCO annotations when it is asked for.

    Args:
        annotations: The `instances_*.json`.
        image_ids: COCO's number of the photo; several where the file lists the photo several times.
        size: (H, W) in pixels; None: that of the photo.
        image: The photo.
        table: 256 bytes; value `v` (rank of the category id, from 1) becomes `table[v]`.
        max_pixels: Larger photos are refused.
    """

    annotations: Path
    image_ids: tuple[Key, ...]
    size: tuple[int, int] | None
    image: Path
    table: bytes
    max_pixels: int = MAX_PIXELS

    def load(self) -> NDArray[np.uint8]:
        """See `cti.data.photos.MaskSource`."""
        return np.frombuffer(self.table, dtype=np.uint8)[self.draw()]

    def draw(self) -> NDArray[np.uint8]:
        """The mask in the file's own values; errors as for `load`."""
        file = read_coco_file(self.annotations)
        size = self.size or image_size(self.image, self.max_pixels)
        if size[0] * size[1] > self.max_pixels:
            raise ValueError(
                f"{self.annotations}: {self.image.name} is said to have {size[1]} x {size[0]} pixels, more than the "
                f"{self.max_pixels} allowed; correct its width and height, or raise data.max_pixels."
            )
        regions = [item for key in self.image_ids for item in file.annotations.get(key, [])]
        return draw_mask(regions, size, file.values, str(self.annotations))


def draw_mask(
    annotations: list[JsonObject], size: tuple[int, int], values: dict[int, int], source: str = "COCO", unsaid: int = 0
) -> NDArray[np.uint8]:
    """Paint annotations into a mask (docs/method.md): crowd regions 255 first, then instances, smaller ones later.

    Args:
        annotations: COCO annotations of one photo: `category_id`, `segmentation`, and perhaps `area` and `iscrowd`.
        size: (H, W) in pixels.
        values: Category id -> mask value.
        source: File to name in errors.
        unsaid: Value of a pixel that no annotation covers.

    Returns:
        (H, W) uint8.

    Raises:
        ModuleNotFoundError: without pycocotools.
        ValueError: if a segmentation cannot be drawn; the message names the annotation and what is wrong with it.
    """
    drawn: list[tuple[bool, float, int, NDArray[np.bool_]]] = []
    for item in annotations:
        try:
            inside = _inside(item.get("segmentation"), size)
            crowd = bool(int(item.get("iscrowd") or 0))
        except (TypeError, KeyError, IndexError, ValueError, OverflowError) as error:
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            number = item.get("id", "?")
            raise ValueError(f"{source}: annotation {number} cannot be drawn ({reason}); mend or remove it.") from error
        area = item.get("area")
        known = isinstance(area, int | float) and not isinstance(area, bool) and math.isfinite(area)
        value = IGNORE_INDEX if crowd else values[item["category_id"]]
        drawn.append((crowd, float(area) if known and area is not None else float(inside.sum()), value, inside))
    mask = np.full(size, unsaid, dtype=np.uint8)
    for _, _, value, inside in sorted(drawn, key=lambda region: (not region[0], -region[1])):
        mask[inside] = value
    return mask


def _inside(region: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) of an outline: polygons or run lengths."""
    try:
        from pycocotools import mask as coco_mask
    except ModuleNotFoundError as error:
        message = 'Drawing COCO masks needs pycocotools: pip install "cti[coco]" (or give ready-made masks).'
        raise ModuleNotFoundError(message) from error
    height, width = size
    if not region:
        raise ValueError("it has no outline, only a box; set data.masks to none to go without masks")
    if isinstance(region, dict):
        told = region.get("size")
        if told is not None and [int(side) for side in told] != [height, width]:
            raise ValueError(f"its run lengths are for {told[1]} x {told[0]} pixels, its photo has {width} x {height}")
        counts = region["counts"]
        if isinstance(counts, list):
            if any(int(count) < 0 for count in counts) or sum(map(int, counts)) != height * width:
                raise ValueError(f"its run lengths do not add up to {width} x {height} pixels")
            runs = coco_mask.frPyObjects({"size": [height, width], "counts": [int(c) for c in counts]}, height, width)
        else:
            runs = {"size": [height, width], "counts": counts}
        return np.asarray(coco_mask.decode(runs), dtype=bool)
    polygons = [corners for corners in map(_corners, _polygons(region)) if len(corners) >= 6]
    far = _FAR * max(size)
    if any(not math.isfinite(value) or abs(value) > far for corners in polygons for value in corners):
        raise ValueError("a corner of its outline lies far outside the photo")
    if not polygons:
        return np.zeros(size, dtype=bool)  # fewer than three corners: nothing
    runs = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return np.asarray(coco_mask.decode(runs), dtype=bool)


def _polygons(region: list[Any]) -> list[Any]:
    """The polygons of a list that may be one polygon itself."""
    if isinstance(region[0], list) and region[0] and isinstance(region[0][0], list):
        return region
    flat = not isinstance(region[0], list)
    pairs = not flat and all(isinstance(corner, list) and len(corner) == 2 for corner in region) and len(region) > 2
    return [region] if flat or pairs else region


def _corners(polygon: Any) -> list[float]:
    """x, y, x, y, ... of a polygon, also where its corners come as pairs."""
    flat = [value for item in polygon for value in (item if isinstance(item, list) else [item])]
    if len(flat) % 2:
        raise ValueError("its outline has an odd number of coordinates")
    return [float(value) for value in flat]
