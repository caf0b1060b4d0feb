"""Files to take away: masks as indexed PNG, and all of them as one COCO JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cti.data.images import save_mask
from cti.export.coco import mask_annotations
from cti.files import write_json
from cti.web.cards import Card

COCO_FILE = "masks.coco.json"


def write_downloads(cards: Sequence[Card], classes: Sequence[str], folder: Path) -> list[Path]:
    """Write the masks of photos at their own size.

    Args:
        cards: The photos.
        classes: The C class names; a COCO category id is the mask value.
        folder: Gets `<name>.png` for each photo and `masks.coco.json`.

    Returns:
        The files.

    Raises:
        ModuleNotFoundError: without pycocotools.
    """
    files: list[Path] = []
    content: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": value, "name": name} for value, name in enumerate(classes, 1)],
    }
    for number, card in enumerate(cards, 1):
        mask = card.full_mask()
        files.append(_free(folder / f"{Path(card.name).stem}.png", files))
        save_mask(files[-1], mask)
        height, width = mask.shape
        content["images"].append({"id": number, "file_name": card.name, "height": height, "width": width})
        for annotation in mask_annotations(mask):
            place = {"id": len(content["annotations"]) + 1, "image_id": number}
            content["annotations"].append(place | annotation)
    write_json(folder / COCO_FILE, content)
    return [*files, folder / COCO_FILE]


def _free(path: Path, taken: list[Path]) -> Path:
    """`path`, with a number if it is taken: `a.jpg` and `a.png` both make `a.png`."""
    number, free = 1, path
    while free in taken:
        number += 1
        free = path.with_stem(f"{path.stem} ({number})")
    return free
