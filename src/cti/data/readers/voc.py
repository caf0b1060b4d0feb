"""Data sets in the layout of PASCAL VOC 2007 and 2012."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from cti.classes import VOC_CLASSES
from cti.config import DataConfig
from cti.data.images import SUFFIXES
from cti.data.source import Entry, Source, mask_maker, photo_id, read_classes, read_lists
from cti.data.tags import read_tags

_TAG_FILES = ("labels.csv", "tags.txt")
_MASK_FOLDERS = ("SegmentationClassAug", "SegmentationClass")


def find_voc(root: Path) -> Path | None:
    """The folder that holds JPEGImages: `root` itself, or where the official archives unpack to below it."""
    for folder in (".", "VOC2012", "VOC2007", "VOCdevkit/VOC2012", "VOCdevkit/VOC2007"):
        if (root / folder / "JPEGImages").is_dir():
            return root / folder
    return None


def read_voc(root: Path, config: DataConfig) -> Source:
    """Read a data set in the VOC layout.

    Tags come from `config.labels`, else `labels.csv`, else `tags.txt`, else from `Annotations/*.xml`, where objects
    marked `difficult` count as tags (docs/method.md). Masks follow VOC's order of classes; where `classes.txt`, or most
    of the tags, name other classes than VOC's, they follow `classes.txt`, else the sorted names. A photo's mask is
    taken from `SegmentationClassAug`, else from `SegmentationClass`.

    Raises:
        FileNotFoundError: if the layout lacks photos or tags.
        ValueError: if tags or lists cannot be read; the message names file and line.
    """
    folder = find_voc(root) or root
    images = folder / (config.images or "JPEGImages")
    if not images.is_dir():
        raise FileNotFoundError(f"There is no folder {images}; a VOC data set keeps its photos there (data.images).")
    files = {path.stem: path for path in sorted(images.iterdir()) if path.suffix.lower() in SUFFIXES}
    listed, available = read_lists(folder, (config.train, config.score, config.val))
    lists = {name: tuple(dict.fromkeys(map(_list_id, lines))) for name, lines in listed.items()}

    written = read_classes(root) or read_classes(folder)
    tags_file = _tags_file(folder, config)
    if tags_file is not None:
        tags = {photo_id(path): names for path, names in read_tags(tags_file, written or VOC_CLASSES).items()}
    else:
        annotations = folder / "Annotations"
        if not annotations.is_dir():
            raise FileNotFoundError(f"There are no tags in {folder}: neither labels.csv nor Annotations/*.xml.")
        listed_photos = [photo for photos in lists.values() for photo in photos]
        tags = read_annotations(annotations, listed_photos if lists else files)

    named = {name for names in tags.values() for name in names}
    # A misspelt tag among VOC's names must not change what the masks mean, so most names decide.
    names = set(written) or named
    strangers = len(names - set(VOC_CLASSES))
    official = strangers == 0 if written else 2 * strangers <= len(names)
    classes = VOC_CLASSES if official else written or tuple(sorted(named))
    masks = _mask_files(folder, config)
    ids = dict.fromkeys([*tags, *(photo for photos in lists.values() for photo in photos)])
    entries = {
        photo: Entry(
            photo,
            files.get(photo, images / f"{photo}.jpg"),
            tags.get(photo),
            mask_maker(masks[photo], len(classes)) if photo in masks else None,
        )
        for photo in ids
    }
    return Source(classes, written or classes, entries, lists, available)


def read_annotations(folder: Path, photos: Iterable[str]) -> dict[str, frozenset[str]]:
    """Tags from VOC's XML files: the names of all objects, `difficult` ones included.

    Returns:
        Photo id -> names, for the photos that have a file.

    Raises:
        ValueError: if a file is not VOC XML; the message names it and the line.
    """
    tags: dict[str, frozenset[str]] = {}
    for photo in photos:
        path = folder / f"{photo}.xml"
        if not path.is_file():
            continue
        try:
            objects = ElementTree.parse(path).getroot().findall("object")
        except ElementTree.ParseError as error:
            raise ValueError(f"{path}, line {error.position[0]}: not valid XML ({error}); restore the file.") from error
        names = [(item.findtext("name") or "").strip() for item in objects]
        if "" in names:
            raise ValueError(f"{path}: object {names.index('') + 1} has no <name>; add it or remove the object.")
        tags[photo] = frozenset(names)
    return tags


def _list_id(line: str) -> str:
    """The photo a line of a list names: `id`, `id 1` (Main), or `/JPEGImages/id.jpg /SegmentationClassAug/id.png`."""
    return photo_id(PurePosixPath(line.split()[0]).name)


def _tags_file(folder: Path, config: DataConfig) -> Path | None:
    if config.labels:
        return folder / config.labels
    return next((folder / name for name in _TAG_FILES if (folder / name).is_file()), None)


def _mask_files(folder: Path, config: DataConfig) -> dict[str, Path]:
    """Photo id -> mask file; of two folders the first one that has the photo counts."""
    if config.masks == "none":
        return {}
    files: dict[str, Path] = {}
    for name in (config.masks,) if config.masks else _MASK_FOLDERS:
        if config.masks and not (folder / name).is_dir():
            raise FileNotFoundError(f"There is no folder {folder / name}; data.masks names the folder of masks.")
        for path in sorted((folder / name).glob("*.png")):
            files.setdefault(path.stem, path)
    return files
