"""Which column names the photos, and which say what is on them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cti.data.tags.cells import split_cells
from cti.data.tags.table import Cells, IsPhoto, TagRow, TagTable, example, names_a_photo

_IMAGE = (
    "image", "filename", "filepath", "file", "imagename", "imagefile", "imagefilename", "imagepath", "imageid", "img",
    "imgname", "imgpath", "imgid", "path", "photo", "photoname", "picture", "fileupload", "fname", "name", "id",
)  # fmt: skip
_SEVERAL = ("tags", "labels", "classes", "categories", "classnames", "labelnames", "keywords", "choices", "objects")
_ONE = ("tag", "label", "class", "category", "classname", "labelname", "categoryname", "species", "choice", "diagnosis")
_NUMBERED = re.compile(r"(tag|label|class|category|keyword)s?\d+")
_TRUE = frozenset({"1", "1.0", "true", "yes", "x", "y"})
_FALSE = frozenset({"", "0", "0.0", "false", "no", "n", "none", "-1"})


@dataclass(frozen=True)
class Columns:
    """Where a table says what.

    Args:
        image: Index of the column of photos.
        tags: Indices of the columns of tags.
        one_hot: Each of them is a class, its cells 0 or 1.
        one_name: A cell holds one name.
    """

    image: int
    tags: tuple[int, ...]
    one_hot: bool = False
    one_name: bool = False


def understand(
    path: Path, table: Cells, is_photo: IsPhoto, known: Sequence[str], image_column: str, tags_column: str
) -> TagTable:
    """Make a `TagTable` of cells.

    Args:
        path: The file, for errors and the note.
        table: Its cells.
        is_photo: Whether a name finds a photo.
        known: Names of classes that are known already.
        image_column: Heading of the column of photos; empty: found.
        tags_column: Heading of the column of tags; empty: found.

    Raises:
        ValueError: if a column is not certain; the message names the option which settles it.
    """
    if not table.rows:
        raise ValueError(f'{path} names no photo; add one line per photo, for example: a.jpg,"cat, sofa"')
    image = find_image_column(path, table, is_photo, image_column)
    columns = _tag_columns(path, table, image, tags_column)
    rows = [(where, cells) for where, cells in table.rows if any(cell not in (None, "") for cell in cells)]
    for where, cells in rows:
        if not str(cells[columns.image] or "").strip():
            raise ValueError(f"{where}: the image column is empty; name a photo or delete the line.")
    if columns.one_hot:
        return _one_hot(path, table.header, columns, rows)
    joined = [_joined([cells[index] for index in columns.tags if index < len(cells)]) for _, cells in rows]
    names, how, problems = split_cells(joined, known, columns.one_name)
    found = tuple(
        TagRow(str(cells[columns.image]).strip(), tags, where) for (where, cells), tags in zip(rows, names, strict=True)
    )
    several = len({row.image for row in found}) < len(found)
    what = "one row per photo and tag" if several else "one row per photo"
    headings = [f"'{table.header[index]}'" for index in columns.tags] if table.header else []
    column = f"column{'s' if len(headings) > 1 else ''} {', '.join(headings)}" if headings else "no heading"
    shown = example(max(found[:100], key=lambda row: len(row.tags)))
    return TagTable(found, f"{path.name}: {what}, {column}{' ' + how if how else ''}, e.g. {shown}.", (), problems)


def _joined(cells: list[Any]) -> Any:
    """The tag cells of one row as one: several columns are a list."""
    if len(cells) == 1:
        return cells[0]
    return [cell for cell in cells if cell not in (None, "") and str(cell).strip()]


def is_image_heading(cell: str) -> bool:
    """Whether a heading is one of those that name photos."""
    return _letters(cell) in _IMAGE


def is_tag_heading(cell: str) -> bool:
    """Whether a heading is one of those that tags have."""
    return _letters(cell) in (*_SEVERAL, *_ONE)


def find_image_column(path: Path, table: Cells, is_photo: IsPhoto, named: str = "") -> int:
    """Index of the column that names the photos: the one `named`, or by its heading, or by its cells.

    Raises:
        ValueError: if it is not certain.
    """
    if named:
        return _named(path, table.header, named, "data.image_column")
    sample = table.rows[:200]
    photos = [
        sum(names_a_photo(row[index], is_photo) for _, row in sample if index < len(row))
        for index in range(max(len(row) for _, row in sample))
    ]
    headings = [_letters(name) for name in table.header]
    usual = [headings.index(name) for name in _IMAGE if name in headings]
    if usual and (photos[usual[0]] > 0 or headings[usual[0]] == "image" or not any(photos)):
        return usual[0]
    best = [index for index, count in enumerate(photos) if count and count == max(photos)]
    if len(best) != 1:
        raise ValueError(
            f"{path}: none of the columns {_shown(table.header)} surely names the photos; set data.image_column to one "
            "of them."
        )
    return best[0]


def _tag_columns(path: Path, table: Cells, image: int, named: str) -> Columns:
    if named:
        index = _named(path, table.header, named, "data.tags_column")
        return Columns(image, (index,), one_name=_letters(named) in _ONE)
    width = max(len(row) for _, row in table.rows)
    others = [index for index in range(width) if index != image]
    if not table.header:
        numeric = [index for index in others if all(_number(row[index]) for _, row in table.rows if index < len(row))]
        if len(others) > 1 and numeric:
            raise ValueError(
                f"{path} has no heading and several columns, some of them numbers; add a first line like image,tags."
            )
        if not others:
            raise ValueError(f'{path} holds one column only; put the tags beside the photos: a.jpg,"cat, sofa"')
        return Columns(image, tuple(others))
    headings = [_letters(name) for name in table.header]
    if "tags" in headings:
        return Columns(image, (headings.index("tags"),))
    binary = tuple(index for index in others if _binary(table, index))
    usual = [index for index in others if headings[index] in (*_SEVERAL, *_ONE)]
    if len(usual) > 1:
        words = [index for index in usual if not all(_number(row[index]) for _, row in table.rows)]
        usual = words if len(words) == 1 else usual
    if len(usual) == 1 and not (usual[0] in binary and len(binary) > 1):
        return Columns(image, (usual[0],), one_name=headings[usual[0]] in _ONE)
    numbered = tuple(index for index in others if _NUMBERED.fullmatch(headings[index]))
    if numbered and not set(numbered) <= set(binary):
        return Columns(image, numbered, one_name=True)
    if binary and not usual and (len(binary) > 1 or len(binary) == len(others)):
        return Columns(image, binary, one_hot=True)
    if len(others) == 1:
        return Columns(image, (others[0],))
    what = "no column surely holds" if not usual else "more than one column may hold"
    raise ValueError(
        f"{path}, line 1: {what} the tags; the columns are {_shown(table.header)}: set data.tags_column to one of them."
    )


def _one_hot(
    path: Path, header: Sequence[str], columns: Columns, rows: Sequence[tuple[str, tuple[Any, ...]]]
) -> TagTable:
    classes = tuple(header[index].strip() for index in columns.tags)
    found = tuple(
        TagRow(
            str(cells[columns.image]).strip(),
            tuple(
                name
                for name, index in zip(classes, columns.tags, strict=True)
                if str("" if cells[index] is None else cells[index]).strip().lower() in _TRUE
            ),
            where,
        )
        for where, cells in rows
    )
    shown = example(max(found[:100], key=lambda row: len(row.tags)))
    return TagTable(found, f"{path.name}: one column per class ({len(classes)}), e.g. {shown}.", classes)


def _binary(table: Cells, index: int) -> bool:
    texts = {str("" if row[index] is None else row[index]).strip().lower() for _, row in table.rows if index < len(row)}
    return texts <= _TRUE | _FALSE and bool(texts - {""})


def _number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return cell in (None, "")
    return True


def _named(path: Path, header: Sequence[str], name: str, option: str) -> int:
    for same in (lambda other: other == name, lambda other: _letters(other) == _letters(name)):
        found = [index for index, other in enumerate(header) if same(other.strip())]
        if found:
            return found[0]
    raise ValueError(f"{path} has no column '{name}' ({option}); its columns are {_shown(header)}.")


def _shown(header: Sequence[str]) -> str:
    return ", ".join(header[:12]) + (", ..." if len(header) > 12 else "") if header else "without headings"


def _letters(name: str) -> str:
    return re.sub(r"[\s_\-.]+", "", name.strip().lower())
