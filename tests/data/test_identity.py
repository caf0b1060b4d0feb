"""Every photo keeps its own tags and mask, whatever it is called; what a person said is not overruled."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cti.classes import VOC_CLASSES
from cti.config import DataConfig
from cti.data import PhotoSet, read_photos, save_mask
from cti.data.check import check_data
from cti.data.source import MAX_ID_BYTES, settle_names, unique_ids

Writer = Callable[..., Path]


def _read(root: Path, **settings: Any) -> PhotoSet:
    return read_photos(DataConfig(root=str(root), **settings))


def _tags(photo_set: PhotoSet, name: str = "train") -> dict[str, set[str]]:
    return {photo.id: {photo_set.classes[tag] for tag in photo.tags} for photo in photo_set.lists[name]}


def _square(image: int, category: int, left: int = 0) -> dict[str, Any]:
    corners = [[left, 0, left + 4, 0, left + 4, 4, left, 4]]
    return {"id": image * 10 + category, "image_id": image, "category_id": category, "segmentation": corners}


def _coco(root: Path, write_photo: Writer, split: str, names: list[str], items: list[dict[str, Any]]) -> None:
    for number, name in enumerate(names):
        write_photo(root / split / name, seed=hash((split, number)) % 1000)
    images = [{"id": number, "file_name": name, "width": 12, "height": 8} for number, name in enumerate(names, 1)]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": items, "categories": categories}))


def test_one_name_in_two_lists_is_two_photos(tmp_path: Path, write_photo: Writer) -> None:
    _coco(tmp_path, write_photo, "train", ["0.jpg", "1.jpg"], [_square(1, 1), _square(2, 2)])
    _coco(tmp_path, write_photo, "val", ["0.jpg"], [_square(1, 2)])
    photos = _read(tmp_path)
    assert _tags(photos) == {"train__0": {"cat"}, "train__1": {"dog"}}
    assert _tags(photos, "val") == {"val__0": {"dog"}}
    assert [photo.image.parent.name for photo in photos.photos()] == ["train", "train", "val"]
    assert [int(photo.mask.load().max()) for photo in photos.photos() if photo.mask] == [1, 2, 2]
    assert any("1 names stand for other photos in another list, e.g. 0" in note for note in photos.notes)


def test_a_photo_listed_twice_has_all_its_annotations(tmp_path: Path, write_photo: Writer) -> None:
    _coco(tmp_path, write_photo, "train", ["0.jpg", "0.jpg"], [_square(1, 1), _square(2, 2, 5)])
    photos = _read(tmp_path)
    assert _tags(photos) == {"0": {"cat", "dog"}}
    mask = photos.lists["train"][0].mask
    assert mask is not None
    assert mask.load()[2, [1, 6, 11]].tolist() == [1, 2, 0]
    assert any("lists 1 photos more than once" in note for note in photos.notes)


def test_one_photo_in_two_lists_is_said_and_may_not_have_other_tags(tmp_path: Path, write_photo: Writer) -> None:
    for split in ("train", "val"):
        _coco(tmp_path, write_photo, split, ["0.jpg"], [_square(1, 1)])
    (tmp_path / "train").rename(tmp_path / "images")
    (tmp_path / "val" / "0.jpg").unlink()
    (tmp_path / "val").rmdir()
    report = check_data(_read(tmp_path), tmp_path / "cache.json", progress=False)
    assert any("lie both in train and in val" in problem for problem in report.problems)
    path = tmp_path / "annotations" / "instances_val.json"
    path.write_text(path.read_text().replace('"category_id": 1', '"category_id": 2'))
    with pytest.raises(ValueError, match=r"0\.jpg is in two annotation files with other tags"):
        _read(tmp_path)


def test_two_suffixes_of_one_name_are_an_error_everywhere(
    tmp_path: Path, write_photo: Writer, folder_set: Writer
) -> None:
    _coco(tmp_path / "coco", write_photo, "train", ["0.jpg", "0.png"], [_square(1, 1), _square(2, 2)])
    for name in ("p.jpg", "p.png"):
        write_photo(tmp_path / "voc" / "JPEGImages" / name)
    (tmp_path / "voc" / "labels.csv").write_text("image,tags\np.jpg,cat\n")
    for root in (tmp_path / "coco", tmp_path / "voc", folder_set({"p.jpg": "cat", "p.png": "dog"})):
        with pytest.raises(ValueError, match=r"share the id '[0p]'; rename or remove one"):
            _read(root)


def test_names_settle_to_one_spelling_or_to_nothing_and_both_are_said() -> None:
    tags = {"a": frozenset({"CAT", "Good"}), "b": frozenset({"cat", "good"}), "c": frozenset({" cat", "dog", "Normal"})}
    settled, notes = settle_names(tags, ("Normal",), ("good", "normal"))
    assert settled == {"a": {"cat"}, "b": {"cat"}, "c": {"cat", "dog", "Normal"}}  # the user's word
    assert notes == [
        "CAT and cat are one class: cat.",
        "Good, good: taken to say that none of the classes is there (data.normal).",
    ]
    assert settle_names({"a": frozenset({"dog"})}, ()) == ({"a": {"dog"}}, [])


def test_names_too_long_for_files_are_refused_before_training(folder_set: Writer) -> None:
    assert unique_ids(["x" * MAX_ID_BYTES + ".jpg"], "here")
    with pytest.raises(ValueError, match="is 231 bytes long; files are named after it, so shorten it"):
        unique_ids(["x" * (MAX_ID_BYTES + 1) + ".jpg"], "here")
    with pytest.raises(ValueError, match="is 240 bytes long"):
        _read(folder_set({"é" * 120 + ".jpg": "cat"}))


def _voc(root: Path, write_photo: Writer, names: dict[str, str]) -> Path:
    for number, (photo, tag) in enumerate(names.items()):
        write_photo(root / "JPEGImages" / f"{photo}.jpg", seed=number)
        (root / "Annotations").mkdir(exist_ok=True)
        objects = f"<annotation><object><name>{tag}</name></object></annotation>"
        (root / "Annotations" / f"{photo}.xml").write_text(objects)
    return root


def test_own_names_in_the_voc_layout_are_kept(tmp_path: Path, write_photo: Writer) -> None:
    names = {"a": "person", "b": "helmet", "c": "car", "d": "bicycle"}
    root = _voc(tmp_path, write_photo, names)
    assert _read(root).classes == ("bicycle", "car", "helmet", "person")
    assert not _read(root).dropped_tags
    chosen = _read(root, classes=("person", "helmet"))
    assert chosen.classes == ("person", "helmet")
    assert chosen.dropped_tags == {"bicycle": 1, "car": 1}
    assert _read(root, classes=("person",)).classes == ("person",)
    (root / "classes.txt").write_text("helmet\nperson\n")
    assert _read(root).classes == ("helmet", "person")


def test_what_masks_mean_is_asked_where_it_is_not_certain(tmp_path: Path, write_photo: Writer) -> None:
    root = _voc(tmp_path, write_photo, {"a": "person", "b": "helmet"})
    save_mask(root / "SegmentationClass" / "a.png", np.full((8, 12), 2, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"others \(helmet\).*write classes\.txt .*data\.masks to none"):
        _read(root)
    assert not _read(root, masks="none").has_masks
    (root / "classes.txt").write_text("person\nhelmet\n")
    assert [int(photo.mask.load().max()) for photo in _read(root).photos() if photo.mask] == [2]


def test_names_of_voc_alone_stay_vocs(tmp_path: Path, write_photo: Writer) -> None:
    root = _voc(tmp_path, write_photo, {"a": "Person", "b": "cat"})
    assert _read(root).classes == VOC_CLASSES
    assert set().union(*_tags(_read(root, val_fraction=0.0)).values()) == {"person", "cat"}


def test_names_with_spaces_in_lists_are_whole(tmp_path: Path, write_photo: Writer) -> None:
    root = _voc(tmp_path, write_photo, {"my photo 1": "cat", "my photo 2": "dog", "3": "cat"})
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("my photo 1\n3  1\n")
    assert set(_tags(_read(root))) == {"my photo 1", "3"}
