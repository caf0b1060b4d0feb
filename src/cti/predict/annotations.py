"""One mask as COCO annotations or as objects of the library `supervision`."""

import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cti.classes import IGNORE_INDEX
from cti.files import JsonObject
from cti.predict.polygons import region_polygons

Shape = Literal["polygons", "rle"]
Per = Literal["class", "component"]

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def mask_annotations(mask: NDArray[np.uint8], shape: Shape = "polygons", per: Per = "class") -> Iterator[JsonObject]:
    """COCO annotations of one mask (H, W), without `id` and `image_id`; see `export_coco`.

    Raises:
        ModuleNotFoundError: without pycocotools.
    """
    present = [int(value) for value in np.unique(mask) if value not in (0, IGNORE_INDEX)]
    for value in present:
        for region in _regions(mask == value, per):
            yield _annotation(region, value, shape, crowd=False)
    unsure = mask == IGNORE_INDEX
    if unsure.any():
        for value in present:
            yield _annotation(unsure, value, "rle", crowd=True)


def _regions(region: NDArray[np.bool_], per: Per) -> list[NDArray[np.bool_]]:
    if per == "class":
        return [region]
    labels, count = ndimage.label(region)
    return [labels == number for number in range(1, count + 1)]


def _annotation(region: NDArray[np.bool_], value: int, shape: Shape, crowd: bool) -> JsonObject:
    codes = run_length_codes()
    code = codes.encode(np.asfortranarray(region, dtype=np.uint8))
    segmentation: Any = (
        [polygon.ravel().tolist() for polygon in region_polygons(region)]
        if shape == "polygons"
        else {"size": code["size"], "counts": code["counts"].decode("ascii")}
    )
    return {
        "category_id": value,
        "segmentation": segmentation,
        "area": int(codes.area(code)),
        "bbox": codes.toBbox(code).tolist(),
        "iscrowd": int(crowd),
    }


def run_length_codes() -> Any:
    """pycocotools' run-length codes.

    Raises:
        ModuleNotFoundError: without pycocotools.
    """
    try:
        from pycocotools import mask
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('Exporting COCO needs pycocotools: pip install "cti[coco]".') from error
    return mask


def detections(mask: NDArray[np.uint8]) -> Any:
    """The connected parts (corners connect) of every class as `supervision.Detections`; `class_id` counts from 0.

    Raises:
        ModuleNotFoundError: without supervision.
    """
    sv = supervision()
    parts: list[NDArray[np.bool_]] = []
    values: list[int] = []
    for value in np.unique(mask).tolist():
        if value in (0, IGNORE_INDEX):
            continue
        labels, count = ndimage.label(mask == value, structure=_EIGHT_NEIGHBOURS)
        parts += [labels == number for number in range(1, count + 1)]
        values += [value - 1] * count
    if not parts:
        return sv.Detections.empty()
    stack = np.stack(parts)
    return sv.Detections(xyxy=sv.mask_to_xyxy(stack), mask=stack, class_id=np.array(values))


def supervision() -> Any:
    """The library `supervision`.

    Raises:
        ModuleNotFoundError: without it.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="OpenCV")  # its NumPy code does all that is needed here
            import supervision as library
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('Objects of supervision need it: pip install "cti[labelling]".') from error
    return library
