"""COCO: `instances_*.json` with the 2014 or the 2017 names, masks ready-made or drawn from the annotations."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from cti.config import DataConfig
from cti.data.mask_folder import MaskFolder
from cti.data.photo_folder import PhotoFolder
from cti.data.photos import MaskSource
from cti.data.readers.coco_file import CocoImage, is_coco, read_coco_file
from cti.data.readers.coco_mask import CocoMask
from cti.data.source import Entry, Source, mask_maker, read_classes, unique_ids
from cti.data.text import read_foreign_json

_PREFIX = "instances_"
_EXPORT = "_annotations.coco.json"
_PLAIN = ("default", "result", "annotations", "coco", "instances", "labels")  # names of files that are no list
_ALIASES = {"val": ("valid", "validation"), "train": ("training",)}


def find_annotations(root: Path) -> dict[str, Path]:
    """List name -> annotation file.

    `train2014` -> `annotations/instances_train2014.json` (or in the root); `train` -> `train/_annotations.coco.json`;
    without any of these, every JSON file of COCO's form in `annotations/` or the root.
    """
    folders = (root, root / "annotations")
    files = sorted(path for folder in folders for path in folder.glob(f"{_PREFIX}*.json"))
    if files:
        return {path.stem.removeprefix(_PREFIX): path for path in files}
    exports = sorted([*root.glob(_EXPORT), *root.glob(f"*/{_EXPORT}")])
    if exports:
        return {path.parent.name if path.parent != root else "default": path for path in exports}
    others = [path for folder in folders for path in sorted(folder.glob("*.json")) if _is_coco_file(path)]
    return {path.stem: path for path in others}


def read_coco(root: Path, config: DataConfig) -> Source:
    """Read a COCO data set.

    A list is called as in the file's name, `train2014`; plain `train` will do where only one year is there. A single
    file that is called after no list holds no lists. Classes are the categories by sorted id, so mask value = rank of
    the category id. A photo has the tag of every annotation, crowds included. Masks are taken from `config.masks`,
    else from `masks/<list>/`, else from `masks/`; a photo without a ready-made one has it drawn on demand, which needs
    the extra `coco`. Where two files have a photo of one name, ids start with the list's name.

    Raises:
        FileNotFoundError: if there is no annotation file.
        ValueError: if an annotation file cannot be read, two disagree on the categories, a list name fits two years,
            or two photos share an id.
    """
    files = find_annotations(root)
    if not files:
        raise FileNotFoundError(f"There is no {_PREFIX}*.json in {root} or {root / 'annotations'}; put them there.")
    wanted = {name: found for name in (config.train, config.score, config.val) if (found := _find_list(name, files))}
    unlisted = not wanted and len(files) == 1
    if unlisted:
        wanted = {"": next(iter(files))}
    classes: tuple[str, ...] = ()
    notes: list[str] = []
    read: dict[str, dict[str, Entry]] = {}
    for name in dict.fromkeys(wanted.values()):
        categories = tuple(read_coco_file(files[name]).categories.values())
        if classes and categories != classes:
            raise ValueError(f"{files[name]} lists other categories than the files before it; use one set.")
        classes = categories
        read[name] = _read_file(root, name, files[name], config, notes)
    read = _apart(read, notes)
    entries = {photo: entry for members in read.values() for photo, entry in members.items()}
    lists = {name: tuple(read[found]) for name, found in wanted.items()} if not unlisted else {}
    available = () if unlisted else tuple(files)
    folder = next(iter(read.values()), {})
    first = next(iter(folder.values()), None)
    return Source(
        classes,
        read_classes(root) or classes,
        entries,
        lists,
        available,
        tuple(dict.fromkeys(notes)),
        folder=first.image.parent if first else root,
    )


def _find_list(name: str, files: dict[str, Path]) -> str | None:
    if name in files:
        return name
    fitting = [found for found in files if found.startswith(name) and found.removeprefix(name).isdigit()]
    if len(fitting) > 1:
        raise ValueError(f"The list '{name}' may be {' or '.join(fitting)}; name the one you mean.")
    return fitting[0] if fitting else next((other for other in _ALIASES.get(name, ()) if other in files), None)


def _read_file(root: Path, name: str, path: Path, config: DataConfig, notes: list[str]) -> dict[str, Entry]:
    """The photos of one annotation file by id."""
    content = read_coco_file(path)
    folder = _photo_folder(root, name, path, config)
    photos = PhotoFolder(folder, (root / "masks",))
    masks = _ready_made(root, name, config)
    listed: dict[str, list[CocoImage]] = defaultdict(list)
    for image in content.images:
        listed[photos.find(image.name, str(path)) or image.name].append(image)
    ids = unique_ids(listed, folder)
    entries: dict[str, Entry] = {}
    drawn = ready = 0
    for photo, images in listed.items():
        items = [item for image in images for item in content.annotations.get(image.key, [])]
        tags = frozenset(content.categories[item["category_id"]] for item in items)
        mask = masks.find(ids[photo], photo, ids[photo].rpartition("_")[2]) if masks else None
        maker: Callable[[bytes], MaskSource] | None = None
        if mask is not None:
            maker, ready = mask_maker(mask, len(content.categories), config.max_pixels), ready + 1
        elif config.masks != "none" and content.has_outlines:
            keys, size = tuple(image.key for image in images), images[0].size
            maker = partial(_coco_mask, path, keys, size, folder / photo, config.max_pixels)
            drawn += 1
        entries[ids[photo]] = Entry(ids[photo], folder / PurePosixPath(photo), tags, maker)
    twice = len(content.images) - len(listed)
    if twice:
        notes.append(f"{path} lists {twice} photos more than once; their annotations were put together.")
    if content.strays:
        notes.append(f"{path}: {content.strays} annotations of photos that it does not list were passed over.")
    if not content.has_outlines and config.masks != "none" and not ready:
        notes.append(f"{path} has boxes but no outlines: its photos have tags, and no masks to be scored by.")
    notes += photos.passed_over_note()
    return entries


def _coco_mask(
    path: Path, keys: tuple[int | str, ...], size: tuple[int, int] | None, image: Path, max_pixels: int, table: bytes
) -> CocoMask:
    return CocoMask(path, keys, size, image, table, max_pixels)


def _apart(read: dict[str, dict[str, Entry]], notes: list[str]) -> dict[str, dict[str, Entry]]:
    """Give photos of one name in two files ids of their own, unless they are one photo.

    Raises:
        ValueError: if two files give one photo other tags.
    """
    owners: dict[str, Entry] = {}
    shared: list[str] = []
    for members in read.values():
        for photo, entry in members.items():
            other = owners.setdefault(photo, entry)
            if other.image != entry.image:
                shared.append(photo)
            elif other.tags != entry.tags:
                raise ValueError(
                    f"The photo {entry.image} is in two annotation files with other tags; take it out of one of them."
                )
    if not shared:
        return read
    notes.append(
        f"{len(shared)} names stand for other photos in another list, e.g. {shared[0]}; ids start with the list's name."
    )
    apart = {}
    for name, members in read.items():
        prefixed = unique_ids([f"{name}/{photo}" for photo in members], name)
        apart[name] = {
            new: replace(entry, id=new) for new, entry in zip(prefixed.values(), members.values(), strict=True)
        }
    return apart


def _photo_folder(root: Path, name: str, path: Path, config: DataConfig) -> Path:
    if config.images:
        folders = [root / config.images / name, root / config.images]
    elif path.name == _EXPORT:
        folders = [path.parent]
    else:
        folders = [root / name, root / "images" / name, root / "images"]
        folders += [root] if name in _PLAIN or not any(folder.is_dir() for folder in folders) else []
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _ready_made(root: Path, name: str, config: DataConfig) -> MaskFolder | None:
    if config.masks == "none":
        return None
    base = root / (config.masks or "masks")
    if config.masks and not base.is_dir():
        raise FileNotFoundError(f"There is no folder {base}; data.masks names the folder of mask PNGs.")
    folder = next((folder for folder in (base / name, base) if folder.is_dir()), None)
    return MaskFolder(folder) if folder else None


def _is_coco_file(path: Path) -> bool:
    try:
        return is_coco(read_foreign_json(path))
    except (ValueError, OSError):
        return False
