"""What every reader returns: the data set in its own words, before classes are chosen."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cti.data.images import SUFFIXES, MaskFile
from cti.data.photos import MaskSource


@dataclass(frozen=True)
class Entry:
    """One photo as its reader found it.

    Args:
        id: See `cti.data.photos.Photo`.
        image: The image file, which may be missing.
        tags: Names of classes; None where nothing says which classes occur.
        mask: Makes the mask source, given the 256-byte table from the reader's mask values to the chosen classes.
    """

    id: str
    image: Path
    tags: frozenset[str] | None
    mask: Callable[[bytes], MaskSource] | None = None


@dataclass(frozen=True)
class Source:
    """A data set as its reader found it.

    Args:
        classes: The reader's vocabulary, in the order of its mask values: value 1 is `classes[0]`.
        chosen: Classes to use unless the configuration names others.
        entries: Photo id -> entry.
        lists: The wanted lists that exist: name -> photo ids. Empty when the data set has no lists at all.
        available: Names of all lists, for error messages.
        notes: Sentences about what was left out.
    """

    classes: tuple[str, ...]
    chosen: tuple[str, ...]
    entries: dict[str, Entry]
    lists: dict[str, tuple[str, ...]]
    available: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def photo_id(path: str) -> str:
    """The id of a photo given its path relative to the photo folder, with or without extension: `a/b.jpg` -> `a__b`."""
    pure = PurePosixPath(path)
    return str(pure.with_suffix("") if pure.suffix.lower() in SUFFIXES else pure).replace("/", "__")


def mask_maker(path: Path, num_classes: int) -> Callable[[bytes], MaskSource]:
    """How to read a mask file once the chosen classes are known."""
    return lambda table: MaskFile(path, num_classes, table)


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The non-empty lines of a text file, stripped, with their numbers.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8.") from error
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def read_classes(root: Path) -> tuple[str, ...]:
    """The class names in `classes.txt`, one a line; empty without that file."""
    path = root / "classes.txt"
    return tuple(line for _, line in read_lines(path)) if path.is_file() else ()


_LIST_FOLDERS = ("lists", "ImageSets/Segmentation", "ImageSets/Main")


def read_lists(root: Path, names: Iterable[str]) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """The lists of these names, as lines, and the names of all lists of the data set.

    A list is `NAME.txt` in `lists`, `ImageSets/Segmentation` or `ImageSets/Main`, looked for in this order.
    """
    files: dict[str, Path] = {}
    for folder in _LIST_FOLDERS:
        for path in sorted((root / folder).glob("*.txt")):
            files.setdefault(path.stem, path)
    found = {name: [line for _, line in read_lines(files[name])] for name in dict.fromkeys(names) if name in files}
    return found, tuple(sorted(files))
