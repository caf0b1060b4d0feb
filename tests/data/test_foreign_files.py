"""Files of other people and tools: read if they can be, else named with the entry, what is wrong, and what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cti.config import DataConfig
from cti.data import PhotoSet, read_photos

Writer = Callable[..., Path]
CATEGORIES = [{"id": 1, "name": "Kätzchen"}, {"id": 2, "name": "dog"}]


def _content() -> dict[str, Any]:
    square = {"segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]], "area": 16, "iscrowd": 0}
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 12, "height": 8}],
        "annotations": [{"id": 7, "image_id": 1, "category_id": 1, **square}],
        "categories": json.loads(json.dumps(CATEGORIES)),
    }


def _coco(root: Path, write_photo: Writer, content: Any, encoding: str = "utf-8", name: str = "") -> Path:
    write_photo(root / "train" / "a.jpg")
    path = root / (name or "annotations/instances_train.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    return root


def _tags(photo_set: PhotoSet) -> dict[str, set[str]]:
    return {photo.id: {photo_set.classes[tag] for tag in photo.tags} for photo in photo_set.lists["train"]}


def _read(root: Path, **settings: Any) -> PhotoSet:
    return read_photos(DataConfig(root=str(root), **settings))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_coco_in_any_encoding(tmp_path: Path, write_photo: Writer, encoding: str) -> None:
    assert _tags(_read(_coco(tmp_path, write_photo, _content(), encoding))) == {"a": {"Kätzchen"}}


def test_numbers_as_text_and_absent_sizes_are_read(tmp_path: Path, write_photo: Writer) -> None:
    content = _content()
    content["annotations"][0] |= {"image_id": "1", "category_id": "1"}
    del content["images"][0]["height"]
    (photo,) = _read(_coco(tmp_path, write_photo, content)).lists["train"]
    assert photo.tags == (0,)
    assert photo.mask is not None
    assert photo.mask.load().shape == (8, 12)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("images", {"file_name": None}, "image 1 of the list has no file_name"),
        ("images", {"file_name": "../a.jpg"}, r"file_name '\.\./a\.jpg', which leaves the photo folder"),
        ("images", {"file_name": "/etc/a.jpg"}, "which leaves the photo folder"),
        ("images", {"file_name": "C:\\a.jpg"}, "which leaves the photo folder"),
        ("images", {"id": ...}, "image 1 of the list lacks id; add it"),
        ("annotations", {"category_id": ...}, "annotation 7 lacks category_id; add it or remove the entry"),
        ("annotations", {"category_id": 9}, "annotation 7 has the unknown category 9"),
        ("annotations", {"image_id": 5}, "none of its 1 annotations belongs to one of its images"),
        ("categories", {"name": ...}, "category 1 of the list lacks name"),
        ("categories", {"id": "first"}, "category 1 of the list has the id 'first'; give it a whole number"),
        ("categories", {"name": "dog"}, "two categories are called 'dog'"),
        ("categories", {"id": 2}, "category 2 of the list has the id 2, as has 'Kätzchen'"),
    ],
)
def test_entries_of_coco_are_named(
    tmp_path: Path, write_photo: Writer, part: str, change: dict[str, Any], message: str
) -> None:
    content = _content()
    for key, value in change.items():
        if value is ...:
            del content[part][0][key]
        else:
            content[part][0][key] = value
    with pytest.raises(ValueError, match=rf"instances_train\.json.*{message}"):
        _read(_coco(tmp_path, write_photo, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**_content(), "annotations": None}, "'annotations' is no list"),
        ({**_content(), "annotations": [1]}, "annotation 1 is no object"),
        ([], "lacks images, annotations, categories"),
        ("text", "lacks images"),
    ],
)
def test_other_json_is_named(tmp_path: Path, write_photo: Writer, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _read(_coco(tmp_path, write_photo, content))


@pytest.mark.parametrize("name", ["train/_annotations.coco.json", "annotations/instances_default.json", "result.json"])
def test_the_layouts_of_labelling_tools(tmp_path: Path, write_photo: Writer, name: str) -> None:
    root = _coco(tmp_path, write_photo, _content(), name=name)
    if not name.startswith("train"):
        (root / "train").rename(root / "images")
    photos = _read(root, val_fraction=0.0)
    assert _tags(photos) == {"a": {"Kätzchen"}}
    assert photos.lists["train"][0].image.is_file()


def test_names_of_photos_are_found_in_coco(tmp_path: Path, write_photo: Writer) -> None:
    content = _content()
    content["images"][0]["file_name"] = "train\\A.JPG"
    assert _read(_coco(tmp_path, write_photo, content)).lists["train"][0].image.is_file()


@pytest.mark.parametrize(
    ("encoding", "head"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("cp1252", ""),
        ("utf-16", ""),
        ("latin-1", '<?xml version="1.0" encoding="latin-1"?>'),
    ],
)
def test_xml_in_any_encoding(tmp_path: Path, write_photo: Writer, encoding: str, head: str) -> None:
    write_photo(tmp_path / "JPEGImages" / "ä 1.jpg")
    text = f"{head}<annotation><object><name>Kätzchen</name></object></annotation>"
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "ä 1.xml").write_bytes(text.encode(encoding))
    assert _tags(_read(tmp_path, val_fraction=0.0)) == {"ä 1": {"Kätzchen"}}
