"""COCO JSON: a folder of masks as annotations with run-length codes or polygons."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cti.apps.export import Exported
from cti.apps.export.png import checked_masks
from cti.apps.export.specks import without_specks
from cti.apps.export.tally import Tally
from cti.classes import IGNORE_INDEX
from cti.files import JsonObject, write_json
from cti.predict.annotations import Per, Shape, mask_annotations, run_length_codes


def export_coco(
    masks: Path | str,
    photos: Mapping[str, Path],
    classes: Sequence[str],
    out: Path | str,
    shape: Shape = "polygons",
    per: Per = "class",
) -> Exported:
    """Write masks as one COCO JSON; drawn again, both shapes give every pixel back, polygons all but those of specks.

    Category id = mask value. Unsure pixels (255) become a crowd region, which COCO's evaluation ignores, of every class
    in the photo; in a photo without any class they cannot be said, and are counted.

    Args:
        masks: Folder of `<id>.png`.
        photos: Id -> photo; `file_name` is its path relative to the photos' common folder.
        classes: The C class names behind the values.
        out: The JSON file.
        shape: `polygons`, which people can edit, without specks (`without_specks`), or `rle`, which is smaller. Crowds
            are always run-length codes.
        per: One annotation per `class` of a photo, or per connected `component` of it.

    Returns:
        What was written; lost are the unsure pixels of photos without a class.

    Raises:
        ModuleNotFoundError: without pycocotools.
        ValueError: if masks are missing, hold unknown values, or are not of their photo's size.
    """
    run_length_codes()
    content: JsonObject = {
        "info": {"description": "Masks written by cti"},
        "images": [],
        "annotations": [],
        "categories": [{"id": index, "name": name} for index, name in enumerate(classes, 1)],
    }
    tally, lost, specks = Tally(classes), 0, 0
    names = _file_names(photos)
    for number, (name, mask) in enumerate(checked_masks(masks, photos, classes), 1):
        height, width = mask.shape
        tally.add(mask)
        content["images"].append({"id": number, "file_name": names[name], "height": height, "width": width})
        drawn, left_out = without_specks(mask) if shape == "polygons" else (mask, 0)
        specks += left_out
        for annotation in mask_annotations(drawn, shape, per):
            place = {"id": len(content["annotations"]) + 1, "image_id": number}
            content["annotations"].append(place | annotation)
        unsure = mask == IGNORE_INDEX
        if unsure.any() and not (~unsure & (mask > 0)).any():
            lost += int(unsure.sum())
    write_json(out, content)
    return tally.exported(out, objects=len(content["annotations"]), lost_unsure=lost, specks=specks)


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
