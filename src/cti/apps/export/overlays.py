"""Photos with their masks painted over them, to look through."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cti.apps.export import Exported
from cti.apps.export.folder import new_folder
from cti.apps.export.png import checked_masks
from cti.apps.export.tally import Tally
from cti.data.depth import AS_IT_IS, Reading
from cti.data.images import load_image
from cti.files import atomic_path
from cti.visualize import legend, overlay

_LEGEND_WIDTH = 400  # pixels


def export_overlays(
    masks: Path | str,
    photos: Mapping[str, Path],
    classes: Sequence[str],
    out: Path | str,
    lists: Mapping[str, Sequence[str]] | None = None,
    overwrite: bool = False,
    reading: Reading = AS_IT_IS,
) -> Exported:
    """Write pictures for people; unsure pixels are striped.

    Args:
        masks: Folder of `<id>.png`.
        photos: Id -> photo.
        classes: The C class names behind the values.
        out: A new folder; appears when it is complete. Gets `<id>.jpg`, and `legend.png`, which colour is which class.
        lists: Not needed.
        overwrite: Replace what `out` holds.
        reading: How values of photos become colours.

    Returns:
        What was written.

    Raises:
        ValueError: if `out` holds something, masks are missing, hold unknown values, or are not of their photo's size.
    """
    tally = Tally(classes)
    with new_folder(out, overwrite) as folder:
        for name, mask in checked_masks(masks, photos, classes):
            with atomic_path(folder / f"{name}.jpg") as temporary:
                overlay(load_image(photos[name], reading=reading), mask).save(
                    temporary, quality=90, subsampling=0
                )  # outlines keep their colours
            tally.add(mask)
        with atomic_path(folder / "legend.png") as temporary:
            legend(classes, range(1, len(classes) + 1), _LEGEND_WIDTH).save(temporary)
    return tally.exported(out)
