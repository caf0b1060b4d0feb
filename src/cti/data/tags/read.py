"""Which form a tags file has, and where it lies."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cti.data.tags.columns import understand
from cti.data.tags.delimited import read_delimited, read_words
from cti.data.tags.records import json_cells, read_json_lines
from cti.data.tags.table import IsPhoto, TagTable
from cti.data.tags.tools import is_label_studio, read_cvat, read_label_studio
from cti.data.text import read_foreign_json

_USUAL = (
    "labels.csv", "tags.csv", "labels.tsv", "metadata.csv", "annotations.csv", "metadata.jsonl", "labels.jsonl",
    "labels.json", "tags.json", "labels.txt", "tags.txt", "annotations.xml",
)  # fmt: skip
_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".xml")
_NO_TAGS = frozenset({"shapes.json", "package.json"})


@dataclass(frozen=True)
class Hints:
    """What helps to understand a tags file.

    Args:
        known: Names of classes that are known already.
        image_column: Heading of the column that names the photos; empty: found.
        tags_column: Heading of the column of tags; empty: found.
    """

    known: tuple[str, ...] = ()
    image_column: str = ""
    tags_column: str = ""


def find_tags_file(folders: Sequence[Path], named: str = "", is_photo: IsPhoto = lambda name: False) -> Path | None:
    """The tags file of a data set: the named one, one of the usual names, or the only one that can be one.

    Args:
        folders: Where to look, in this order; a named file is relative to the first.
        named: `data.labels`.
        is_photo: Whether a name finds a photo; a file called after one is about that photo only.

    Raises:
        FileNotFoundError: if there is no file of that name.
        ValueError: if several files can be meant.
    """
    if named:
        path = folders[0] / named
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no tags file {path} (data.labels); write one with the first line image,tags "
                '(for example: a.jpg,"cat, sofa").'
            )
        return path
    for folder in folders:
        usual = [folder / name for name in _USUAL if (folder / name).is_file()]
        if usual:
            return usual[0]
    for folder in folders:
        others = sorted(path for path in folder.glob("*.*") if path.suffix.lower() in _SUFFIXES)
        others = [path for path in others if path.name not in _NO_TAGS and not path.name.startswith(".")]
        others = [path for path in others if not is_photo(path.stem)]
        if len(others) > 1:
            names = ", ".join(path.name for path in others[:5])
            raise ValueError(f"{folder} holds several files that may be the tags: {names}; name one with data.labels.")
        if others:
            return others[0]
    return None


def read_tags(path: Path, is_photo: IsPhoto = lambda name: False, hints: Hints | None = None) -> TagTable:
    """Read a tags file of any form.

    Args:
        path: `.csv`, `.tsv`, `.json`, `.jsonl`, `.xml` (CVAT), or a text file with `photo tag tag ...` on each line.
        is_photo: Whether a name finds a photo.
        hints: What is known of the file already.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: with file, line or entry, and remedy.
    """
    hints = hints or Hints()
    if not path.is_file():
        raise FileNotFoundError(
            f'There is no tags file {path}; write one with the first line image,tags (for example: a.jpg,"cat, sofa").'
        )
    suffix = path.suffix.lower()
    if suffix == ".xml":
        return read_cvat(path)
    if suffix == ".json":
        content = read_foreign_json(path)
        if is_label_studio(content):
            return read_label_studio(path, content)
        cells = json_cells(path, content)
    elif suffix in (".jsonl", ".ndjson"):
        cells = read_json_lines(path)
    elif suffix in (".csv", ".tsv"):
        cells = read_delimited(path, is_photo, hints.image_column)
    else:
        cells = read_words(path, is_photo)
    return understand(path, cells, is_photo, hints.known, hints.image_column, hints.tags_column)
