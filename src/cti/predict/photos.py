"""Photos on disk, as `cti label` and `Predictor.stream` look for them."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cti.data.images import SUFFIXES
from cti.data.photo_folder import clean_path, photo_id
from cti.data.tags.columns import find_image_column
from cti.data.tags.delimited import read_delimited
from cti.data.tags.table import Cells

_TABLES = (".csv", ".tsv", ".txt", ".parquet")


def find_photos(places: Sequence[Path | str], leave_out: Path | None = None) -> dict[str, Path]:
    """Photos by id: the files named, and those of the folders and patterns named, sorted, sub-folders included.

    Args:
        places: Files, folders, patterns such as `new/*.jpg`, and tables of paths, which are relative to their table's
            folder: CSV, a text file with one path a line, or Parquet. A photo of a table need not exist.
        leave_out: A folder whose files are not photos.

    Raises:
        FileNotFoundError: if something named does not exist.
        ValueError: if nothing is found, two photos share an id, or a table cannot be understood.
        ModuleNotFoundError: for Parquet without pyarrow.
    """
    avoided = leave_out.resolve() if leave_out else None
    photos: dict[str, Path] = {}
    for place in places:
        for name, path in _photos_of(Path(place)):
            if avoided and path.resolve().is_relative_to(avoided):
                continue
            other = photos.setdefault(name, path)
            if other.resolve() != path.resolve():
                raise ValueError(f"The photos {other} and {path} would both be written as {name}.png; rename one.")
    if not photos:
        raise ValueError(
            f"There is no photo in {', '.join(map(str, places)) or 'an empty list'}; name photos or folders."
        )
    return photos


def is_pattern(place: str | os.PathLike[str]) -> bool:
    """Whether a name that does not exist is meant as a pattern for several."""
    return not Path(place).exists() and glob.has_magic(str(place))


def _photos_of(place: Path) -> Iterator[tuple[str, Path]]:
    if place.is_dir():
        for path in sorted(place.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield photo_id(path.relative_to(place).as_posix()), path
    elif place.suffix.lower() in _TABLES and place.is_file():
        for name in _listed(place):
            path = Path(os.path.normpath(place.parent / name))
            below = path.is_relative_to(place.parent)
            yield photo_id(path.relative_to(place.parent if below else path.anchor).as_posix()), path
    elif place.exists():
        yield photo_id(place.name), place
    elif is_pattern(place):
        for path in sorted(map(Path, glob.glob(str(place), recursive=True))):  # noqa: PTH207 - Path.glob takes no absolute one
            if path.is_dir() or path.suffix.lower() in SUFFIXES:
                yield from _photos_of(path)
    else:
        raise FileNotFoundError(f"There is no photo or folder {place}; check the name.")


def _listed(table: Path) -> Iterator[str]:
    """The paths in a table's column of photos, as written."""
    cells = _parquet_cells(table) if table.suffix.lower() == ".parquet" else read_delimited(table, lambda _: False)
    column = find_image_column(table, cells, lambda _: False) if cells.rows else 0
    for where, row in cells.rows:
        if column >= len(row) or not str(row[column] or "").strip():
            raise ValueError(f"{where}: the column of photos is empty; name a photo or delete the line.")
        yield clean_path(str(row[column]))


def _parquet_cells(path: Path) -> Cells:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ModuleNotFoundError as error:
        message = f'Reading {path} needs pyarrow: pip install "cti[parquet]"; or give the paths as CSV.'
        raise ModuleNotFoundError(message) from error
    try:
        table = parquet.read_table(path)
    except ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file that can be read ({error}); write it again.") from error
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return Cells(tuple(table.column_names), tuple((f"{path}, row {number}", row) for number, row in enumerate(rows, 1)))
