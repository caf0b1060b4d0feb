"""Photos on disk and elsewhere, as `cti label` and `Predictor.stream` look for them."""

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from cti.data.images import NAMED_SUFFIXES, photos_among
from cti.data.photo_folder import clean_path, photo_id
from cti.data.tags.columns import find_image_column
from cti.data.tags.delimited import read_delimited
from cti.data.tags.table import Cells
from cti.predict.archives import expanded, is_archive, photos_in
from cti.predict.places import Address, Place, is_address, is_http, open_store, place_id, place_of, safe_id

_TABLES = (".csv", ".tsv", ".txt", ".parquet")


def find_photos(places: Sequence[Path | str], leave_out: Path | None = None) -> dict[str, Place]:
    """Photos by id: the files named, and those of the folders and patterns named, sorted, sub-folders included.

    Args:
        places: Files, folders, patterns such as `new/*.jpg`, and tables of paths, which are relative to their table's
            folder, or addresses: CSV, a text file with one path a line, or Parquet. A photo of a table need not exist.
            Tar archives (`cti.predict.archives.photos_in`), and `a-{00..99}.tar` for many. Addresses of photos and
            archives and, in an object store, of folders and patterns (`s3://bucket/new/*.jpg`).
        leave_out: A folder whose files are not photos.

    Returns:
        Id -> place; see `cti.predict.places.place_id`. An archive that cannot be listed is an `Unreadable`.

    Raises:
        FileNotFoundError: if something named does not exist.
        ValueError: if nothing is found, two photos share an id, or a table or store cannot be read.
        ModuleNotFoundError: for Parquet without pyarrow, or a store without the package that reads it.
    """
    avoided = leave_out.resolve() if leave_out else None
    photos: dict[str, Place] = {}
    for place in (name for named in places for name in _names(named)):
        for name, path in _photos_of(place):
            if avoided and isinstance(path, Path) and path.resolve().is_relative_to(avoided):
                continue
            other = photos.setdefault(name, path)
            if other != path and whole_place(other) != whole_place(path):
                raise ValueError(f"The photos {other} and {path} would both be written as {name}.png; rename one.")
    if not photos:
        raise ValueError(
            f"There is no photo in {', '.join(map(str, places)) or 'an empty list'}; name photos or folders."
        )
    return photos


def whole_place(place: Place) -> str:
    """Where a photo is, whatever folder one works in."""
    return str(place.resolve() if isinstance(place, Path) else place)


def is_pattern(place: str | os.PathLike[str]) -> bool:
    """Whether a name that does not exist is meant as a pattern for several."""
    return not Path(place).exists() and glob.has_magic(str(place))


def _names(named: Path | str) -> Iterator[Path | Address]:
    """What a word of the command line stands for."""
    texts = expanded(str(named)) if is_address(named) or not Path(named).exists() else [str(named)]
    yield from (place_of(text) if is_address(text) else Path(text) for text in texts)


def _photos_of(place: Path | Address) -> Iterator[tuple[str, Place]]:
    if isinstance(place, Address):
        yield from _behind(place)
    elif place.is_dir():
        for path in photos_among(sorted(path for path in place.rglob("*") if path.is_file())):
            yield photo_id(path.relative_to(place).as_posix()), path
    elif place.suffix.lower() in _TABLES and place.is_file():
        yield from _of_table(place)
    elif is_archive(place.name) and place.is_file():
        yield from photos_in(place)
    elif place.exists():
        yield photo_id(place.name), place
    elif is_pattern(place):
        for path in sorted(map(Path, glob.glob(str(place), recursive=True))):  # noqa: PTH207 - Path.glob takes no absolute one
            if path.is_dir() or path.suffix.lower() in NAMED_SUFFIXES or is_archive(path.name):
                yield from _photos_of(path)
    else:
        raise FileNotFoundError(f"There is no photo or folder {place}; check the name.")


def _behind(place: Address) -> Iterator[tuple[str, Place]]:
    """Photos behind an address: of a photo, an archive or, in an object store, a pattern or folder."""
    url, suffix = place.url, PurePosixPath(place.url).suffix.lower()
    if is_archive(url):
        for archive in _paths(url) if glob.has_magic(url) and not is_http(url) else [url]:
            yield from photos_in(Address(archive))
    elif suffix in _TABLES:
        raise ValueError(f"{url} is a table; download it, and give its path.")
    elif is_http(url):
        yield place_id(url), place
    elif glob.has_magic(url):
        for path in _paths(url):
            if PurePosixPath(path).suffix.lower() in NAMED_SUFFIXES:
                yield safe_id(path.rpartition("/")[2]), Address(path)
    elif suffix in NAMED_SUFFIXES:
        open_store(url)
        yield safe_id(url.rpartition("/")[2]), place
    else:
        folder = _whole(url, open_store(url)._strip_protocol(url))
        for path in _paths(url):
            if PurePosixPath(path).suffix.lower() in NAMED_SUFFIXES:
                yield safe_id(path.removeprefix(folder)), Address(path)


def _paths(url: str) -> list[str]:
    """Addresses of what a pattern in an object store fits, or of all in a folder, sorted."""
    store = open_store(url)
    try:
        found = store.glob(url) if glob.has_magic(url) else store.find(url)
    except Exception as error:
        raise ValueError(f"{url} cannot be listed ({error}); check the address and the connection.") from error
    return [_whole(url, path) for path in sorted(found)]


def _whole(url: str, path: str) -> str:
    """A path as a store has it, as an address like `url`."""
    return f"{url.partition('://')[0]}://{path.strip('/')}"


def _of_table(table: Path) -> Iterator[tuple[str, Place]]:
    stores: set[str] = set()
    for name in _listed(table):
        place = place_of(name) if is_address(name) else Path(os.path.normpath(table.parent / name))
        if isinstance(place, Address):
            scheme = name.partition("://")[0]
            if scheme not in stores and not is_http(name):
                with suppress(ValueError):  # said of each photo
                    open_store(name)
            stores.add(scheme)
            yield place_id(name), place
        else:
            below = place.is_relative_to(table.parent)
            yield photo_id(place.relative_to(table.parent if below else place.anchor).as_posix()), place


def _listed(table: Path) -> Iterator[str]:
    """The paths in a table's column of photos, as written."""
    cells = _parquet_cells(table) if table.suffix.lower() == ".parquet" else read_delimited(table, is_address)
    column = find_image_column(table, cells, is_address) if cells.rows else 0
    for where, row in cells.rows:
        if column >= len(row) or not str(row[column] or "").strip():
            raise ValueError(f"{where}: the column of photos is empty; name a photo or delete the line.")
        name = str(row[column]).strip()
        yield name if is_address(name) else clean_path(name)


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
