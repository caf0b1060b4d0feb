"""What every reader returns: the data set in its own words, before classes are chosen. Here photos get their ids."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cti.data.images import MaskFile
from cti.data.names import means_nothing, name_key, one_spelling, tidy
from cti.data.photo_folder import PhotoFolder, clean_path, photo_id
from cti.data.photos import MaskSource
from cti.data.tags import TagTable
from cti.data.text import read_lines

__all__ = [
    "MAX_ID_BYTES", "Entry", "Source", "listed_photo", "mask_maker", "photo_id", "read_classes", "read_lines",
    "read_lists", "settle_names", "tags_of_photos", "unique_ids",
]  # fmt: skip

# A file system takes names of 255 bytes; unfinished files have a dot, a random part and two suffixes besides.
MAX_ID_BYTES = 230
_LIST_FOLDERS = ("lists", "ImageSets/Segmentation", "ImageSets/Main", "ImageSets")


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
        notes: How the data were understood and what was left out, one sentence each.
        problems: What is worth looking at, one sentence each.
        folder: The folder of the photos.
        unlabelled: Photos about which no tag says anything.
        empty_is_negative: Whether a photo that is there without a tag shows none of the classes, as in a tags file.
    """

    classes: tuple[str, ...]
    chosen: tuple[str, ...]
    entries: dict[str, Entry]
    lists: dict[str, tuple[str, ...]]
    available: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    problems: tuple[str, ...] = ()
    folder: Path | None = None
    unlabelled: tuple[Path, ...] = ()
    empty_is_negative: bool = False


def unique_ids(photos: Iterable[str], where: Path | str) -> dict[str, str]:
    """The id of each photo; the one check of identity for all readers.

    Args:
        photos: Paths relative to the photo folder.
        where: The folder, for errors.

    Returns:
        Path -> id.

    Raises:
        ValueError: if two photos would share an id, or an id is too long to name files by.
    """
    owners: dict[str, str] = {}
    for photo in photos:
        name = photo_id(photo)
        other = owners.setdefault(name, photo)
        if other != photo:
            raise ValueError(
                f"The photos {other} and {photo} would share the id '{name}'; rename or remove one of them in {where}."
            )
        if len(name.encode("utf-8")) > MAX_ID_BYTES:
            raise ValueError(
                f"The name of the photo {name[:40]}... in {where} is {len(name.encode('utf-8'))} bytes long; files are "
                f"named after it, so shorten it (with its folders) to {MAX_ID_BYTES}."
            )
    return {photo: name for name, photo in owners.items()}


def tags_of_photos(table: TagTable, photos: PhotoFolder) -> dict[str, frozenset[str]]:
    """Gather what a tags file says about each photo.

    Args:
        table: The file's rows.
        photos: The photos that are there.

    Returns:
        Path relative to the photo folder -> tags; for a photo that is not there, the path as written.

    Raises:
        ValueError: if a name leaves the folder or may mean two photos, if two names mean one photo, or if one row says
            that a photo has no tag and another one that it has.
    """
    named: dict[str, tuple[str, str]] = {}
    tags: dict[str, set[str]] = {}
    for row in table.rows:
        name = clean_path(row.image)
        path = PurePosixPath(name)
        if ".." in path.parts:
            raise ValueError(f"{row.where}: '{name}' leaves the photo folder; give a path relative to it.")
        found = photos.find(name, row.where)
        if found is None and (path.is_absolute() or ":/" in name[:3]):
            raise ValueError(f"{row.where}: '{name}' leaves the photo folder; give a path relative to it.")
        photo = found or name
        key, place = named.setdefault(photo, (photo_id(name).casefold(), row.where))
        if key != photo_id(name).casefold():
            raise ValueError(f"{place} and {row.where} both mean the photo {photo}; give its path in one way.")
        if photo in tags and bool(tags[photo]) != bool(row.tags):
            raise ValueError(
                f"{row.where}: '{name}' was on {place} already, one time with tags and one time without; keep one line."
            )
        tags.setdefault(photo, set()).update(row.tags)
    return {photo: frozenset(names) for photo, names in tags.items()}


def settle_names(
    tags: Mapping[str, frozenset[str]], known: Iterable[str], normal: Iterable[str] = ()
) -> tuple[dict[str, frozenset[str]], list[str]]:
    """Bring names to one spelling and take out those that say "nothing here".

    Args:
        tags: Photo -> names as written.
        known: Names the user chose or listed: their spelling counts, and they are always classes.
        normal: Names that say that none of the classes is there (`data.normal`).

    Returns:
        (photo -> names, what was done, one sentence each).
    """
    known = tuple(known)
    counts = Counter(name for names in tags.values() for name in names)
    spelling = one_spelling(counts, known)
    chosen = {name_key(name) for name in known}
    nothing = {name for name in counts if name_key(name) not in chosen and means_nothing(name, normal)}
    settled = {photo: frozenset(spelling[name] for name in names - nothing) for photo, names in tags.items()}
    notes = []
    for target in sorted({spelling[name] for name in counts if name not in nothing and tidy(name) != spelling[name]}):
        forms = sorted(tidy(name) for name in counts if spelling[name] == target and tidy(name) != target)
        notes.append(f"{', '.join(forms)} and {target} are one class: {target}.")
    if nothing:
        notes.append(f"{', '.join(sorted(nothing))}: taken to say that none of the classes is there (data.normal).")
    return settled, notes


def mask_maker(path: Path, num_classes: int, max_pixels: int, folder_class: int = 0) -> Callable[[bytes], MaskSource]:
    """How to read a mask file (see `MaskFile`) once the chosen classes are known."""
    return lambda table: MaskFile(path, num_classes, table, max_pixels, folder_class)


def read_classes(root: Path) -> tuple[str, ...]:
    """The class names in `classes.txt`, one a line; empty without that file."""
    path = root / "classes.txt"
    return tuple(tidy(line) for _, line in read_lines(path)) if path.is_file() else ()


def read_lists(root: Path, names: Iterable[str]) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """The lists of these names, as lines, and the names of all lists of the data set.

    A list is `NAME.txt` in `lists`, `ImageSets/Segmentation`, `ImageSets/Main` or `ImageSets`, looked for in this
    order.
    """
    files: dict[str, Path] = {}
    for folder in _LIST_FOLDERS:
        for path in sorted((root / folder).glob("*.txt")):
            files.setdefault(path.stem, path)
    found = {name: [line for _, line in read_lines(files[name])] for name in dict.fromkeys(names) if name in files}
    return found, tuple(sorted(files))


def listed_photo(line: str, ids: Mapping[str, object], photos: PhotoFolder, where: str) -> str:
    """The id of the photo that a line of a list means, whether or not there is such a photo.

    A line is an id, a path, or in the way of VOC `id 1` or `/JPEGImages/id.jpg /SegmentationClass/id.png`.
    """
    for name in (line, line.split()[0]):
        plain = clean_path(name).lstrip("/")
        if photo_id(plain) in ids:
            return photo_id(plain)
        found = photos.find(plain, where)
        if found is not None:
            return photo_id(found)
    words = line.split()
    return photo_id(PurePosixPath(clean_path(words[0])).name if len(words) > 1 else clean_path(line))
