"""COCO: `instances_*.json` with the 2014 or the 2017 names, masks ready-made or drawn from the annotations."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cti.classes import IGNORE_INDEX
from cti.config import DataConfig
from cti.data.source import Entry, Source, mask_maker, photo_id, read_classes
from cti.files import read_json

_PREFIX = "instances_"


def find_annotations(root: Path) -> dict[str, Path]:
    """List name -> annotation file: `train2014` -> `annotations/instances_train2014.json` (or beside the root)."""
    files = sorted([*root.glob(f"{_PREFIX}*.json"), *(root / "annotations").glob(f"{_PREFIX}*.json")])
    return {path.stem.removeprefix(_PREFIX): path for path in files}


def read_coco(root: Path, config: DataConfig) -> Source:
    """Read a COCO data set.

    A list is called as in the file's name, `train2014`; plain `train` will do where only one year is there. Classes
    are the categories by sorted id, so mask value = rank of the category id. A photo has the tag of every annotation,
    crowds included. Masks are taken from `config.masks`, else from `masks/`, else from `masks/<list>/`; a photo without
    a ready-made one has it drawn on demand, which needs the extra `coco`.

    Raises:
        FileNotFoundError: if there is no annotation file.
        ValueError: if an annotation file cannot be read, two disagree on the categories, or a list name fits two years.
    """
    files = find_annotations(root)
    if not files:
        raise FileNotFoundError(f"There is no {_PREFIX}*.json in {root} or {root / 'annotations'}; put them there.")
    wanted = {name: found for name in (config.train, config.score, config.val) if (found := _find_list(name, files))}
    classes: tuple[str, ...] = ()
    entries: dict[str, Entry] = {}
    lists: dict[str, tuple[str, ...]] = {}
    read: dict[str, list[Entry]] = {}
    for name, year_name in wanted.items():
        if year_name not in read:
            categories, read[year_name] = _read_file(root, year_name, files[year_name], config)
            if classes and categories != classes:
                raise ValueError(f"{files[year_name]} lists other categories than the files before it; use one set.")
            classes = categories
        entries.update({entry.id: entry for entry in read[year_name]})
        lists[name] = tuple(entry.id for entry in read[year_name])
    return Source(classes, read_classes(root) or classes, entries, lists, tuple(files))


@dataclass(frozen=True)
class CocoMask:
    """A mask drawn from COCO annotations when it is asked for.

    Args:
        annotations: The `instances_*.json`.
        image_id: COCO's number of the photo.
        size: (H, W) in pixels.
        table: 256 bytes; value `v` (rank of the category id, from 1) becomes `table[v]`.
    """

    annotations: Path
    image_id: int
    size: tuple[int, int]
    table: bytes

    def load(self) -> NDArray[np.uint8]:
        """See `cti.data.photos.MaskSource`."""
        values, by_image = _annotations(self.annotations)
        mask = draw_mask(by_image.get(self.image_id, []), self.size, values, str(self.annotations))
        return np.frombuffer(self.table, dtype=np.uint8)[mask]


def draw_mask(
    annotations: list[dict[str, Any]], size: tuple[int, int], values: dict[int, int], source: str = "COCO"
) -> NDArray[np.uint8]:
    """Paint annotations into a mask (docs/method.md): crowd regions 255 first, then instances, smaller ones later.

    Args:
        annotations: COCO annotations of one photo: `category_id`, `segmentation`, `area`, `iscrowd`.
        size: (H, W) in pixels.
        values: Category id -> mask value.
        source: File to name in errors.

    Returns:
        (H, W) uint8.

    Raises:
        ModuleNotFoundError: without pycocotools.
        ValueError: if a segmentation cannot be drawn.
    """
    try:
        from pycocotools import mask as coco_mask
    except ModuleNotFoundError as error:
        message = 'Drawing COCO masks needs pycocotools: pip install "cti[coco]" (or give ready-made masks).'
        raise ModuleNotFoundError(message) from error
    height, width = size
    mask = np.zeros((height, width), dtype=np.uint8)
    for item in sorted(annotations, key=lambda item: (not item.get("iscrowd", 0), -float(item.get("area", 0)))):
        region = item["segmentation"]
        try:
            if isinstance(region, list):
                polygons = [polygon for polygon in region if len(polygon) >= 6]  # fewer than three corners: nothing
                rle = coco_mask.merge(coco_mask.frPyObjects(polygons or [[0.0] * 6], height, width))
            elif isinstance(region["counts"], list):
                rle = coco_mask.frPyObjects(region, height, width)
            else:
                rle = region
            inside = coco_mask.decode(rle).astype(bool)
            mask[inside] = IGNORE_INDEX if item.get("iscrowd", 0) else values[item["category_id"]]
        except (TypeError, KeyError, IndexError, ValueError) as error:
            number = item.get("id", "?")
            raise ValueError(f"{source}: annotation {number} cannot be drawn ({error!r}); remove it.") from error
    return mask


def _find_list(name: str, files: dict[str, Path]) -> str | None:
    if name in files:
        return name
    fitting = [found for found in files if found.startswith(name) and found.removeprefix(name).isdigit()]
    if len(fitting) > 1:
        raise ValueError(f"The list '{name}' may be {' or '.join(fitting)}; name the one you mean.")
    return fitting[0] if fitting else None


def _read_file(root: Path, name: str, path: Path, config: DataConfig) -> tuple[tuple[str, ...], list[Entry]]:
    content = _read(path)
    values = _mask_values(content)
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    tags: dict[int, set[str]] = defaultdict(set)
    for item in content["annotations"]:
        if item["category_id"] not in names:
            raise ValueError(
                f"{path}: annotation {item.get('id', '?')} has the unknown category {item['category_id']}."
            )
        tags[item["image_id"]].add(names[item["category_id"]])
    folders = (
        [root / config.images / name, root / config.images] if config.images else [root / name, root / "images" / name]
    )
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    masks = _ready_made(root, name, config)
    entries: list[Entry] = []
    for image in content["images"]:
        photo = photo_id(image["file_name"])
        mask = next((file for file in _mask_names(masks, photo) if file.is_file()), None) if masks else None
        if mask is not None:
            maker = mask_maker(mask, len(values))
        elif config.masks == "none":
            maker = None
        else:
            maker = partial(CocoMask, path, image["id"], (image["height"], image["width"]))
        entries.append(Entry(photo, folder / PurePosixPath(image["file_name"]), frozenset(tags[image["id"]]), maker))
    return tuple(names[number] for number in values), entries


def _ready_made(root: Path, name: str, config: DataConfig) -> Path | None:
    if config.masks == "none":
        return None
    base = root / (config.masks or "masks")
    if config.masks and not base.is_dir():
        raise FileNotFoundError(f"There is no folder {base}; data.masks names the folder of mask PNGs.")
    return next((folder for folder in (base / name, base) if folder.is_dir()), None)


def _mask_names(folder: Path, photo: str) -> Iterator[Path]:
    """Mask sets in use name their files as the photo, or by its number alone."""
    yield folder / f"{photo}.png"
    yield folder / f"{photo.rpartition('_')[2]}.png"


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path)
    missing = [
        key for key in ("images", "annotations", "categories") if not isinstance(content, dict) or key not in content
    ]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; it is not a COCO instances file.")
    assert isinstance(content, dict)
    return content


def _mask_values(content: dict[str, Any]) -> dict[int, int]:
    """Category id -> mask value: ids 1..90 with gaps become 1..80 by sorted id."""
    return {number: rank for rank, number in enumerate(sorted(item["id"] for item in content["categories"]), 1)}


@lru_cache(maxsize=2)
def _annotations(path: Path) -> tuple[dict[int, int], dict[int, list[dict[str, Any]]]]:
    content = _read(path)
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for item in content["annotations"]:
        by_image[item["image_id"]].append(item)
    return _mask_values(content), dict(by_image)
