"""Tables with a separator: CSV of any kind, and text files with `photo tag tag ...` on each line."""

import csv
import re
from pathlib import Path

from cti.data.images import NAMED_SUFFIXES
from cti.data.tags.columns import is_image_heading, is_tag_heading
from cti.data.tags.table import Cells, IsPhoto, names_a_photo
from cti.data.text import read_text

_DELIMITERS = (",", ";", "\t", "|")
_QUOTES = 'put quotes around tags that are separated by commas, for example: photos/a.jpg,"cat, sofa"'
_SUFFIXES = "|".join(re.escape(suffix) for suffix in sorted(NAMED_SUFFIXES))
_NAME_AND_TAGS = re.compile(rf"^(.*?({_SUFFIXES}))(?:\s+(.*))?$", re.IGNORECASE)


def read_delimited(path: Path, is_photo: IsPhoto, image_column: str = "") -> Cells:
    """Read a CSV whose separator is a comma, a semicolon, a tab or a bar, with or without a first line of headings.

    Args:
        path: The file.
        is_photo: Whether a name finds a photo; a first line that names one is no heading.
        image_column: A heading, if the user named one: then there are headings.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no table; the message names file, line and remedy.
    """
    text = read_text(path)
    lines = text.splitlines()
    told = re.fullmatch(r"sep=(.)", lines[0].strip()) if lines else None  # Excel's way of saying it
    start = next((number for number, line in enumerate(lines) if line.strip() and not (told and number == 0)), None)
    if start is None:
        raise ValueError(f"{path} is empty; write the first line image,tags and one line per photo.")
    delimiter = told[1] if told else _delimiter(lines[start], is_photo)
    reader = csv.reader(text.splitlines(keepends=True)[start:], strict=True, delimiter=delimiter, skipinitialspace=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append((start + reader.line_num, [cell.strip() for cell in row]))
    except csv.Error as error:
        place = f"{path}, line {start + reader.line_num}"
        raise ValueError(f"{place}: {error}; check the quotes on that line.") from error
    first = rows[0][1]
    named = image_column in first if image_column else False
    headed = named or any(map(is_image_heading, first)) or not any(names_a_photo(cell, is_photo) for cell in first)
    if not headed:
        return Cells((), tuple((f"{path}, line {number}", tuple(row)) for number, row in rows))
    whole = [_to_width(path, number, row, first, delimiter) for number, row in rows[1:]]
    return Cells(tuple(first), tuple(whole))


def read_words(path: Path, is_photo: IsPhoto) -> Cells:
    """Read a text file with `photo tag tag ...` on each line, or a table whose first line has a separator.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: see `read_delimited`.
    """
    lines = [(number, line.strip()) for number, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    if not lines:
        raise ValueError(f"{path} is empty; write one line per photo: its name, then its tags.")
    first = lines[0][1]
    cells = {delimiter: [cell.strip() for cell in first.split(delimiter)] for delimiter in _DELIMITERS}
    if any(
        len(row) > 1 and (is_image_heading(row[0]) or (names_a_photo(row[0], is_photo) and " " not in row[0]))
        for row in cells.values()
    ):
        return read_delimited(path, is_photo)
    rows = []
    for number, line in lines:
        found = _NAME_AND_TAGS.match(line)
        image, tags = (found[1], found[3] or "") if found else (line.partition(" ")[0], line.partition(" ")[2])
        if number == lines[0][0] and is_image_heading(image) and is_tag_heading(tags):
            continue
        rows.append((f"{path}, line {number}", (image, tags.strip())))
    return Cells(("image", "tags"), tuple(rows))


def _delimiter(line: str, is_photo: IsPhoto) -> str:
    """The separator under which the first line makes most sense; a comma where none does."""

    def sense(delimiter: str) -> tuple[int, int]:
        try:
            cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]
        except csv.Error:
            return 0, 0
        known = 2 * any(map(is_image_heading, cells)) + any(map(is_tag_heading, cells))
        photos = 2 * any(names_a_photo(cell, is_photo) for cell in cells)
        return known or photos, len(cells)

    return max(_DELIMITERS, key=sense)


def _to_width(
    path: Path, number: int, row: list[str], header: list[str], delimiter: str
) -> tuple[str, tuple[str, ...]]:
    """A row with as many cells as there are headings."""
    place, width = f"{path}, line {number}", len(header)
    row = row[:width] if not any(row[width:]) else row
    last = delimiter.join(row[width - 1 :])
    if len(row) > width and ((width == 2 and is_image_heading(header[0])) or (last[:1] + last[-1:]) == "[]"):
        row = [*row[: width - 1], last]  # more tags, unquoted
    if len(row) != width:
        raise ValueError(f"{place}: {len(row)} columns where the first line has {width}; {_QUOTES}.")
    return place, tuple(row)
