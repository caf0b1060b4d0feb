"""Masks made elsewhere: what is inside each shape, which lies on top, and what is said of those that do not fit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cti.data import save_mask
from cti.data.outside_masks import outside_masks

CLASSES = ("disc", "ring")


def _labelme(folder: Path, *shapes: dict[str, Any], name: str = "a", **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"shapes": list(shapes), **more}))
    return folder


def _shape(kind: str | None, points: list[list[float]], label: str = "disc") -> dict[str, Any]:
    return {"label": label, "points": points} | ({} if kind is None else {"shape_type": kind})


def _drawn(source: Path, size: tuple[int, int] = (7, 8), unsaid: int = 0) -> np.ndarray:
    (mask,) = outside_masks(source, CLASSES)
    return mask.draw(size, unsaid)


SQUARE = [[1, 2], [4, 2], [4, 5], [1, 5]]


@pytest.mark.parametrize(("kind", "points"), [("polygon", SQUARE), (None, SQUARE), ("rectangle", [[4, 5], [1, 2]])])
def test_pixels_on_the_outline_are_inside(tmp_path: Path, kind: str | None, points: list[list[float]]) -> None:
    expected = np.zeros((7, 8), np.uint8)
    expected[2:6, 1:5] = 1
    np.testing.assert_array_equal(_drawn(_labelme(tmp_path / "in", _shape(kind, points))), expected)


def test_a_circle_is_its_centre_and_a_point_on_it(tmp_path: Path) -> None:
    mask = _drawn(_labelme(tmp_path / "in", _shape("circle", [[10, 12], [13, 16]], "ring")), (24, 24))  # 3, 4, 5
    y, x = np.mgrid[:24, :24]
    distance = np.hypot(y - 12, x - 10)
    assert (mask[distance <= 4.5] == 2).all()
    assert (mask[distance > 5.8] == 0).all()


def test_strokes_are_three_pixels_wide_and_round_at_their_ends(tmp_path: Path) -> None:
    strip = _drawn(_labelme(tmp_path / "in", _shape("linestrip", [[6, 9], [17, 9]])), (20, 24))
    assert np.flatnonzero(strip[:, 12]).tolist() == [8, 9, 10]
    columns = np.flatnonzero(strip.any(axis=0))
    assert (columns[0], columns[-1]) in ((4, 18), (5, 18), (5, 19))
    point = _drawn(_labelme(tmp_path / "in", _shape("point", [[12, 9]])), (20, 24))
    for places in np.nonzero(point):
        assert 3 <= len(set(places)) <= 4
    assert point[9, 12] == 1


def test_smaller_shapes_lie_on_top_and_the_rest_is_unsaid(tmp_path: Path) -> None:
    small, large = _shape("rectangle", [[2, 2], [3, 3]], "ring"), _shape("rectangle", [[1, 1], [5, 5]])
    for shapes in ((small, large), (large, small)):
        mask = _drawn(_labelme(tmp_path / "in", *shapes), unsaid=255)
        assert (mask[2:4, 2:4] == 2).all()
        assert (mask == 1).sum() == 21
        assert (mask == 255).sum() == 56 - 25
    names = [_shape("rectangle", [[0, 0], [1, 1]], name) for name in ("background", "Disc")]
    assert np.unique(_drawn(_labelme(tmp_path / "in", names[0]), unsaid=255)).tolist() == [0, 255]
    assert np.unique(_drawn(_labelme(tmp_path / "in", names[1]))).tolist() == [0, 1]


def test_the_photo_is_the_one_that_the_file_names(tmp_path: Path) -> None:
    source = _labelme(tmp_path / "in", imagePath="photos/b.jpg", imageHeight=7, imageWidth=8)
    for name, content in (("list", [1]), ("other", {"version": 1}), ("odd", {"shapes": 3})):
        (source / f"{name}.json").write_text(json.dumps(content))  # which is not labelme's
    _labelme(source, name="c", imageHeight=7)  # half a size is none
    masks = outside_masks(source, CLASSES)
    assert [(mask.photo, mask.where.name) for mask in masks] == [("photos/b.jpg", "a.json"), ("c", "c.json")]
    assert not masks[0].draw((7, 8), 0).any()
    assert not masks[1].draw((9, 9), 0).any()
    with pytest.raises(ValueError, match=r"a\.json is for a photo of 8 x 7 px, but the photo has 7 x 8"):
        masks[0].draw((8, 7), 0)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"label": "disc"}, "shape 1, has no points"),
        ("text", "shape 1, has no points"),
        (_shape("polygon", [[0, 0], [1e6, 0], [1, 1]]), "shape 1, has a point far outside any photo"),
        (_shape("polygon", [[0, 0], [0, -1e6], [1, 1]]), "shape 1, has a point far outside any photo"),
        (_shape("polygon", [[0, 0], [1, 1]]), "shape 1, is a polygon of 2 points"),
        (_shape("rectangle", [[0, 0]]), "shape 1, is a rectangle of 1 points"),
        (_shape("circle", [[0, 0]]), "shape 1, is a circle of 1 points"),
        (_shape("line", [[0, 0]]), "shape 1, is a line of 1 points"),
        (_shape("linestrip", [[0, 0]]), "shape 1, is a linestrip of 1 points"),
        (_shape("point", []), "shape 1, is a point of 0 points"),
        (_shape("mask", SQUARE), "shape 1, is a mask of 4 points; use polygon"),
        (_shape("polygon", SQUARE, "cat"), "has the class 'cat', but the run has disc, ring"),
    ],
)
def test_shapes_that_cannot_be_drawn_are_named(tmp_path: Path, shape: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        outside_masks(_labelme(tmp_path / "in", shape), CLASSES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 0.1 0.1 0.5", r"a\.txt, line 1, is no outline of one of 2 classes"),
        ("2 0 0 1 0 1 1", r"a\.txt, line 1, is no outline of one of 2 classes"),
        ("0 0.5 0.5 0.2 0.2", "is a box, which is no mask"),
        ("0 0 0 2.1 0 1 1", "has a corner far outside the photo"),
        ("0 0 0 -1.1 0 1 1", "has a corner far outside the photo"),
    ],
)
def test_rows_of_yolo_that_are_no_outlines_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        outside_masks(tmp_path, CLASSES)


def test_shapes_may_reach_out_of_the_photo(tmp_path: Path) -> None:
    """As people draw them: a shape of labelme by less than a million pixels, one of YOLO by a photo's side."""
    assert (_drawn(_labelme(tmp_path / "in", _shape("rectangle", [[-999_999, 3], [999_999, 4]])))[3:5] == 1).all()
    (tmp_path / "yolo" / "labels").mkdir(parents=True)
    (tmp_path / "yolo" / "labels" / "a.txt").write_text("1 -1 -1 2 -1 2 2 -1 2")
    (tmp_path / "yolo" / "labels" / "classes.txt").write_text("disc\nring\n")  # no photo is called so
    assert (_drawn(tmp_path / "yolo") == 2).all()


@pytest.mark.parametrize("names", ["names: 3", "names: [disc", "other: [disc]"])
def test_yolos_yaml_must_name_the_classes(tmp_path: Path, names: str) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0 0 1 0 1 1")
    (tmp_path / "data.yaml").write_text(names)
    with pytest.raises(ValueError, match=r"data\.yaml (names no classes|cannot be read as YAML)"):
        outside_masks(tmp_path, CLASSES)


def test_of_coco_only_annotated_photos_count(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 7, "width": 8}, {"id": 2, "file_name": "b.jpg"}],
        "categories": [{"id": 9, "name": "Ring"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 9, "segmentation": [[1, 2, 4, 2, 4, 5, 1, 5]]}],
    }
    path = tmp_path / "any.json"
    path.write_text(json.dumps(content))
    (mask,) = outside_masks(path, CLASSES)
    assert (mask.photo, mask.where) == ("a.jpg", path)
    drawn = mask.draw((7, 8), 255)
    assert (drawn[2:5, 1:4] == 2).all()
    assert (drawn == 255).sum() == 56 - 9
    with pytest.raises(ValueError, match=r"any\.json is for a photo of 8 x 7 px"):
        mask.draw((8, 7), 0)
    path.write_text('{"images": 3}')
    with pytest.raises(ValueError, match=r"any\.json is no COCO file"):
        outside_masks(path, CLASSES)


def test_images_hold_values_in_their_own_order(tmp_path: Path) -> None:
    save_mask(tmp_path / "in" / "sub" / "a.png", np.array([[0, 1, 2, 255]], np.uint8))
    assert _drawn(tmp_path / "in", (1, 4)).tolist() == [[0, 1, 2, 255]]
    (tmp_path / "in" / "classes.txt").write_text("ring\ndisc\n")
    (mask,) = outside_masks(tmp_path / "in", CLASSES)
    assert mask.photo == "sub/a.png"
    assert mask.draw((1, 4), 255).tolist() == [[255, 2, 1, 255]]
    with pytest.raises(ValueError, match=r"a\.png is for a photo of 4 x 1 px, but the photo has 1 x 4"):
        mask.draw((4, 1), 0)
    with pytest.raises(FileNotFoundError, match="give a folder of masks or a COCO file"):
        outside_masks(tmp_path / "nowhere", CLASSES)
