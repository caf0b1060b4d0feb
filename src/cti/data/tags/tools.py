"""Exports of labelling tools: choices of Label Studio, tags of CVAT."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from cti.data.names import tidy
from cti.data.photo_folder import clean_path
from cti.data.tags.table import TagRow, TagTable, example
from cti.data.text import read_text

_FIELDS = ("choices", "rectanglelabels", "polygonlabels", "brushlabels", "keypointlabels", "ellipselabels", "labels")
_CVAT_SHAPES = ("tag", "box", "polygon", "polyline", "points", "mask", "ellipse", "cuboid")


def is_label_studio(content: Any) -> bool:
    """Whether JSON is an export of Label Studio with its tasks whole."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(task, dict) and isinstance(task.get("data"), dict) for task in content)
    )


def read_label_studio(path: Path, tasks: list[dict[str, Any]]) -> TagTable:
    """Tags of Label Studio's JSON: all choices and labels of a task's annotations.

    Tasks that nobody annotated, and annotations that were cancelled, say nothing.

    Raises:
        ValueError: if a task names no photo; the message names it.
    """
    rows: list[TagRow] = []
    for number, task in enumerate(tasks, 1):
        place = f"{path}, task {task.get('id', number)}"
        texts = {key: value for key, value in task["data"].items() if isinstance(value, str)}
        usual = [texts[key] for key in ("image", "img", "photo") if key in texts]
        image = next(iter([*usual, *(text for text in texts.values() if "." in text)]), None)
        if image is None:
            raise ValueError(f"{place}: its data name no photo; export tasks that have an image.")
        annotations = task.get("annotations", task.get("completions"))
        kept = [item for item in _listed(annotations) if isinstance(item, dict) and not item.get("was_cancelled")]
        if kept:
            rows.append(TagRow(_uploaded(image), _choices(kept), place))
    note = f"{path.name}: Label Studio, {len(rows)} of {len(tasks)} tasks annotated"
    return TagTable(tuple(rows), _with_example(note, rows))


def read_cvat(path: Path) -> TagTable:
    """Tags of CVAT's XML for images: labels of the tags, and of the shapes if there are any.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not CVAT's XML for images.
    """
    try:
        root = ElementTree.fromstring(read_text(path).encode("utf-8"), ElementTree.XMLParser(encoding="utf-8"))
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}, line {error.position[0]}: not valid XML ({error}); export it again.") from error
    images = root.findall("image")
    if root.tag != "annotations" or not images:
        raise ValueError(f"{path} is not CVAT's 'CVAT for images' XML: it has no <image> in <annotations>.")
    rows: list[TagRow] = []
    for number, image in enumerate(images, 1):
        place = f"{path}, image {image.get('id', number)}"
        name = image.get("name")
        if not name:
            raise ValueError(f"{place}: it has no name; export it again.")
        labels = [tidy(shape.get("label", "")) for kind in _CVAT_SHAPES for shape in image.findall(kind)]
        if "" in labels:
            raise ValueError(f"{place}: a tag has no label; export it again.")
        rows.append(TagRow(name, tuple(dict.fromkeys(labels)), place))
    return TagTable(tuple(rows), _with_example(f"{path.name}: CVAT, {len(rows)} images", rows))


def _choices(annotations: list[dict[str, Any]]) -> tuple[str, ...]:
    found: list[str] = []
    for annotation in annotations:
        for item in _listed(annotation.get("result")):
            value = item.get("value") if isinstance(item, dict) else None
            if isinstance(value, dict):
                for field in _FIELDS:
                    names = value.get(field) or []
                    found += [tidy(str(name)) for name in (names if isinstance(names, list) else [names])]
    return tuple(dict.fromkeys(name for name in found if name))


def _listed(value: Any) -> list[Any]:
    """A list as it is; nothing for what should have been one."""
    return value if isinstance(value, list) else []


def _uploaded(image: str) -> str:
    """The photo's own name: Label Studio gives a path on its server, or a URL."""
    image = clean_path(image)
    return image.rpartition("/")[2] if image.startswith("/") or "://" in image else image


def _with_example(note: str, rows: list[TagRow]) -> str:
    return f"{note}, e.g. {example(max(rows, key=lambda row: len(row.tags)))}." if rows else f"{note}."
