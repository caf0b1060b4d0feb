"""Masks beside their photos as Hugging Face's `datasets` loads them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from cti.apps.export import Exported
from cti.apps.export.folder import copy_photo, new_folder, split_lists
from cti.apps.export.png import checked_masks
from cti.apps.export.tally import Tally
from cti.data.depth import AS_IT_IS, Reading
from cti.data.images import save_mask
from cti.files import write_text

_SPLITS = {"train": "train", "val": "validation"}  # what the library calls them


def export_imagefolder(
    masks: Path | str,
    photos: Mapping[str, Path],
    classes: Sequence[str],
    out: Path | str,
    lists: Mapping[str, Sequence[str]] | None = None,
    overwrite: bool = False,
    reading: Reading = AS_IT_IS,
) -> Exported:
    """Write photos and masks so that `load_dataset("imagefolder", data_dir=out)` gives `image`, `mask`, `classes`.

    Args:
        masks: Folder of `<id>.png`.
        photos: Id -> photo.
        classes: The C class names behind the values.
        out: A new folder; appears when it is complete. Gets, per split, `<split>/<id>.<suffix>` (upright),
            `<split>/masks/<id>.png` and `<split>/metadata.jsonl`; and `classes.txt`.
        lists: Name -> ids of the run's lists: `train` and `val` become the splits `train` and `validation`, photos that
            are in neither `test`. Without lists all are `train`.
        overwrite: Replace what `out` holds.
        reading: How values of photos become colours.

    Returns:
        What was written.

    Raises:
        ValueError: if `out` holds something, masks are missing, hold unknown values, or are not of their photo's size.
    """
    tally = Tally(classes)
    splits = {name: _SPLITS[listed] for listed, names in split_lists(photos, lists).items() for name in names}
    rows: dict[str, list[str]] = {}
    with new_folder(out, overwrite) as folder:
        for name, mask in checked_masks(masks, photos, classes):
            split = splits.get(name, "test")
            image = copy_photo(photos[name], folder / split, name, reading=reading)
            save_mask(folder / split / "masks" / f"{name}.png", mask)
            # One text: the library knows no type for lists of which the first is empty.
            shown = ", ".join(tally.add(mask))
            row = {"file_name": image.name, "mask_file_name": f"masks/{name}.png", "classes": shown}
            rows.setdefault(split, []).append(json.dumps(row, ensure_ascii=False))
        for split, lines in rows.items():
            write_text(folder / split / "metadata.jsonl", "".join(f"{line}\n" for line in lines))
        write_text(folder / "classes.txt", "".join(f"{name}\n" for name in classes))
    return tally.exported(out)
