"""Data sets in the layout of PASCAL VOC 2007 and 2012."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from cti.classes import VOC_CLASSES
from cti.config import DataConfig
from cti.data.mask_folder import MaskFolder
from cti.data.names import name_key
from cti.data.photo_folder import PhotoFolder, photo_id
from cti.data.source import (
    Entry,
    Source,
    listed_photo,
    mask_maker,
    read_classes,
    read_lists,
    settle_names,
    tags_of_photos,
    unique_ids,
)
from cti.data.tags import Hints, read_tags
from cti.data.tags.objects import object_names

_TAG_FILES = ("labels.csv", "tags.txt")
_MASK_FOLDERS = ("SegmentationClassAug", "SegmentationClass")
_TYPING_ERROR = 0.8  # as difflib counts


def find_voc(root: Path) -> Path | None:
    """The folder that holds JPEGImages: `root` itself, or where the official archives unpack to below it."""
    for folder in (".", "VOC2012", "VOC2007", "VOCdevkit/VOC2012", "VOCdevkit/VOC2007"):
        if (root / folder / "JPEGImages").is_dir():
            return root / folder
    return None


def read_voc(root: Path, config: DataConfig) -> Source:
    """Read a data set in the VOC layout.

    Tags come from `config.labels`, else `labels.csv`, else `tags.txt`, else from `Annotations/*.xml`, where objects
    marked `difficult` count as tags (docs/method.md). Masks follow VOC's order of classes. Where the tags have names of
    their own, the classes are these names (or `classes.txt`, or `config.classes`), and masks follow `classes.txt`, else
    the sorted names. A photo's mask is taken from `SegmentationClassAug`, else from `SegmentationClass`.

    Raises:
        FileNotFoundError: if the layout lacks photos or tags.
        ValueError: if tags or lists cannot be read, two photos share an id, or it is not certain what the masks mean;
            the message names file and line.
    """
    folder = find_voc(root) or root
    images = folder / (config.images or "JPEGImages")
    if not images.is_dir():
        raise FileNotFoundError(f"There is no folder {images}; a VOC data set keeps its photos there (data.images).")
    photos = PhotoFolder(images)
    there = unique_ids(photos.photos, images)
    files = {name: images / path for path, name in there.items()}
    listed, available = read_lists(folder, (config.train, config.score, config.val))
    lists = {
        name: tuple(dict.fromkeys(listed_photo(line, files, photos, f"The list '{name}'") for line in lines))
        for name, lines in listed.items()
    }

    written = read_classes(root) or read_classes(folder)
    known = (*config.classes, *written)
    tags, notes, problems = _tags(folder, config, photos, known or VOC_CLASSES, lists, files)
    tags, settled = settle_names(tags, (*known, *(() if known else VOC_CLASSES)))
    named = {name for names in tags.values() for name in names}
    masks = _mask_folders(folder, config)
    classes, chosen = _vocabulary(folder, written, config.classes, named, bool(masks))
    ids = dict.fromkeys([*tags, *(photo for members in lists.values() for photo in members)])
    entries: dict[str, Entry] = {}
    for photo in ids:
        mask = next((found for masked in masks if (found := masked.find(photo))), None)
        maker = mask_maker(mask, len(classes), config.max_pixels) if mask else None
        entries[photo] = Entry(photo, files.get(photo, images / f"{photo}.jpg"), tags.get(photo), maker)
    without = tuple(path for name, path in files.items() if name not in tags)
    return Source(
        classes,
        chosen,
        entries,
        lists,
        available,
        (*notes, *settled, *photos.passed_over_note()),
        problems,
        images,
        without,
    )


def _vocabulary(
    folder: Path, written: tuple[str, ...], asked: tuple[str, ...], named: set[str], has_masks: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names in the order of the mask values, and those to use unless the configuration names others."""
    own = sorted(named - set(VOC_CLASSES))
    if written:
        return (VOC_CLASSES if set(written) <= set(VOC_CLASSES) else written), written
    if not own or (asked and set(asked) <= set(VOC_CLASSES)):
        return VOC_CLASSES, VOC_CLASSES
    slips = {name: close for name in own if (close := _close(name)) and name not in asked}
    if slips and len(own) < len(named):
        meant = ", ".join(f"'{name}' (perhaps {close})" for name, close in slips.items())
        raise ValueError(
            f"The tags in {folder} name {meant} beside classes of VOC; correct the tags, or list the classes you mean "
            "in data.classes or classes.txt."
        )
    if has_masks and set(own) < named:
        raise ValueError(
            f"The tags in {folder} name classes of VOC and others ({', '.join(own[:5])}), so it is not certain what "
            "mask values mean; write classes.txt with one name a line, in the order of the mask values, or set "
            "data.masks to none."
        )
    return tuple(sorted(named)), tuple(sorted(named))


def _close(name: str) -> str:
    return next(iter(difflib.get_close_matches(name, VOC_CLASSES, 1, _TYPING_ERROR)), "")


def _tags(
    folder: Path,
    config: DataConfig,
    photos: PhotoFolder,
    known: tuple[str, ...],
    lists: Mapping[str, tuple[str, ...]],
    files: Mapping[str, Path],
) -> tuple[dict[str, frozenset[str]], tuple[str, ...], tuple[str, ...]]:
    """Photo id -> tags as written, notes, problems."""
    tags_file = _tags_file(folder, config)
    if tags_file is not None:
        table = read_tags(tags_file, photos.has, Hints(known, config.image_column, config.tags_column))
        by_path = tags_of_photos(table, photos)
        ids = unique_ids(by_path, photos.root)
        return {ids[path]: names for path, names in by_path.items()}, (table.note,), table.problems
    annotations = folder / "Annotations"
    if not annotations.is_dir():
        raise FileNotFoundError(f"There are no tags in {folder}: neither labels.csv nor Annotations/*.xml.")
    listed = [photo for members in lists.values() for photo in members]
    return read_annotations(annotations, listed if lists else files), (), ()


def read_annotations(folder: Path, photos: Iterable[str]) -> dict[str, frozenset[str]]:
    """Tags from VOC's XML files: the names of all objects, `difficult` ones included.

    Returns:
        Photo id -> names, for the photos that have a file.

    Raises:
        ValueError: if a file is not VOC XML; the message names it and the line.
    """
    files = {name_key(photo_id(path.stem)): path for path in sorted(folder.glob("*.[xX][mM][lL]"))}
    tags: dict[str, frozenset[str]] = {}
    for photo in photos:
        path = files.get(name_key(photo))
        if path is None:
            continue
        tags[photo] = frozenset(object_names(path))
    return tags


def _tags_file(folder: Path, config: DataConfig) -> Path | None:
    if config.labels:
        return folder / config.labels
    return next((folder / name for name in _TAG_FILES if (folder / name).is_file()), None)


def _mask_folders(folder: Path, config: DataConfig) -> tuple[MaskFolder, ...]:
    """The folders of masks; of two the first one that has a photo's mask counts."""
    if config.masks == "none":
        return ()
    if config.masks and not (folder / config.masks).is_dir():
        raise FileNotFoundError(f"There is no folder {folder / config.masks}; data.masks names the folder of masks.")
    names = (config.masks,) if config.masks else _MASK_FOLDERS
    return tuple(MaskFolder(folder / name) for name in names if (folder / name).is_dir())
