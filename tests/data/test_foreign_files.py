"""Files of other people and tools: read if they can be, else named with the entry, what is wrong, and what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cti.config import DataConfig
from cti.data import PhotoSet, read_photos, save_mask
from cti.data.readers.coco import _find_list, _photo_folder, find_annotations, read_coco

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
        ("categories", {"name": " "}, "category 1 of the list has no name; give it one"),
        ("categories", {"name": None}, "category 1 of the list has no name; give it one"),
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


def test_two_images_of_one_number_are_named(tmp_path: Path, write_photo: Writer) -> None:
    content = _content()
    content["images"].append(content["images"][0] | {"file_name": "b.jpg"})
    with pytest.raises(ValueError, match=r"the images a\.jpg and b\.jpg have one id, 1; number them anew"):
        _read(_coco(tmp_path, write_photo, content))


def test_lists_are_called_as_their_files_or_folders(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"There is no instances_\*\.json in .* or .*annotations; put them there"
    ):
        read_coco(tmp_path, DataConfig())
    (tmp_path / "valid").mkdir()
    (tmp_path / "annotations").mkdir()
    for name in ("b.json", "annotations/a.json", "annotations/other.json"):
        (tmp_path / name).write_text("{}" if "other" in name else '{"images": [], "annotations": [], "categories": []}')
    assert find_annotations(tmp_path) == {"b": tmp_path / "b.json", "a": tmp_path / "annotations" / "a.json"}
    for name in ("_annotations.coco.json", "valid/_annotations.coco.json"):
        (tmp_path / name).touch()
    exports = {"default": tmp_path / "_annotations.coco.json", "valid": tmp_path / "valid" / "_annotations.coco.json"}
    assert find_annotations(tmp_path) == exports
    (tmp_path / "instances_val2017.json").touch()
    assert find_annotations(tmp_path) == {"val2017": tmp_path / "instances_val2017.json"}


@pytest.mark.parametrize(
    ("name", "files", "found"),
    [
        ("train", ("train", "train2017"), "train"),
        ("train", ("train2017", "val2017"), "train2017"),
        ("train", ("training", "2017"), "training"),
        ("val", ("valid",), "valid"),
        ("val", ("validation",), "validation"),
        ("test", ("valid", "test2017x"), None),
    ],
)
def test_a_list_goes_by_its_year_or_by_what_tools_call_it(name: str, files: tuple[str, ...], found: str | None) -> None:
    assert _find_list(name, dict.fromkeys(files, Path())) == found


def test_annotations_of_other_photos_are_counted(tmp_path: Path, write_photo: Writer) -> None:
    content = _content()
    content["annotations"].append(content["annotations"][0] | {"image_id": 9})
    photos = _read(_coco(tmp_path, write_photo, content))
    path = tmp_path / "annotations" / "instances_train.json"
    assert f"{path}: 1 annotations of photos that it does not list were passed over." in photos.notes


@pytest.mark.parametrize(
    ("name", "there", "images", "found"),
    [
        ("train", ("train", "images"), "", "train"),
        ("train", ("images/train", "images"), "", "images/train"),
        ("train", ("images",), "", "images"),
        ("train", (), "", ""),  # the root, for want of another
        ("result", ("images",), "", "images"),
        ("result", (), "", ""),
        ("train", ("photos/train",), "photos", "photos/train"),
        ("train", ("photos", "train"), "photos", "photos"),
    ],
)
def test_where_the_photos_of_a_coco_file_lie(
    tmp_path: Path, name: str, there: tuple[str, ...], images: str, found: str
) -> None:
    for folder in there:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    path = tmp_path / "annotations" / f"instances_{name}.json"
    assert _photo_folder(tmp_path, name, path, DataConfig(images=images)) == tmp_path / found
    export = tmp_path / "valid" / "_annotations.coco.json"
    assert _photo_folder(tmp_path, name, export, DataConfig()) == tmp_path / "valid"


def test_ready_made_masks_go_by_the_photos_number_too(tmp_path: Path, write_photo: Writer) -> None:
    content = _content()
    content["images"][0]["file_name"] = "COCO_train_0007.jpg"
    del content["annotations"][0]["segmentation"]
    root = _coco(tmp_path, write_photo, content)
    write_photo(root / "train" / "COCO_train_0007.jpg")
    (root / "train" / "x.heic").touch()
    notes = _read(root).notes
    assert any("has boxes but no outlines" in note for note in notes)
    assert any("no photos that can be read: 1 .heic" in note for note in notes)
    save_mask(root / "masks" / "train" / "0007.png", np.full((8, 12), 2, np.uint8))
    photos = _read(root)
    assert photos.lists["train"][0].mask is not None
    assert (photos.lists["train"][0].mask.load() == 2).all()
    assert not any("has boxes but no outlines" in note for note in photos.notes)
    with pytest.raises(
        FileNotFoundError, match=r"There is no folder .*mine; data\.masks names the folder of mask PNGs"
    ):
        _read(root, masks="mine")


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
