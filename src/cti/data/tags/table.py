"""What every form of tags comes down to: one row per photo, or per photo and tag."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cti.data.images import NAMED_SUFFIXES


@dataclass(frozen=True)
class TagRow:
    """What one place of a tags file says about one photo.

    Args:
        image: Name of the photo as written.
        tags: Names of classes as written; empty: none of the classes is there.
        where: File and line, or entry, for error messages.
    """

    image: str
    tags: tuple[str, ...]
    where: str


@dataclass(frozen=True)
class TagTable:
    """All that a tags file says.

    Args:
        rows: In the file's order; a photo may be on several.
        note: How the file was understood, with an example.
        classes: Names of classes that the file lists in any case (headings of one column per class).
        problems: What is worth looking at, one sentence each.
    """

    rows: tuple[TagRow, ...]
    note: str
    classes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cells:
    """A table before its columns are understood.

    Args:
        header: Names of the columns; empty where the file has none.
        rows: (place to name in errors, cells); cells are text, or what JSON holds.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Any, ...]], ...]


IsPhoto = Callable[[str], bool]


def names_a_photo(cell: Any, is_photo: IsPhoto) -> bool:
    """Whether a cell is the name of a photo: one that is there, or one by its suffix."""
    return (
        isinstance(cell, str) and bool(cell.strip()) and (Path(cell).suffix.lower() in NAMED_SUFFIXES or is_photo(cell))
    )


def example(row: TagRow) -> str:
    """`a.jpg -> cat, dog`."""
    return f"{row.image} -> {', '.join(row.tags) or 'no tag'}"
