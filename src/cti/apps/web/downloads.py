"""Files to take away: masks as indexed PNG, and all of them as one COCO JSON."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from numpy.typing import NDArray

from cti.data.images import save_mask
from cti.files import JsonObject, write_json
from cti.predict.annotations import mask_annotations

COCO_FILE = "masks.coco.json"
ZIP_FILE = "masks.zip"


def write_downloads(masks: Iterable[tuple[str, NDArray[np.uint8]]], classes: Sequence[str], folder: Path) -> list[Path]:
    """Write masks for taking away.

    Args:
        masks: Name of the photo's file, and its mask (H, W) of the photo's own size; one is held at a time.
        classes: The C class names; a COCO category id is the mask value.
        folder: Gets `masks.coco.json` and the masks, `<name>.png`; several are put into `masks.zip`.

    Returns:
        The PNG or the zip file, and the JSON.

    Raises:
        ModuleNotFoundError: without pycocotools.
    """
    files: list[Path] = []
    content: dict[str, list[JsonObject]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": value, "name": name} for value, name in enumerate(classes, 1)],
    }
    for number, (photo, mask) in enumerate(masks, 1):
        files.append(_free(folder / f"{PurePosixPath(photo).stem}.png", files))
        save_mask(files[-1], mask)
        height, width = mask.shape
        content["images"].append({"id": number, "file_name": photo, "height": height, "width": width})
        for annotation in mask_annotations(mask):
            place = {"id": len(content["annotations"]) + 1, "image_id": number}
            content["annotations"].append(place | annotation)
    write_json(folder / COCO_FILE, content)
    if len(files) == 1:
        return [*files, folder / COCO_FILE]
    with ZipFile(folder / ZIP_FILE, "w", ZIP_STORED) as archive:  # PNGs are compressed already
        for file in files:
            archive.write(file, file.name)
            file.unlink()
    return [folder / ZIP_FILE, folder / COCO_FILE]


def _free(path: Path, taken: Sequence[Path]) -> Path:
    """`path`, with a number if it is taken: `a.jpg` and `a.png` both make `a.png`."""
    number, free = 1, path
    while free in taken:
        number += 1
        free = path.with_stem(f"{path.stem} ({number})")
    return free
