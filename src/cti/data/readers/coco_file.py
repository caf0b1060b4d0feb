"""One validating step for COCO's JSON: after it, every entry has what the readers ask of it."""

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from cti.data.names import tidy
from cti.data.photo_folder import clean_path
from cti.data.text import read_foreign_json
from cti.files import JsonObject

Key = int | str


@dataclass(frozen=True)
class CocoImage:
    """A photo of the file.

    Args:
        key: COCO's number of the photo, or its text.
        name: Path of the photo, with `/`.
        size: (H, W); None where the file does not say.
    """

    key: Key
    name: str
    size: tuple[int, int] | None


@dataclass(frozen=True)
class CocoFile:
    """The content of an `instances_*.json`, checked.

    Args:
        categories: Category id -> name, by id.
        images: All photos.
        annotations: Photo key -> its annotations, with `category_id` a number of `categories`.
        strays: Annotations of photos that the file does not list.
        has_outlines: Whether any annotation has more than a box.
    """

    categories: dict[int, str]
    images: tuple[CocoImage, ...]
    annotations: dict[Key, list[JsonObject]]
    strays: int
    has_outlines: bool

    @property
    def values(self) -> dict[int, int]:
        """Category id -> mask value: ids 1..90 with gaps become 1..80 by sorted id."""
        return {number: rank for rank, number in enumerate(self.categories, 1)}


def read_coco_file(path: Path) -> CocoFile:
    """Read and check an annotation file; what was read is kept until the file changes.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: with the file, the entry, what is wrong with it, and what to do.
    """
    state = path.stat() if path.is_file() else None
    return _read(path, (state.st_size, state.st_mtime_ns) if state else None)


def is_coco(content: Any) -> bool:
    """Whether JSON has COCO's three parts."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


@lru_cache(maxsize=4)
def _read(path: Path, _: tuple[int, int] | None) -> CocoFile:
    content = read_foreign_json(path)
    parts = ("images", "annotations", "categories")
    missing = [part for part in parts if not isinstance(content, dict) or part not in content]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; it is not a COCO instances file.")
    for part in parts:
        if not isinstance(content[part], list):
            raise ValueError(f"{path}: '{part}' is no list; export the file again.")
    categories = _categories(path, content["categories"])
    images = tuple(_image(path, number, item) for number, item in enumerate(content["images"], 1))
    names: dict[Key, str] = {}
    for image in images:
        if names.setdefault(image.key, image.name) != image.name:
            raise ValueError(
                f"{path}: the images {names[image.key]} and {image.name} have one id, {image.key}; number them anew."
            )
    annotations: dict[Key, list[JsonObject]] = defaultdict(list)
    strays = 0
    for number, item in enumerate(content["annotations"], 1):
        key, checked = _annotation(path, number, item, categories)
        if key in names:
            annotations[key].append(checked)
        else:
            strays += 1
    if strays and not annotations:
        raise ValueError(f"{path}: none of its {strays} annotations belongs to one of its images; export it again.")
    outlines = any(item.get("segmentation") for items in annotations.values() for item in items)
    return CocoFile(categories, images, dict(annotations), strays, outlines)


def _categories(path: Path, items: list[Any]) -> dict[int, str]:
    names: dict[int, str] = {}
    for number, item in enumerate(items, 1):
        place = f"{path}: category {number} of the list"
        entry = _entry(place, item, ("id", "name"))
        key, name = _key(entry["id"]), tidy(str(entry["name"]))
        if not isinstance(key, int):
            raise ValueError(f"{place} has the id {entry['id']!r}; give it a whole number.")
        if not name or entry["name"] is None:
            raise ValueError(f"{place} has no name; give it one.")
        if names.setdefault(key, name) != name:
            raise ValueError(f"{place} has the id {key}, as has '{names[key]}'; number them anew.")
    if len(set(names.values())) < len(names):
        twice = next(name for name in names.values() if list(names.values()).count(name) > 1)
        raise ValueError(f"{path}: two categories are called '{twice}'; rename or remove one of them.")
    return dict(sorted(names.items()))


def _image(path: Path, number: int, item: Any) -> CocoImage:
    place = f"{path}: image {number} of the list"
    entry = _entry(place, item, ("id", "file_name"))
    name = clean_path(str(entry["file_name"] or ""))
    pure = PurePosixPath(name)
    if not name:
        raise ValueError(f"{place} has no file_name; give it one.")
    if pure.is_absolute() or ".." in pure.parts or ":/" in name[:3]:
        raise ValueError(f"{place} has the file_name '{name}', which leaves the photo folder; give a path within it.")
    sides = [_key(entry.get(side)) for side in ("height", "width")]
    height, width = sides
    size = (height, width) if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0 else None
    return CocoImage(_key(entry["id"]), name, size)


def _annotation(path: Path, number: int, item: Any, categories: dict[int, str]) -> tuple[Key, JsonObject]:
    label = item.get("id", number) if isinstance(item, dict) else number
    place = f"{path}: annotation {label}"
    entry = _entry(place, item, ("image_id", "category_id"))
    category = _key(entry["category_id"])
    if category not in categories:
        raise ValueError(f"{place} has the unknown category {entry['category_id']}; add it or remove the annotation.")
    return _key(entry["image_id"]), {**entry, "category_id": category}


def _entry(place: str, item: Any, needed: tuple[str, ...]) -> JsonObject:
    if not isinstance(item, dict):
        raise ValueError(f"{place} is no object; export the file again.")
    for key in needed:
        if key not in item:
            raise ValueError(f"{place} lacks {key}; add it or remove the entry.")
    return item


def _key(value: Any) -> Key:
    """A number, also one written as text or with a fraction of zero; any other value as text."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else str(value)
