"""COCO JSON: a folder of masks as annotations with run-length codes or polygons."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cti.apps.export.png import checked_masks
from cti.apps.export.polygons import region_polygons
from cti.classes import IGNORE_INDEX
from cti.files import write_json

Shape = Literal["polygons", "rle"]
Per = Literal["class", "component"]


def export_coco(
    masks: Path | str,
    photos: Mapping[str, Path],
    classes: Sequence[str],
    out: Path | str,
    shape: Shape = "polygons",
    per: Per = "class",
) -> dict[str, Any]:
    """Write masks as one COCO JSON; both shapes give every pixel back when they are drawn.

    Category id = mask value. Unsure pixels (255) become a crowd region, which COCO's evaluation ignores, of every class
    in the photo; in a photo without any class they cannot be said, and are counted.

    Args:
        masks: Folder of `<id>.png`.
        photos: Id -> photo; `file_name` is its path relative to the photos' common folder.
        classes: The C class names behind the values.
        out: The JSON file.
        shape: `polygons`, which people can edit, or `rle`, which is smaller. Crowds are always run-length codes.
        per: One annotation per `class` of a photo, or per connected `component` of it.

    Returns:
        `out`, `images`, `annotations`, and `lost_unsure`, the unsure pixels of photos without a class.

    Raises:
        ModuleNotFoundError: without pycocotools.
        ValueError: if masks are missing, hold unknown values, or are not of their photo's size.
    """
    _codes()
    content: dict[str, Any] = {
        "info": {"description": "Masks written by cti"},
        "images": [],
        "annotations": [],
        "categories": [{"id": index, "name": name} for index, name in enumerate(classes, 1)],
    }
    lost = 0
    names = _file_names(photos)
    for number, (name, mask) in enumerate(checked_masks(masks, photos, classes), 1):
        height, width = mask.shape
        content["images"].append({"id": number, "file_name": names[name], "height": height, "width": width})
        for annotation in mask_annotations(mask, shape, per):
            place = {"id": len(content["annotations"]) + 1, "image_id": number}
            content["annotations"].append(place | annotation)
        unsure = mask == IGNORE_INDEX
        if unsure.any() and not (~unsure & (mask > 0)).any():
            lost += int(unsure.sum())
    write_json(out, content)
    counts = {"images": len(content["images"]), "annotations": len(content["annotations"])}
    return {"out": str(out), **counts, "lost_unsure": lost}


def mask_annotations(
    mask: NDArray[np.uint8], shape: Shape = "polygons", per: Per = "class"
) -> Iterator[dict[str, Any]]:
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


def _annotation(region: NDArray[np.bool_], value: int, shape: Shape, crowd: bool) -> dict[str, Any]:
    codes = _codes()
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


def _file_names(photos: Mapping[str, Path]) -> dict[str, str]:
    """Id -> path relative to the deepest folder that holds all photos, so that no place of this machine is told."""
    parents = [path.resolve().parent for path in photos.values()]
    common = (
        next(
            (folder for folder in [parents[0], *parents[0].parents] if all(p.is_relative_to(folder) for p in parents)),
            parents[0],
        )
        if parents
        else Path()
    )
    return {name: path.resolve().relative_to(common).as_posix() for name, path in photos.items()}


def _codes() -> Any:
    """pycocotools' run-length codes."""
    try:
        from pycocotools import mask
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('Exporting COCO needs pycocotools: pip install "cti[coco]".') from error
    return mask
