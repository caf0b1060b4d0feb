"""From a `DataConfig` to a `PhotoSet`: finds the reader, chooses classes, lists and masks."""

import difflib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np

from cti.classes import IGNORE_INDEX, check_classes
from cti.config import DataConfig
from cti.data.depth import Reading
from cti.data.names import tidy
from cti.data.photo_folder import photo_id
from cti.data.photos import Photo, PhotoSet, dropped_sentence
from cti.data.readers.coco import find_annotations, read_coco
from cti.data.readers.folder import find_folder, read_folder
from cti.data.readers.shapes import render_shapes
from cti.data.readers.voc import find_voc, read_voc
from cti.data.source import Entry, Source
from cti.data.splits import EarlierSplit, split_by_seed

READERS = {"voc": read_voc, "coco": read_coco, "folder": read_folder, "shapes": read_folder}
ROOT_VARIABLE = "CTI_DATA"
SHAPES_ROOT = "data/shapes"


def read_photos(config: DataConfig, earlier: EarlierSplit | None = None) -> PhotoSet:
    """Read a data set.

    Tags of classes that are not chosen are dropped and counted, and their mask pixels become 255. A photo that the tags
    file lists without a tag is a negative; other photos without a tag are skipped (`empty_tags` says otherwise).
    Without lists `train` and `val` are drawn by `split_seed`. No photo is opened here: see `cti.data.check`.

    Args:
        config: Where the photos are and what is read from them.
        earlier: An earlier draw, whose photos stay where they are.

    Raises:
        FileNotFoundError: if the root, photos or tags are not there.
        ValueError: if a tags file, list or class cannot be used; the message says where and what to do.
    """
    root = data_root(config)
    kind = config.format if config.format != "auto" else detect_format(root, config)
    if kind == "shapes":
        render_shapes(root)
    source = READERS[kind](root, config)
    classes = _choose_classes(source, config)
    table = _table(source.classes, classes)
    notes = list(source.notes)

    photos = {entry.id: _photo(entry, classes, table, config) for entry in source.entries.values()}
    usable = {
        name for name, photo in photos.items() if photo.tags or _is_negative(source, source.entries[name], config)
    }
    lists = _lists(source, config, photos, usable, notes, earlier)
    used = {name for names in lists.values() for name in names} if source.available else set(photos)
    dropped = Counter(tag for name in used for tag in source.entries[name].tags or () if tag not in classes)
    dropped_tags = dict(sorted(dropped.items()))
    if dropped_tags:
        notes.append(dropped_sentence(dropped_tags))
    untagged = sorted(name for name in used if source.entries[name].tags is None)
    if untagged:
        notes.append(f"{len(untagged)} listed photos have no tags at all, e.g. {untagged[0]}.")

    kept = {name: tuple(photos[photo] for photo in members if photo in usable) for name, members in lists.items()}
    members = {photo.id: photo for listed in kept.values() for photo in listed}
    negatives = sum(not photo.tags for photo in members.values())
    if negatives:
        notes.append(f"{negatives} of {len(members)} photos show none of the classes.")
    skipped = used - members.keys()
    if skipped:
        notes.append(f"{len(skipped)} photos without a tag of the chosen classes were left out (data.empty_tags).")
    has_masks = any(photo.mask is not None for name in ("score", "val") for photo in kept[name])
    reading = Reading.of(config)
    unlabelled = tuple(
        Photo(photo_id(path.relative_to(source.folder).as_posix()), path, (), None, config.max_pixels, reading)
        for path in source.unlabelled
        if source.folder is not None
    )
    return PhotoSet(classes, kept, tuple(notes), has_masks, dropped_tags, unlabelled, source.problems, source.folder)


def data_root(config: DataConfig) -> Path:
    """The data folder: `config.root`, else what CTI_DATA names (not for shapes, which are written: `data/shapes`).

    Raises:
        FileNotFoundError: if it does not exist (shapes are rendered instead).
        ValueError: if nothing names it.
    """
    if config.format == "shapes":
        return Path(config.root or SHAPES_ROOT).expanduser()
    named = config.root or os.environ.get(ROOT_VARIABLE, "")
    if not named:
        raise ValueError(f"No data folder is given; set data.root or the environment variable {ROOT_VARIABLE}.")
    root = Path(named).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"The data folder {root} does not exist; set data.root or {ROOT_VARIABLE} to yours.")
    return root


_SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")


def detect_format(root: Path, config: DataConfig) -> str:
    """Which reader fits what lies in a folder: voc, coco or folder.

    Raises:
        ValueError: if none does.
    """
    if find_voc(root):
        return "voc"
    if not config.labels and find_annotations(root):
        return "coco"
    if find_folder(root, config):
        return "folder"
    spreadsheets = sorted(path.name for path in root.iterdir() if path.suffix.lower() in _SPREADSHEETS)
    raise ValueError(
        f"{root} is no data set: it has neither JPEGImages (VOC), nor instances_*.json (COCO), nor labels.csv, nor "
        "photos in sub-folders. "
        + (
            f"Save {spreadsheets[0]} as CSV, which every spreadsheet program can."
            if spreadsheets
            else "For photos of your own write labels.csv with the first line image,tags and one line per photo."
        )
    )


def _choose_classes(source: Source, config: DataConfig) -> tuple[str, ...]:
    if not (config.classes or source.chosen):
        raise ValueError("No photo of the data set has a tag; write class names into the tags column.")
    classes = check_classes(tuple(map(tidy, config.classes)) or source.chosen)
    unknown = [name for name in classes if name not in source.classes]
    if unknown:
        close = [match for name in unknown for match in difflib.get_close_matches(name, source.classes, 1)]
        hint = f" (perhaps {', '.join(close)} is meant)" if close else ""
        raise ValueError(
            f"No photo can have the class {', '.join(unknown)} (data.classes or classes.txt); the data set knows "
            f"{', '.join(source.classes)}{hint}."
        )
    return classes


def _table(vocabulary: tuple[str, ...], classes: tuple[str, ...]) -> bytes:
    """256 bytes: the reader's mask value -> mask value of the chosen classes, 255 for classes that are not."""
    table = np.full(256, IGNORE_INDEX, dtype=np.uint8)
    table[0] = 0
    for value, name in enumerate(vocabulary[: IGNORE_INDEX - 1], 1):
        if name in classes:
            table[value] = classes.index(name) + 1
    return table.tobytes()


def _photo(entry: Entry, classes: tuple[str, ...], table: bytes, config: DataConfig) -> Photo:
    tags = tuple(sorted(classes.index(tag) for tag in entry.tags or () if tag in classes))
    mask = entry.mask(table) if entry.mask else None
    return Photo(entry.id, entry.image, tags, mask, config.max_pixels, Reading.of(config))


def _is_negative(source: Source, entry: Entry, config: DataConfig) -> bool:
    """Whether a photo without a tag of the classes shows none of them; where nobody tagged it, that is unknown."""
    if config.empty_tags == "negative":
        return entry.tags is not None
    return config.empty_tags == "auto" and source.empty_is_negative and entry.tags == frozenset()


def _lists(
    source: Source,
    config: DataConfig,
    photos: Mapping[str, Photo],
    usable: set[str],
    notes: list[str],
    earlier: EarlierSplit | None,
) -> dict[str, tuple[str, ...]]:
    """The ids of `train`, `score` and `val`: from the data set's lists, or from a split drawn by seed."""
    lists = source.lists
    if not source.available:
        # Only photos that can be used are drawn, so that the held-out share is what was asked for.
        tags = {name: photos[name].tags for name in usable}
        train, val = split_by_seed(usable, config.val_fraction, config.split_seed, earlier, tags)
        lists = {config.train: train, config.val: val}
        notes.append(
            f"There are no lists: seed {config.split_seed} drew {len(train)} photos to train on and {len(val)} for val."
            + (" Photos stay where an earlier draw put them." if earlier else "")
        )
    usual = {field.name: field.default for field in fields(DataConfig)}
    result: dict[str, tuple[str, ...]] = {}
    for role, name in (("train", config.train), ("score", config.score), ("val", config.val)):
        if name in lists:
            result[role] = lists[name]
        elif role != "train" and name == usual[role]:
            result[role] = ()
            notes.append(f"There is no list '{name}', so '{role}' is empty.")
        else:
            there = ", ".join(source.available or tuple(lists))
            raise ValueError(f"There is no list '{name}' (data.{role}); the lists are: {there}.")
    return result
