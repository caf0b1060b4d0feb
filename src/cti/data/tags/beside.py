"""Tags without a tags file: a text file beside each photo, or the folder it lies in."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cti.data.names import means_nothing, tidy
from cti.data.tags.cells import split_cells
from cti.data.tags.objects import object_names
from cti.data.tags.table import TagRow, TagTable, example
from cti.data.text import read_lines

_SIDECARS = (".txt", ".xml", ".json")
_BOX = re.compile(r"\d+(\s+-?[\d.]+(e-?\d+)?){4,}")  # a line of YOLO: class number, then coordinates
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def sidecar(photo: Path) -> Path | None:
    """The file with a photo's tags: text, VOC's XML or labelme's JSON, beside it or in a folder beside `images/`."""
    parts = list(photo.parts)
    places = [photo]
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            others = ("labels", "annotations", "Annotations")
            places += [Path(*parts[:index], other, *parts[index + 1 :]) for other in others]
            break
    candidates = (place.with_suffix(suffix) for place in places for suffix in _SIDECARS)
    return next((path for path in candidates if path.is_file()), None)


def read_sidecars(root: Path, photos: Sequence[str], known: Sequence[str]) -> TagTable:
    """Tags in a file per photo.

    A text file holds names separated as in a table's cell, or one on each line, or YOLO's boxes; VOC's XML and
    labelme's JSON hold objects.

    Args:
        root: Folder of the photos.
        photos: Their paths relative to it.
        known: Class names that are known already; YOLO's numbers count from 0 in them.

    Raises:
        ValueError: if a file is no text, or a number stands for no class.
    """
    found = [(photo, path) for photo in photos if (path := sidecar(root / photo)) is not None]
    objects = [path.suffix != ".txt" for _, path in found]
    texts = [
        [] if named else [line for _, line in read_lines(path)] for (_, path), named in zip(found, objects, strict=True)
    ]
    boxes = [bool(lines) and all(_BOX.fullmatch(line) for line in lines) for lines in texts]
    cells: list[object] = []
    for (_, path), lines, is_boxes, named in zip(found, texts, boxes, objects, strict=True):
        if named:
            cells.append(list(object_names(path)))
        elif is_boxes:
            numbers = sorted({int(line.split()[0]) for line in lines})
            if numbers[-1] >= len(known):
                raise ValueError(
                    f"{path}: class number {numbers[-1]} has no name; write classes.txt with one name a line, in the "
                    "order of YOLO's numbers."
                )
            cells.append([known[number] for number in numbers])
        else:
            cells.append("\n".join(lines))
    names, how, problems = split_cells(cells, known)
    rows = tuple(TagRow(photo, tags, str(path)) for (photo, path), tags in zip(found, names, strict=True))
    shown = example(max(rows[:100], key=lambda row: len(row.tags)))
    kind = "YOLO's boxes" if any(boxes) else "objects" if any(objects) else "tags"
    note = f"A file of {kind} for each of {len(rows)} photos{', ' + how if how else ''}, e.g. {shown}."
    return TagTable(rows, note, (), problems)


def folder_tag(photo: str) -> str:
    """The sub-folder that says what is on a photo; empty for a photo in no sub-folder.

    Folders that only say which list a photo is for (`train/cat/a.jpg`) are passed over.
    """
    folders = PurePosixPath(without_list(photo)).parts[:-1]
    return tidy(folders[0]) if folders else ""


def without_list(photo: str) -> str:
    """A path without the folders that only say which list a photo is for: `train/cat/a.jpg` -> `cat/a.jpg`."""
    parts = PurePosixPath(photo).parts
    while len(parts) > 1 and parts[0].lower() in _SPLITS:
        parts = parts[1:]
    return "/".join(parts)


def read_folders(root: Path, photos: Sequence[str], normal: Sequence[str]) -> tuple[TagTable, dict[str, list[str]]]:
    """Tags by sub-folder: `crack/a.jpg` has the tag `crack`, `good/b.jpg` none.

    Returns:
        (the tags, list name -> photos where all photos lie in `train/`, `val/` or `test/`). A `train/` without a class
        is no list to learn classes from (MVTec's layout, for detectors that see normal photos only).
    """
    rows = tuple(TagRow(photo, (folder_tag(photo),), str(root / photo)) for photo in photos if folder_tag(photo))
    normals = sorted({row.tags[0] for row in rows if means_nothing(row.tags[0], normal)})
    classes = sorted({row.tags[0] for row in rows} - set(normals))
    first = next(row for row in rows if row.tags[0] not in normals) if classes else rows[0]
    note = f"Sub-folders of {root} as tags: {', '.join(classes)}"
    note += f"; {', '.join(normals)} as normal (data.normal)" if normals else ""
    lists: dict[str, list[str]] = {}
    for photo in photos:
        split = _SPLITS.get(PurePosixPath(photo).parts[0].lower()) if "/" in photo else None
        lists.setdefault(split or "", []).append(photo)
    if "" in lists or "train" not in lists:
        lists = {}
    elif classes and all(folder_tag(photo) in normals for photo in lists["train"]):
        lists = {}
        note += "; train/ holds none of them, so that all photos are shared out anew"
    elif "val" not in lists and "test" in lists:
        lists["val"] = lists.pop("test")
    return TagTable(rows, f"{note}, e.g. {example(first)}."), lists
