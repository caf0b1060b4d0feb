"""Masks as indexed PNG files, checked on the way: what everything else that reads masks can take."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cti.apps.export import Exported
from cti.apps.export.folder import new_folder
from cti.apps.export.tally import Tally
from cti.data.images import load_mask, open_image, oriented_size, save_mask
from cti.files import write_text
from cti.tables import some


def export_png(
    masks: Path | str, photos: Mapping[str, Path], classes: Sequence[str], out: Path | str, overwrite: bool = False
) -> Exported:
    """Copy checked masks: 8-bit indexed PNG, fixed palette, photo's size, values 0..C and 255.

    Args:
        masks: Folder of `<id>.png`.
        photos: Id -> photo.
        classes: The C class names behind the values.
        out: A new folder; appears when it is complete. Gets `<id>.png` and `classes.txt`.
        overwrite: Replace what `out` holds.

    Returns:
        What was written.

    Raises:
        ValueError: if `out` holds something, masks are missing, hold unknown values, or are not of their photo's size.
    """
    tally = Tally(classes)
    with new_folder(out, overwrite) as folder:
        for name, mask in checked_masks(masks, photos, classes):
            save_mask(folder / f"{name}.png", mask)
            tally.add(mask)
        write_text(folder / "classes.txt", "".join(f"{name}\n" for name in classes))
    return tally.exported(out)


def checked_masks(
    masks: Path | str, photos: Mapping[str, Path], classes: Sequence[str]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Ids and masks (H, W), in the order of the ids; see `export_png` for what is refused."""
    folder = Path(masks)
    if not photos:
        raise ValueError("The list of photos to export is empty; name a run, photos or folders.")
    missing = [name for name in photos if not (folder / f"{name}.png").is_file()]
    if missing:
        raise ValueError(
            f"{folder} lacks the masks of {len(missing)} of {len(photos)} photos ({some(missing)}); make them first."
        )
    for name in sorted(photos):
        mask = load_mask(folder / f"{name}.png", len(classes))
        height, width = photo_size(photos[name])
        if mask.shape != (height, width):
            raise ValueError(
                f"The mask {folder / name}.png is {mask.shape[1]} x {mask.shape[0]} px, but {photos[name]} is "
                f"{width} x {height}; make the mask again."
            )
        yield name, mask


def photo_size(path: Path) -> tuple[int, int]:
    """(H, W) of a photo as it is shown; only the header is read."""
    with open_image(path) as image:
        width, height = oriented_size(image)
    return height, width
