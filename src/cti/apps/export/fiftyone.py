"""Masks beside their photos in FiftyOne's `ImageSegmentationDirectory`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from cti.apps.export import Exported
from cti.apps.export.folder import copy_photo, new_folder
from cti.apps.export.png import checked_masks
from cti.apps.export.tally import Tally
from cti.data.depth import AS_IT_IS, Reading
from cti.files import atomic_path, write_text


def export_fiftyone(
    masks: Path | str,
    photos: Mapping[str, Path],
    classes: Sequence[str],
    out: Path | str,
    lists: Mapping[str, Sequence[str]] | None = None,
    overwrite: bool = False,
    reading: Reading = AS_IT_IS,
) -> Exported:
    """Write photos and masks as FiftyOne takes them; `load.py` shows how, with the classes and the run's lists as tags.

    Args:
        masks: Folder of `<id>.png`.
        photos: Id -> photo.
        classes: The C class names behind the values.
        out: A new folder; appears when it is complete. Gets `data/<id>.<suffix>` (upright), `labels/<id>.png` (8-bit
            grey, whose values are the classes: FiftyOne takes the colours of indexed ones for RGB masks) and `load.py`.
        lists: Name -> ids of the run's lists.
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
            copy_photo(photos[name], folder / "data", name, reading=reading)
            with atomic_path(folder / "labels" / f"{name}.png") as temporary:
                Image.fromarray(mask).save(temporary)
            tally.add(mask)
        tags = {listed: sorted(photos.keys() & set(names)) for listed, names in (lists or {}).items()}
        write_text(folder / "load.py", _snippet(classes, {listed: names for listed, names in tags.items() if names}))
    return tally.exported(out)


def _snippet(classes: Sequence[str], lists: Mapping[str, Sequence[str]]) -> str:
    """A program that opens the folder it lies in."""
    return f"""from pathlib import Path

import fiftyone as fo

dataset = fo.Dataset.from_dir(str(Path(__file__).parent), fo.types.ImageSegmentationDirectory)
dataset.default_mask_targets = {dict(enumerate(classes, 1))!r}
lists = {dict(lists)!r}
for sample in dataset:
    sample.tags = [name for name, photos in lists.items() if Path(sample.filepath).stem in photos]
    sample.save()
fo.launch_app(dataset).wait()
"""
