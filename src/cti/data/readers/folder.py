"""A data set of one's own: a folder of photos, and tags in any form."""

from collections import Counter
from pathlib import Path

from cti.config import DataConfig
from cti.data.images import NAMED_SUFFIXES
from cti.data.mask_folder import MaskFolder
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
from cti.data.tags import Hints, TagTable, read_tags
from cti.data.tags.beside import folder_tag, read_folders, read_sidecars, sidecar, without_list
from cti.data.tags.read import find_tags_file

_PHOTO_FOLDERS = ("images", "photos", "imgs", "JPEGImages")
_MASK_FOLDERS = ("masks", "ground_truth")
_NO_PHOTOS = ("lists", "labels", "annotations", "runs")


def find_folder(root: Path, config: DataConfig) -> bool:
    """Whether a folder holds photos with tags that `read_folder` can read."""
    images, masks = _image_folder(root, config), _mask_folder(root, config)
    photos = PhotoFolder(images, _without(root, masks))
    if find_tags_file((root, images), config.labels, photos.has) is not None:
        return True
    nested = [path for path in sorted(root.iterdir()) if path.is_dir() and _is_data_set(path)]
    if nested:
        raise ValueError(f"{root} holds data sets, {nested[0].name} for one; set data.root to the one you mean.")
    return any(folder_tag(photo) or sidecar(images / photo) for photo in photos.photos)


def read_folder(root: Path, config: DataConfig) -> Source:
    """Read a folder of photos with tags.

    Photos lie in `config.images`, else in `images/` or `photos/`, else in the root, sub-folders included. Tags come
    from `config.labels`, else from a tags file of a usual name (`labels.csv`, `metadata.jsonl`, ...) or the only file
    that can be one, else from a file beside each photo (text, VOC's XML, labelme's JSON), else from the sub-folder a
    photo lies in. Masks, if any, are `masks/<path without suffix>.png` (or in `config.masks`), their values in the
    order of `classes.txt`, else of the sorted class names; in a sub-folder with the name of a class
    (`ground_truth/crack/000_mask.png`, as in MVTec's data sets) whatever is not 0 is that class. Lists are
    `lists/NAME.txt`, one photo a line.

    Raises:
        FileNotFoundError: if there are no tags, or no folder that the configuration names.
        ValueError: if tags or lists cannot be read, or two photos share an id; the message names file and line.
    """
    written = read_classes(root)
    images = _image_folder(root, config)
    masks = _mask_folder(root, config)
    photos = PhotoFolder(images, _without(root, masks))
    table, split = _table(root, config, photos, written)
    known = (*config.classes, *written)
    tags, notes = settle_names(tags_of_photos(table, photos), known, config.normal)

    named = {name for names in tags.values() for name in names}
    listed = settle_names({"": frozenset(table.classes)}, known, config.normal)[0][""]
    named |= listed
    classes = (*written, *sorted(named - set(written))) if written else tuple(sorted(named))
    vocabulary = written or classes
    ids = unique_ids(tags, images)
    mask_folder = MaskFolder(masks) if masks else None
    entries: dict[str, Entry] = {}
    used: list[Path] = []
    shortened = Counter(without_list(path) for path in ids)
    for path, name in ids.items():
        short = without_list(path)
        mask = mask_folder.find(path, name, *([short] if shortened[short] == 1 else [])) if mask_folder else None
        used += [mask] if mask else []
        maker = None
        if mask and mask_folder:
            folder_class = mask_folder.named_after(mask, tags[path])
            number = vocabulary.index(folder_class) + 1 if folder_class in vocabulary else 0
            maker = mask_maker(mask, len(vocabulary), config.max_pixels, number)
        entries[name] = Entry(name, _file(images, path), tags[path], maker)

    lists, available = _lists(root, config, entries, photos, split)
    without = [photo for photo in photos.photos if photo not in tags]
    note = f"{len(without)} photos in {images} have no line in the tags file and are not used."
    return Source(
        classes,
        vocabulary,
        entries,
        lists,
        available,
        (
            table.note,
            *notes,
            *((note,) if without else ()),
            *photos.passed_over_note(),
            *(mask_folder.ownerless_note(used) if mask_folder else ()),
        ),
        table.problems,
        images,
        tuple(images / photo for photo in without),
        empty_is_negative=True,
    )


def _table(
    root: Path, config: DataConfig, photos: PhotoFolder, written: tuple[str, ...]
) -> tuple[TagTable, dict[str, list[str]]]:
    """The tags, and lists where sub-folders are lists."""
    path = find_tags_file((root, photos.root), config.labels, photos.has)
    known = (*config.classes, *written)
    if path is not None:
        hints = Hints(known, config.image_column, config.tags_column)
        return read_tags(path, photos.has, hints), {}
    if any(sidecar(photos.root / photo) for photo in photos.photos):
        return read_sidecars(photos.root, photos.photos, written or config.classes), {}
    if any(folder_tag(photo) for photo in photos.photos):
        return read_folders(photos.root, photos.photos, config.normal)
    raise FileNotFoundError(
        f"There are no tags in {root}: no labels.csv, no text file beside a photo, no sub-folders; write labels.csv "
        'with the first line image,tags and one line per photo (a.jpg,"cat, dog").'
    )


def _image_folder(root: Path, config: DataConfig) -> Path:
    if config.images and not (root / config.images).is_dir():
        raise FileNotFoundError(f"There is no folder {root / config.images}; data.images is '{config.images}'.")
    names = (config.images,) if config.images else _PHOTO_FOLDERS
    return next((root / name for name in names if (root / name).is_dir()), root)


def _mask_folder(root: Path, config: DataConfig) -> Path | None:
    if config.masks == "none":
        return None
    if config.masks and not (root / config.masks).is_dir():
        raise FileNotFoundError(f"There is no folder {root / config.masks}; data.masks is '{config.masks}'.")
    names = (config.masks,) if config.masks else _MASK_FOLDERS
    return next((root / name for name in names if (root / name).is_dir()), None)


def _is_data_set(folder: Path) -> bool:
    parts = ("labels.csv", "images", "JPEGImages", "annotations")
    return any((folder / part).exists() for part in parts)


def _without(root: Path, masks: Path | None) -> tuple[Path, ...]:
    """Folders whose files are no photos."""
    return (*(root / name for name in (*_MASK_FOLDERS, *_NO_PHOTOS)), *((masks,) if masks else ()))


def _file(images: Path, path: str) -> Path:
    """The photo's file; one that is not there and has no suffix is asked for as a JPEG."""
    file = images / path
    return file if file.suffix.lower() in NAMED_SUFFIXES or file.exists() else file.with_name(f"{file.name}.jpg")


def _lists(
    root: Path, config: DataConfig, entries: dict[str, Entry], photos: PhotoFolder, split: dict[str, list[str]]
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    wanted = (config.train, config.score, config.val)
    listed, available = read_lists(root, wanted)
    if not available and split:
        found = {name: tuple(photo_id(photo) for photo in members) for name, members in split.items()}
        return {name: found[name] for name in wanted if name in found}, tuple(sorted(found))
    lists: dict[str, tuple[str, ...]] = {}
    for name, lines in listed.items():
        members: list[str] = []
        for line in lines:
            photo = listed_photo(line, entries, photos, f"The list '{name}'")
            if photo not in entries:
                raise ValueError(
                    f"The list '{name}' names '{line}', which is not in the tags file; add it or take it off."
                )
            members.append(photo)
        lists[name] = tuple(dict.fromkeys(members))
    return lists, available
