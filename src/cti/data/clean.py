"""The tags of a data set as a plain table, the way this package understands best."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from cti.data.photos import Photo, PhotoSet
from cti.files import write_text

_AMBIGUOUS = re.compile(r"""[;,|/+&\[\](){}"'\t\n]""")


def write_clean_table(photo_set: PhotoSet, path: Path | str, renames: Mapping[str, str] | None = None) -> int:
    """Write `image,tags`, one line per photo, in the order of the lists.

    Args:
        photo_set: Photos and tags as they were understood: one spelling per class, names as on the disk.
        path: The table to write, atomically.
        renames: Class -> class that is meant instead, for instance `CheckReport.suggestions`.

    Returns:
        Number of photos written.
    """
    renames = renames or {}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "tags"))
    photos = photo_set.photos()
    for photo in photos:
        names = dict.fromkeys(renames.get(name, name) for name in (photo_set.classes[tag] for tag in photo.tags))
        writer.writerow((_name(photo, photo_set.folder), _cell(list(names))))
    write_text(path, text.getvalue())
    return len(photos)


def _name(photo: Photo, folder: Path | None) -> str:
    if folder is not None and photo.image.is_relative_to(folder):
        return photo.image.relative_to(folder).as_posix()
    return photo.image.name


def _cell(names: Sequence[str]) -> str:
    """Names between `;`, with one after the last where a space could be taken for a separator."""
    if any(_AMBIGUOUS.search(name) for name in names):
        return json.dumps(list(names), ensure_ascii=False)
    return "; ".join(names) + (";" if len(names) == 1 and " " in names[0] else "")
