"""Masks are loaded, drawn and held against the tags by the check, before anything is trained."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cti.config import DataConfig
from cti.data import read_photos
from cti.data.check import check_data
from cti.data.check_report import CheckReport
from cti.data.mask_folder import MaskFolder
from cti.data.mask_tags import MaskView, compare_masks
from cti.data.readers.coco_mask import CocoMask, draw_mask

Writer = Callable[..., Path]


def _check(root: Path, **settings: Any) -> CheckReport:
    return check_data(DataConfig(root=str(root), **settings), root.parent / "cache.json", progress=False)


def _views(*pairs: tuple[set[int], set[int]]) -> list[MaskView]:
    return [
        MaskView(str(number), frozenset(tags), frozenset(shown), False) for number, (tags, shown) in enumerate(pairs)
    ]


def test_masks_that_agree_with_tags_raise_nothing() -> None:
    views = _views(({0}, {0}), ({1}, {1}), ({0, 1}, {1}), (set(), set()))
    assert compare_masks(views, ("cat", "dog")) == ((), ())


def test_another_order_of_classes_is_an_error_with_the_likely_order() -> None:
    views = _views(({0}, {1}), ({1}, {2}), ({2}, {0}), ({0, 1}, {1, 2}), ({2, 1}, {0, 2}))
    (error,), doubts = compare_masks(views, ("cat", "cow", "dog"))
    assert "The masks of 3 of 5 tagged photos show none of their tags" in error
    assert "classes.txt" in error
    assert "looks like dog, cat, cow" in error
    assert "data.masks to none" in error
    assert not doubts


def test_classes_that_tags_deny_on_many_photos_are_doubted() -> None:
    views = _views(({0}, {0, 1}), ({0}, {0}), ({0}, {0}), (set(), {1}))
    errors, (doubt,) = compare_masks(views, ("cat", "dog"))
    assert not errors
    assert "The masks of 2 of 4 photos show classes that their tags deny, e.g. 0: dog" in doubt


@pytest.mark.parametrize(
    ("apart", "of", "error", "doubt"), [(1, 10, 0, 0), (2, 10, 0, 1), (5, 10, 0, 1), (6, 10, 1, 0)]
)
def test_more_than_half_of_the_masks_apart_is_an_error_and_more_than_a_tenth_a_doubt(
    apart: int, of: int, error: int, doubt: int
) -> None:
    """Photos without a tag do not count, and masks that hold nothing are apart from any tag."""
    views = _views(*[({0}, set())] * apart, *[({0}, {0})] * (of - apart), *[(set(), set())] * 10)
    errors, doubts = compare_masks(views, ("cat", "dog"))
    assert (len(errors), len(doubts)) == (error, doubt)
    said = f"The masks of {apart} of {of} tagged photos show none of their tags"
    assert all(sentence.startswith(said) for sentence in (*errors, *doubts))


@pytest.mark.parametrize(("denied", "doubts"), [(1, 0), (2, 1)])
def test_a_tenth_of_the_masks_may_show_more_than_the_tags(denied: int, doubts: int) -> None:
    views = _views(*[({0}, {0, 1})] * denied, *[({0}, {0})] * (10 - denied))
    assert len(compare_masks(views, ("cat", "dog"))[1]) == doubts


def test_masks_that_are_all_background_are_told_how_classes_are_written() -> None:
    (error,), _ = compare_masks(_views(({0}, set()), ({1}, set())), ("cat", "dog", "cow", "hen"))
    assert error == (
        "The masks hold no class: their values are 0 (background) on all 2 photos. Write a class's number where it is "
        "(1 = cat, 2 = dog, 3 = cow), or set data.masks to none to go on without masks."
    )


@pytest.mark.parametrize("background", [0, 255])
def test_masks_of_0_and_255_are_said(folder_set: Writer, background: int) -> None:
    root = folder_set({"a.png": "cat", "b.png": "cat"}, train=["a", "b"])
    (root / "masks").mkdir()
    for name in "ab":
        pixels = np.full((8, 12), background, dtype=np.uint8)
        pixels[:4] = 255
        Image.fromarray(pixels).save(root / "masks" / f"{name}.png")
    report = _check(root)
    assert report.stops_training
    assert "The masks hold no class: their values are 0 and 255 (unlabelled) on all 2 photos" in report.errors[0]
    assert not _check(root, masks="none").stops_training


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "A.tif", "a.bmp", "a_mask.png", "a-label.png", "mask_a.png"])
def test_masks_are_found_under_other_names(folder_set: Writer, name: str) -> None:
    root = folder_set({"a.jpg": "cat", "b.jpg": "cat"}, train=["a", "b"])
    (root / "masks").mkdir()
    Image.fromarray(np.ones((8, 12), dtype=np.uint8)).save(root / "masks" / name)
    photos = read_photos(DataConfig(root=str(root)))
    mask = photos.lists["train"][0].mask
    assert mask is not None
    assert (mask.load() == 1).all()
    assert photos.lists["train"][1].mask is None


def test_jpeg_masks_and_masks_of_no_photo_are_said(folder_set: Writer) -> None:
    root = folder_set({"a.jpg": "cat", "b.jpg": "cat"}, masks=("b.jpg", "stranger.jpg"), train=["a", "b"])
    Image.fromarray(np.ones((8, 12), dtype=np.uint8)).save(root / "masks" / "a.jpg")
    report = _check(root)
    assert "a.jpg is a JPEG, which blurs class values" in report.bad_masks["a"]
    assert any("1 masks in" in note and "e.g. stranger.png" in note for note in report.notes)


def test_of_several_masks_the_lossless_one_of_the_same_name_is_taken(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a_mask.png", "sub/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    masks = MaskFolder(tmp_path)
    assert masks.find("a.jpeg") == tmp_path / "a.png"
    assert masks.find("sub/a.jpg") == tmp_path / "sub" / "a.png"
    assert masks.find("b.jpg") is None
    (tmp_path / "a.png").unlink()
    assert masks.find("sub/b", "A") == tmp_path / "a.png"  # found before
    assert MaskFolder(tmp_path).find("a") == tmp_path / "a.jpg"  # the same name comes before a better suffix
    (tmp_path / "sub" / "a.png").rename(tmp_path / "sub" / "seg-c_gt.tif")
    assert MaskFolder(tmp_path).find("sub/c.jpg") == tmp_path / "sub" / "seg-c_gt.tif"
    assert MaskFolder(tmp_path).find("c.jpg") is None


def test_masks_of_no_photo_are_counted_once(tmp_path: Path) -> None:
    for name in ("d_mask.png", "c.png", "notes.txt", "b.png"):
        (tmp_path / name).touch()
    masks = MaskFolder(tmp_path)
    note = f"2 masks in {tmp_path} belong to no tagged photo, e.g. c.png."
    assert masks.ownerless_note([tmp_path / "b.png"]) == (note,)
    assert masks.ownerless_note(tmp_path / name for name in ("b.png", "c.png", "d_mask.png")) == ()


# --- COCO -----------------------------------------------------------------------------------------------------------

SQUARE = [1, 1, 5, 1, 5, 5, 1, 5]


def _coco(root: Path, write_photo: Writer, **annotation: Any) -> Path:
    root = root / "coco"
    write_photo(root / "train" / "a.png")
    (root / "annotations").mkdir()
    item = {"id": 7, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0, **annotation}
    image = {"id": 1, "file_name": "a.png", "width": 12, "height": 8}
    content = {"images": [image], "annotations": [item], "categories": [{"id": 1, "name": "cat"}]}
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("outline", [[], None, "absent"])
def test_boxes_without_outlines_are_tags_and_no_masks(tmp_path: Path, write_photo: Writer, outline: Any) -> None:
    root = _coco(tmp_path, write_photo, **({} if outline == "absent" else {"segmentation": outline}))
    report = _check(root)
    assert report.num_masks == 0
    assert not report.stops_training
    assert any("has boxes but no outlines" in note for note in report.notes)


@pytest.mark.parametrize(
    ("outline", "reason"),
    [
        ({"size": [5, 5], "counts": [3, 4, 18]}, "run lengths are for 5 x 5 pixels, its photo has 12 x 8"),
        ({"size": [8, 12], "counts": [3, 4]}, "do not add up to 12 x 8"),
        ([[1, 1e308, 5, 1, 5, 5, 1, 5]], "far outside"),
        ([[1, 1, 5, 1, 5, 5, 1]], "odd number"),
        ([["x", 1, 5, 1, 5, 5]], "could not convert"),
    ],
)
def test_outlines_that_cannot_be_drawn_stop_the_check(
    tmp_path: Path, write_photo: Writer, outline: Any, reason: str
) -> None:
    report = _check(_coco(tmp_path, write_photo, segmentation=outline))
    assert report.stops_training
    assert "instances_train.json: annotation 7 cannot be drawn" in report.bad_masks["a"]
    assert reason in report.bad_masks["a"]


@pytest.mark.parametrize("outline", [[[0, 0, 8, 0, 0, 8]], [0, 0, 8, 0, 0, 8], [[0, 0], [8, 0], [0, 8]]])
def test_three_corners_are_an_outline(outline: Any) -> None:
    mask = draw_mask([{"category_id": 1, "segmentation": outline}], (8, 8), {1: 1})
    assert mask[0, :6].all()
    assert mask[:6, 0].all()
    assert not mask[5:, 5:].any()
    assert mask.dtype == np.uint8


def test_three_outlines_are_three_parts() -> None:
    squares = [[x, 0, x + 2, 0, x + 2, 2, x, 2] for x in (0, 4, 8)]
    mask = draw_mask([{"category_id": 1, "segmentation": squares}], (3, 12), {1: 1})
    assert mask[0].tolist() == [1, 1, 0, 0] * 3


@pytest.mark.parametrize(
    "outline",
    [[SQUARE], SQUARE, [[[1, 1], [5, 1], [5, 5], [1, 5]]], [[1, 1], [5, 1], [5, 5], [1, 5]], [list(map(str, SQUARE))]],
)
@pytest.mark.parametrize("area", [16, None, "big"])
def test_outlines_are_read_as_tools_write_them(outline: Any, area: Any) -> None:
    expected = np.zeros((8, 12), dtype=np.uint8)
    expected[1:5, 1:5] = 3
    item = {"id": 7, "category_id": 1, "area": area, "segmentation": outline}
    assert (draw_mask([item], (8, 12), {1: 3}) == expected).all()


def test_the_drawn_masks_are_held_against_their_photos_size(tmp_path: Path, write_photo: Writer) -> None:
    root = _coco(tmp_path, write_photo, segmentation=[SQUARE])
    report = _check(root)
    assert not report.bad_masks
    assert report.mask_digests.keys() == {"a"}
    drawn = read_photos(DataConfig(root=str(root))).lists["train"][0].mask
    assert isinstance(drawn, CocoMask)
    assert replace(drawn, max_pixels=96).load().shape == (8, 12)
    with pytest.raises(ValueError, match=r"a\.png is said to have 12 x 8 pixels, more than the 95 allowed; correct"):
        replace(drawn, max_pixels=95).load()
    write_photo(root / "train" / "a.png", size=(13, 8))
    path = root / "annotations" / "instances_train.json"
    assert _check(root).bad_masks["a"].startswith(f"The mask of a in {path} is 12 x 8, its photo 13 x 8 pixels")
