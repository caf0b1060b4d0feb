"""Photos on disk, as `cti label` and `Predictor.stream` look for them."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cti.data.images import SUFFIXES
from cti.data.source import photo_id


def find_photos(places: Sequence[Path | str], leave_out: Path | None = None) -> dict[str, Path]:
    """Photos by id: the files named, and those of the folders and patterns named, sorted, sub-folders included.

    Args:
        places: Files, folders and patterns such as `new/*.jpg`.
        leave_out: A folder whose files are not photos.

    Raises:
        FileNotFoundError: if something named does not exist.
        ValueError: if nothing is found or two photos share an id.
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
    elif place.exists():
        yield photo_id(place.name), place
    elif is_pattern(place):
        for path in sorted(map(Path, glob.glob(str(place), recursive=True))):  # noqa: PTH207 - Path.glob takes no absolute one
            if path.is_dir() or path.suffix.lower() in SUFFIXES:
                yield from _photos_of(path)
    else:
        raise FileNotFoundError(f"There is no photo or folder {place}; check the name.")
