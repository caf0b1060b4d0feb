"""Formats of labelling and training tools: YOLO, and, through the library `supervision`, Pascal VOC XML and labelme.

All three know outlines of objects only: each connected part of a class that is no speck becomes an object, and unsure
pixels cannot be said.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cti.apps.export import Exported
from cti.apps.export.folder import new_folder
from cti.apps.export.png import checked_masks
from cti.apps.export.specks import without_specks
from cti.apps.export.tally import Tally
from cti.apps.export.yolo import yolo_lists, yolo_rows, yolo_yaml
from cti.classes import IGNORE_INDEX
from cti.files import write_text
from cti.predict.annotations import detections, supervision

logger = logging.getLogger(__name__)

LabellingFormat = Literal["yolo", "pascal-voc", "labelme"]


def export_labelling(
    masks: Path | str,
    photos: Mapping[str, Path],
    classes: Sequence[str],
    out: Path | str,
    to: LabellingFormat,
    lists: Mapping[str, Sequence[str]] | None = None,
    overwrite: bool = False,
) -> Exported:
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
        What was written; lost are the unsure pixels, which become background.

    Raises:
        ModuleNotFoundError: without supervision (not for `yolo`).
        ValueError: if `out` holds something, masks are missing, hold unknown values, or are not of their photo's size.
    """
    sv = None if to == "yolo" else supervision()
    images: dict[str, str] = {}
    tally, objects, specks = Tally(classes), 0, 0
    with new_folder(out, overwrite) as folder:
        (folder / "images").mkdir()
        for name, mask in checked_masks(masks, photos, classes):
            image = folder / "images" / f"{name}{photos[name].suffix.lower()}"
            shutil.copyfile(photos[name], image)
            images[name] = image.name
            drawn, left_out = without_specks(mask)
            specks += left_out
            if sv is None:
                rows = yolo_rows(drawn)
                write_text(folder / "labels" / f"{name}.txt", "".join(f"{row}\n" for row in rows))
                objects += len(rows)
            else:
                found = detections(drawn)
                # One photo at a time: a data set of dense object masks would not fit into memory.
                _write(sv.DetectionDataset(list(classes), [str(image)], {str(image): found}), folder, to)
                objects += len(found)
            tally.add(mask)
        if to == "yolo":
            files = yolo_lists(images, lists or {})
            for name, text in (files | {"data.yaml": yolo_yaml(classes, files)}).items():
                write_text(folder / name, text)
        write_text(folder / "classes.txt", "".join(f"{name}\n" for name in classes))
    lost = int(tally.pixels[IGNORE_INDEX])
    if lost:
        logger.warning("%d unsure pixels are background in %s, which cannot say so.", lost, to)
    return tally.exported(out, objects, lost, specks)


def _write(dataset: Any, folder: Path, to: LabellingFormat) -> None:
    if to == "pascal-voc":
        dataset.as_pascal_voc(annotations_directory_path=str(folder / "Annotations"))
    else:
        dataset.as_labelme(annotations_directory_path=str(folder / "images"))
