"""The tags file: `labels.csv` (`image,tags`), or a text file with `image tag tag ...` on each line."""

import csv
from pathlib import Path, PurePosixPath

from cti.data.source import read_lines

_EXAMPLE = 'for example: photos/a.jpg,"cat, sofa"'


def read_tags(path: Path, known: tuple[str, ...] = ()) -> dict[str, frozenset[str]]:
    """Read a tags file.

    In a CSV the tags are separated by spaces, `;` or (quoted) `,`. A class name with a space in it stays whole where
    `;` or `,` separates the tags, where `known` names it, or where another line of the file shows it to be one name.

    Args:
        path: A `.csv` whose first line is `image,tags` (further columns are ignored), or a text file.
        known: Class names that are known already.

    Returns:
        Path relative to the photo folder, with `/` -> tags; an empty set where a line has no tags.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: with file, line and remedy.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no tags file {path}; write one with the first line image,tags ({_EXAMPLE}).")
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _text_rows(path)
    cells: dict[str, tuple[int, str]] = {}
    for line, image, cell in rows:
        image = image.replace("\\", "/").removeprefix("./")
        pure = PurePosixPath(image)
        if not image:
            raise ValueError(f"{path}, line {line}: the image column is empty; name a photo or delete the line.")
        if pure.is_absolute() or ".." in pure.parts:
            raise ValueError(f"{path}, line {line}: '{image}' leaves the photo folder; give a path relative to it.")
        if image in cells:
            first = cells[image][0]
            raise ValueError(
                f"{path}, line {line}: '{image}' was on line {first} already; put all its tags on one line."
            )
        cells[image] = (line, cell)
    if not cells:
        raise ValueError(f"{path} names no photo; add one line per photo, {_EXAMPLE}.")
    names = {name for name in known if " " in name}
    names |= {part for _, cell in cells.values() for part in _delimited(cell) if " " in part}
    longest = sorted(names, key=len, reverse=True)
    return {image: frozenset(_split(cell, longest)) for image, (_, cell) in cells.items()}


def _csv_rows(path: Path) -> list[tuple[int, str, str]]:
    rows: list[tuple[int, str, str]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            if "image" not in header or "tags" not in header:
                shown = ",".join(header) or "nothing"
                raise ValueError(f"{path}, line 1: the first line must be image,tags but is {shown}; add that line.")
            image, tags = header.index("image"), header.index("tags")
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(header):
                    raise ValueError(
                        f"{path}, line {reader.line_num}: {len(row)} columns where the first line has {len(header)}; "
                        f"put quotes around tags that are separated by commas, {_EXAMPLE}."
                    )
                rows.append((reader.line_num, row[image].strip(), row[tags].strip()))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}); save the table as CSV in UTF-8.") from error
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}; check the quotes on that line.") from error
    return rows


def _text_rows(path: Path) -> list[tuple[int, str, str]]:
    rows = ((number, line.partition(" ")) for number, line in read_lines(path))
    return [(number, image, cell.strip()) for number, (image, _, cell) in rows]


def _delimited(cell: str) -> list[str]:
    """The parts of a cell that uses `;` or `,`; nothing for any other cell."""
    if ";" not in cell and "," not in cell:
        return []
    return [" ".join(part.split()) for part in cell.replace(";", ",").split(",") if part.strip()]


def _split(cell: str, names_with_spaces: list[str]) -> list[str]:
    parts = _delimited(cell)
    if parts:
        return parts
    found: list[str] = []
    words = cell.split()
    while words:
        rest = " ".join(words)
        name = next((name for name in names_with_spaces if rest == name or rest.startswith(f"{name} ")), words[0])
        found.append(name)
        words = words[len(name.split()) :]
    return found
