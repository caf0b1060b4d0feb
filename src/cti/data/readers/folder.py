"""A data set of one's own: a folder of photos and `labels.csv`."""

from collections.abc import Iterator
from pathlib import Path

from cti.config import DataConfig
from cti.data.images import SUFFIXES
from cti.data.source import Entry, Source, mask_maker, photo_id, read_classes, read_lists
from cti.data.tags import read_tags


def read_folder(root: Path, config: DataConfig) -> Source:
    """Read a folder of photos with a tags file.

    Photos lie in `config.images`, else in `images/`, else in the root, sub-folders included; the paths in the tags file
    are relative to that folder and have an extension. Masks, if any, are `masks/<path without extension>.png`
    (or in `config.masks`), their values in the order of `classes.txt`, else of the sorted class names.
    Lists are `lists/NAME.txt`, one photo a line, with or without extension.

    Raises:
        FileNotFoundError: if there is no tags file or a folder named by the configuration.
        ValueError: if tags or lists cannot be read, or two photos share an id; the message names file and line.
    """
    written = read_classes(root)
    tags = read_tags(root / (config.labels or "labels.csv"), written)
    images = _subfolder(root, config.images, "images", "data.images") or root
    masks = None if config.masks == "none" else _subfolder(root, config.masks, "masks", "data.masks")
    named = {name for names in tags.values() for name in names}
    classes = (*written, *sorted(named - set(written))) if written else tuple(sorted(named))

    by_id: dict[str, str] = {}
    for path in tags:
        other = by_id.setdefault(photo_id(path), path)
        if other != path:
            raise ValueError(
                f"The photos {other} and {path} would share the id '{photo_id(path)}'; rename one of them."
            )
    entries: dict[str, Entry] = {}
    for photo, path in by_id.items():
        mask = masks / Path(path).with_suffix(".png") if masks else None
        maker = mask_maker(mask, len(written or classes)) if mask is not None and mask.is_file() else None
        entries[photo] = Entry(photo, images / path, tags[path], maker)

    listed, available = read_lists(root, (config.train, config.score, config.val))
    lists = {name: tuple(dict.fromkeys(_list_ids(name, lines, entries))) for name, lines in listed.items()}
    untagged = sum(1 for path in _photos(images, masks) if path not in tags)
    note = f"{untagged} photos in {images} have no line in the tags file and are not used."
    return Source(classes, written or classes, entries, lists, available, (note,) if untagged else ())


def _subfolder(root: Path, named: str, usual: str, option: str) -> Path | None:
    folder = root / (named or usual)
    if folder.is_dir():
        return folder
    if named:
        raise FileNotFoundError(f"There is no folder {folder}; {option} is '{named}'.")
    return None


def _list_ids(name: str, lines: list[str], entries: dict[str, Entry]) -> Iterator[str]:
    for line in lines:
        plain = line.replace("\\", "/").removeprefix("./")
        photo = photo_id(plain)
        if photo not in entries:
            raise ValueError(f"The list '{name}' names '{line}', which is not in the tags file; add it or take it off.")
        yield photo


def _photos(images: Path, masks: Path | None) -> Iterator[str]:
    """All photos below a folder, relative to it; masks are not photos."""
    for path in images.rglob("*"):
        if path.suffix.lower() in SUFFIXES and not (masks and masks in path.parents):
            yield path.relative_to(images).as_posix()
