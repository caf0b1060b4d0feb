"""Masks beside their photos in the layout of PASCAL VOC 2012."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cti.apps.export import Exported
from cti.apps.export.folder import copy_photo, new_folder, split_lists
from cti.apps.export.png import checked_masks
from cti.apps.export.tally import Tally
from cti.classes import BACKGROUND, voc_palette
from cti.data.depth import AS_IT_IS, Reading
from cti.data.images import save_mask
from cti.files import write_text

LAYOUT = Path("VOCdevkit", "VOC2012")


def export_voc(
    masks: Path | str,
    photos: Mapping[str, Path],
    classes: Sequence[str],
    out: Path | str,
    lists: Mapping[str, Sequence[str]] | None = None,
    overwrite: bool = False,
    reading: Reading = AS_IT_IS,
) -> Exported:
    """Write photos and masks as torchvision's `VOCSegmentation(out)` takes them.

    A zip of what lies in `VOCdevkit/VOC2012` is what CVAT imports as "Segmentation mask 1.1": it takes colours by
    `labelmap.txt`, which does not name the colour of unsure pixels (255).

    Args:
        masks: Folder of `<id>.png`.
        photos: Id -> photo.
        classes: The C class names behind the values.
        out: A new folder; appears when it is complete. Gets, in `VOCdevkit/VOC2012`, `JPEGImages/<id>.jpg` (upright;
            other formats are converted), `SegmentationClass/<id>.png`, `ImageSets/Segmentation/<list>.txt`,
            `labelmap.txt` and `classes.txt`.
        lists: Name -> ids of the run's lists; `train` and `val` are written, and all photos as `train` if there are
            neither.
        overwrite: Replace what `out` holds.
        reading: How values of photos become colours.

    Returns:
        What was written.

    Raises:
        ValueError: if `out` holds something, masks are missing, hold unknown values, or are not of their photo's size.
    """
    tally = Tally(classes)
    with new_folder(out, overwrite) as folder:
        place = folder / LAYOUT
        for name, mask in checked_masks(masks, photos, classes):
            copy_photo(photos[name], place / "JPEGImages", name, ".jpg", reading=reading)
            save_mask(place / "SegmentationClass" / f"{name}.png", mask)
            tally.add(mask)
        for listed, names in split_lists(photos, lists).items():
            text = "".join(f"{name}\n" for name in names)
            write_text(place / "ImageSets" / "Segmentation" / f"{listed}.txt", text)
        rows = zip((BACKGROUND, *classes), voc_palette().tolist(), strict=False)
        colours = "".join(f"{name}:{','.join(map(str, colour))}::\n" for name, colour in rows)
        write_text(place / "labelmap.txt", "# label:color_rgb:parts:actions\n" + colours)
        write_text(place / "classes.txt", "".join(f"{name}\n" for name in classes))
    return tally.exported(out)
