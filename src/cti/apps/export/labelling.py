"""Formats of labelling and training tools: YOLO, and, through the library `supervision`, Pascal VOC XML and labelme.

All three know outlines of objects only: each connected part of a class becomes an object, and unsure pixels cannot be
said.
"""

import logging
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cti.apps.export.folder import new_folder
from cti.apps.export.png import checked_masks
from cti.apps.export.yolo import yolo_lists, yolo_rows, yolo_yaml
from cti.classes import IGNORE_INDEX
from cti.files import write_text

logger = logging.getLogger(__name__)

LabellingFormat = Literal["yolo", "pascal-voc", "labelme"]

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def export_labelling(
    masks: Path | str,
    photos: Mapping[str, Path],
    classes: Sequence[str],
    out: Path | str,
    to: LabellingFormat,
    lists: Mapping[str, Sequence[str]] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write masks as outlines beside copies of their photos.

    Args:
        masks: Folder of `<id>.png`.
        photos: Id -> photo.
        classes: The C class names behind the values.
        out: A new folder; appears when it is complete. Gets `images/<id>.<suffix>`, `classes.txt`, and for `yolo`
            `labels/<id>.txt`, `data.yaml` and the lists, for `pascal-voc` `Annotations/<id>.xml`, for `labelme`
            `images/<id>.json`.
        to: The format.
        lists: `yolo`: name -> ids of the run's lists; those named `train` and `val` become the trainer's.
        overwrite: Replace what `out` holds.

    Returns:
        `out`, `images`, `objects`, and `lost_unsure`, the unsure pixels, which become background.

    Raises:
        ModuleNotFoundError: without supervision (not for `yolo`).
        ValueError: if `out` holds something, masks are missing, hold unknown values, or are not of their photo's size.
    """
    sv = None if to == "yolo" else _supervision()
    images: dict[str, str] = {}
    objects = lost = 0
    with new_folder(out, overwrite) as folder:
        (folder / "images").mkdir()
        for name, mask in checked_masks(masks, photos, classes):
            image = folder / "images" / f"{name}{photos[name].suffix.lower()}"
            shutil.copyfile(photos[name], image)
            images[name] = image.name
            if sv is None:
                rows = yolo_rows(mask)
                write_text(folder / "labels" / f"{name}.txt", "".join(f"{row}\n" for row in rows))
                objects += len(rows)
            else:
                found = _detections(sv, mask)
                # One photo at a time: a data set of dense object masks would not fit into memory.
                _write(sv.DetectionDataset(list(classes), [str(image)], {str(image): found}), folder, to)
                objects += len(found)
            lost += int((mask == IGNORE_INDEX).sum())
        if to == "yolo":
            files = yolo_lists(images, lists or {})
            for name, text in (files | {"data.yaml": yolo_yaml(classes, files)}).items():
                write_text(folder / name, text)
        write_text(folder / "classes.txt", "".join(f"{name}\n" for name in classes))
    if lost:
        logger.warning("%d unsure pixels are background in %s, which cannot say so.", lost, to)
    return {"out": str(out), "images": len(photos), "objects": objects, "lost_unsure": lost}


def _detections(sv: Any, mask: NDArray[np.uint8]) -> Any:
    """The connected parts (corners connect) of every class."""
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


def _write(dataset: Any, folder: Path, to: LabellingFormat) -> None:
    if to == "pascal-voc":
        dataset.as_pascal_voc(annotations_directory_path=str(folder / "Annotations"))
    else:
        dataset.as_labelme(annotations_directory_path=str(folder / "images"))


def _supervision() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="OpenCV")  # its NumPy code does all that is needed here
            import supervision
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'Exporting to this format needs supervision: pip install "cti[labelling]".'
        ) from error
    return supervision
