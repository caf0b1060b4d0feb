"""Masks as Ultralytics' YOLO reads them for segmentation: one row `class x1 y1 x2 y2 ...` per object.

Its trainer takes a row of five columns for a box, and if any row of a file has more, every row for corners. So every
object is written as three corners or more, however small it is.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
import yaml
from numpy.typing import NDArray

from cti.classes import IGNORE_INDEX
from cti.predict.polygons import pixel_polygons


def yolo_rows(mask: NDArray[np.uint8]) -> list[str]:
    """A row per connected part (corners connect) of every class of a mask (H, W), coordinates in [0, 1]."""
    size = np.array(mask.shape[::-1])
    return [
        f"{value - 1} " + " ".join(f"{number:.6f}" for number in (polygon / size).ravel())
        for value in np.unique(mask).tolist()
        if value not in (0, IGNORE_INDEX)
        for polygon in pixel_polygons(mask == value)
    ]


def yolo_lists(images: Mapping[str, str], lists: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The files `train.txt` and `val.txt`, as far as a run has such lists: one image a line.

    Args:
        images: Id -> name of the image in `images/`.
        lists: Name -> ids; photos that are not exported are passed over.
    """
    found = {name: [images[photo] for photo in lists.get(name, ()) if photo in images] for name in ("train", "val")}
    return {
        f"{name}.txt": "".join(f"./{PurePosixPath('images', image)}\n" for image in names)
        for name, names in found.items()
        if names
    }


def yolo_yaml(classes: Sequence[str], lists: Mapping[str, str]) -> str:
    """The file `data.yaml`; a list that is not there is every image."""
    train, val = (f"{name}.txt" if f"{name}.txt" in lists else "images" for name in ("train", "val"))
    content = {"path": ".", "train": train, "val": val, "names": dict(enumerate(classes))}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
