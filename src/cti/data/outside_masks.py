"""Masks that were drawn elsewhere, for photos that are known already: indexed PNG, labelme, COCO, YOLO."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cti.classes import BACKGROUND, IGNORE_INDEX
from cti.data.images import SUFFIXES, load_mask
from cti.data.names import name_key
from cti.data.readers.coco import find_annotations
from cti.data.readers.coco_file import is_coco, read_coco_file
from cti.data.readers.coco_mask import draw_mask
from cti.data.source import read_classes
from cti.data.text import read_foreign_json, read_lines, read_text
from cti.files import JsonObject, parse_yaml

Size = tuple[int, int]
_NOTHING = {name_key(name) for name in (BACKGROUND, "_background_", "__background__")}
_UNKNOWN = {name_key(name) for name in ("ignore", "__ignore__", "unknown")}
_STROKE = 3  # pixels that a line is wide which was drawn as a scribble
_FAR = 1e6  # pixels
_POINTS = {"polygon": 3, "rectangle": 2, "circle": 2, "linestrip": 2, "line": 2, "point": 1}
"""Kinds of shapes, and how many points they need."""


@dataclass(frozen=True)
class OutsideMask:
    """One photo's mask elsewhere.

    Args:
        photo: What the photo is called there.
        where: The file, for errors.
        draw: Size (H, W) of the photo, and the value of a pixel of which nothing is said -> mask (H, W) in the values
            of the classes at hand, 255 = not known.
    """

    photo: str
    where: Path
    draw: Callable[[Size, int], NDArray[np.uint8]]


def outside_masks(source: Path, classes: Sequence[str]) -> list[OutsideMask]:
    """Find the masks in a folder or a COCO file.

    A folder holds a COCO file, labelme's JSON files, YOLO's `labels/` (or text files beside `data.yaml`), or mask
    images; the first of these that is found is taken. Names of classes come with the format; numbers of YOLO and values
    of mask images follow `data.yaml` (YOLO's) or `classes.txt` beside them, else the classes at hand.

    Args:
        source: The folder or file.
        classes: The C classes at hand.

    Raises:
        FileNotFoundError: if there is no such place.
        ValueError: if it holds no mask of these formats, or a name that is none of the classes.
    """
    if not source.exists():
        raise FileNotFoundError(f"There is no {source}; give a folder of masks or a COCO file.")
    values = _Values(tuple(classes))
    if source.is_file():
        return list(_coco(source, values))
    found: list[OutsideMask] = []
    for path in find_annotations(source).values():
        found += _coco(path, values)
    found = found or list(_labelme(source, values)) or list(_yolo(source, values)) or list(_images(source, values))
    if not found:
        raise ValueError(
            f"{source} holds no masks: no COCO or labelme JSON, no YOLO labels, no image; give their folder."
        )
    return found


@dataclass(frozen=True)
class _Values:
    """Mask values by the names of classes."""

    classes: tuple[str, ...]

    def of(self, name: str, where: object) -> int:
        """The value of a class; 0 and 255 also go by names."""
        key = name_key(name)
        known = [name_key(other) for other in self.classes]
        if key in known:
            return known.index(key) + 1
        if key in _NOTHING | _UNKNOWN:
            return 0 if key in _NOTHING else IGNORE_INDEX
        raise ValueError(
            f"{where} has the class '{name}', but the run has {', '.join(self.classes)}; rename it, or take it out."
        )


@dataclass(frozen=True)
class _Shape:
    """A shape of labelme or YOLO: its mask value, its kind in the words of labelme, and its points (n, 2), x first."""

    value: int
    kind: str
    points: NDArray[np.float64]

    def inside(self, size: Size) -> NDArray[np.bool_]:
        """(H, W); as in labelme and in YOLO's trainer, a pixel that the outline runs through is inside."""
        canvas = Image.new("1", size[::-1])
        pen, points = ImageDraw.Draw(canvas), [(float(x), float(y)) for x, y in self.points]
        if self.kind == "rectangle":
            pen.rectangle((*self.points.min(axis=0).tolist(), *self.points.max(axis=0).tolist()), fill=1)
        elif self.kind == "polygon":
            pen.polygon(points, fill=1, outline=1)
        elif self.kind == "circle":
            pen.circle(points[0], float(np.linalg.norm(self.points[1] - self.points[0])), fill=1)
        else:
            pen.line(points, fill=1, width=_STROKE)
            for point in points:
                pen.circle(point, _STROKE / 2, fill=1)
        return np.array(canvas)


def _paint(shapes: Sequence[_Shape], size: Size, unsaid: int) -> NDArray[np.uint8]:
    """The mask (H, W) of shapes, smaller ones on top."""
    mask = np.full(size, unsaid, dtype=np.uint8)
    for shape in sorted(shapes, key=lambda shape: -int(shape.inside(size).sum())):  # one at a time in memory
        mask[shape.inside(size)] = shape.value
    return mask


def _check_size(told: Size | None, size: Size, where: Path) -> None:
    if told is not None and told != size:
        raise ValueError(
            f"{where} is for a photo of {told[1]} x {told[0]} px, but the photo has {size[1]} x {size[0]}; draw it on "
            "the photo itself."
        )


def _coco(path: Path, values: _Values) -> Iterator[OutsideMask]:
    """A photo without any annotation may simply not have been looked at, so nothing is said of it."""
    if not is_coco(read_foreign_json(path)):
        raise ValueError(f"{path} is no COCO file; give one, or a folder of masks.")
    file = read_coco_file(path)
    for image in file.images:
        if image.key in file.annotations:
            shapes = [
                {**item, "category_id": values.of(file.categories[item["category_id"]], path)}
                for item in file.annotations[image.key]
            ]
            yield OutsideMask(image.name, path, partial(_draw_coco, path, shapes, image.size))


def _draw_coco(path: Path, shapes: list[JsonObject], told: Size | None, size: Size, unsaid: int) -> NDArray[np.uint8]:
    """The mask of annotations whose `category_id` is the mask value already."""
    _check_size(told, size, path)
    return draw_mask(shapes, size, {value: value for value in range(256)}, str(path), unsaid)


def _labelme(folder: Path, values: _Values) -> Iterator[OutsideMask]:
    for path in sorted(folder.rglob("*.json")):
        content = read_foreign_json(path)
        if isinstance(content, dict) and isinstance(content.get("shapes"), list):
            shapes = [_labelme_shape(path, number, item, values) for number, item in enumerate(content["shapes"], 1)]
            height, width = content.get("imageHeight"), content.get("imageWidth")
            told = (height, width) if isinstance(height, int) and isinstance(width, int) else None
            yield OutsideMask(
                str(content.get("imagePath") or path.stem), path, partial(_draw_labelme, path, shapes, told)
            )


def _draw_labelme(path: Path, shapes: list[_Shape], told: Size | None, size: Size, unsaid: int) -> NDArray[np.uint8]:
    _check_size(told, size, path)
    return _paint(shapes, size, unsaid)


def _labelme_shape(path: Path, number: int, item: Any, values: _Values) -> _Shape:
    place = f"{path}, shape {number},"
    try:
        kind, points = str(item.get("shape_type") or "polygon"), np.array(item["points"], dtype=float).reshape(-1, 2)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{place} has no points ({error}); draw it again.") from error
    if not (np.abs(points) < _FAR).all():
        raise ValueError(f"{place} has a point far outside any photo; draw it again.")
    if len(points) < _POINTS.get(kind, 1000):
        raise ValueError(f"{place} is a {kind} of {len(points)} points; use {', '.join(_POINTS)}.")
    return _Shape(values.of(str(item.get("label") or ""), place), kind, points)


def _yolo(folder: Path, values: _Values) -> Iterator[OutsideMask]:
    labels = folder / "labels"
    if not labels.is_dir():
        if folder.name != "labels" and not (folder / "data.yaml").is_file():
            return
        labels = folder
    names = _yolo_names(labels) or _yolo_names(labels.parent) or values.classes
    lists = ("classes.txt", "train.txt", "val.txt", "test.txt")
    for path in sorted(path for path in labels.rglob("*.txt") if path.name not in lists):
        rows = [_yolo_row(path, number, line, names, values) for number, line in read_lines(path)]

        yield OutsideMask(path.relative_to(labels).with_suffix("").as_posix(), path, partial(_draw_yolo, rows))


def _draw_yolo(rows: list[tuple[int, NDArray[np.float64]]], size: Size, unsaid: int) -> NDArray[np.uint8]:
    shapes = [_Shape(value, "polygon", corners * np.array(size[::-1])) for value, corners in rows]
    return _paint(shapes, size, unsaid)


def _yolo_names(folder: Path) -> tuple[str, ...]:
    path = folder / "data.yaml"
    if not path.is_file():
        return read_classes(folder)
    try:
        content = parse_yaml(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as YAML ({error}); export it again.") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and all(isinstance(key, int) for key in names):
        names = [names[key] for key in sorted(names)]
    if not isinstance(names, list):
        raise ValueError(f"{path} names no classes ('names: [...]'); add them.")
    return tuple(map(str, names))


def _yolo_row(
    path: Path, number: int, line: str, names: Sequence[str], values: _Values
) -> tuple[int, NDArray[np.float64]]:
    """The mask value and the corners (n, 2), in [0, 1], of one row."""
    place = f"{path}, line {number},"
    try:
        label, *corners = line.split()
        name, polygon = dict(enumerate(names))[int(label)], np.array(corners, dtype=float).reshape(-1, 2)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{place} is no outline of one of {len(names)} classes ({error}); mend or remove it."
        ) from error
    if not ((polygon >= -1) & (polygon <= 2)).all():
        raise ValueError(f"{place} has a corner far outside the photo, which spans 0 to 1; export it again.")
    if len(polygon) < 3:
        raise ValueError(f"{place} is a box, which is no mask; export outlines (segmentation).")
    return values.of(name, place), polygon


def _images(folder: Path, values: _Values) -> Iterator[OutsideMask]:
    written = read_classes(folder)
    table = np.arange(256, dtype=np.uint8)
    for number, name in enumerate(written, 1):
        table[number] = values.of(name, folder / "classes.txt")
    count = len(written or values.classes)
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        yield OutsideMask(path.relative_to(folder).as_posix(), path, partial(_draw_image, path, count, table))


def _draw_image(path: Path, count: int, table: NDArray[np.uint8], size: Size, unsaid: int) -> NDArray[np.uint8]:
    mask = table[load_mask(path, count)]
    _check_size((mask.shape[0], mask.shape[1]), size, path)
    return np.where(mask == 0, np.uint8(unsaid), mask)
