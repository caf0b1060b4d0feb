"""One mask as COCO annotations and as detections: which parts there are, and which pixels each has."""

import numpy as np
import pytest

from cti.predict.annotations import detections, mask_annotations

codes = pytest.importorskip("pycocotools.mask", reason="needs the extra coco")

MASK = np.array([
    [1, 1, 0, 2, 255],
    [1, 0, 1, 2, 255],
    [0, 0, 1, 0, 0],
], np.uint8)  # fmt: skip


def test_a_class_is_one_annotation_and_what_is_not_known_is_a_crowd_of_each() -> None:
    found = list(mask_annotations(MASK, "rle"))
    said = [(note["category_id"], note["area"], note["bbox"], note["iscrowd"]) for note in found]
    assert said == [(1, 5, [0, 0, 3, 3], 0), (2, 2, [3, 0, 1, 2], 0), (1, 2, [4, 0, 1, 2], 1), (2, 2, [4, 0, 1, 2], 1)]
    for note, value in zip(found, (1, 2, 255, 255), strict=True):
        assert isinstance(note["segmentation"]["counts"], str)
        np.testing.assert_array_equal(codes.decode(note["segmentation"]).astype(bool), value == MASK)
    assert all(note.keys() == {"category_id", "segmentation", "area", "bbox", "iscrowd"} for note in found)
    assert list(mask_annotations(np.zeros((2, 2), np.uint8))) == []
    assert list(mask_annotations(np.full((2, 2), 255, np.uint8))) == []  # a crowd of no class
    polygons = list(mask_annotations(MASK))
    assert [len(note["segmentation"]) for note in polygons[:2]] == [2, 1]  # a polygon for each part
    assert all(len(polygon) >= 6 for note in polygons[:2] for polygon in note["segmentation"])
    assert polygons[2]["segmentation"] == found[2]["segmentation"]  # a crowd is always run-length codes


def test_a_component_is_an_annotation_of_its_own() -> None:
    found = list(mask_annotations(MASK, "rle", per="component"))
    said = [(note["category_id"], note["area"], note["iscrowd"]) for note in found]
    assert said == [(1, 3, 0), (1, 2, 0), (2, 2, 0), (1, 2, 1), (2, 2, 1)]


@pytest.mark.filterwarnings("ignore:OpenCV")
def test_pixels_that_touch_by_a_corner_are_one_detection() -> None:
    pytest.importorskip("supervision", reason="needs the extra labelling")
    found = detections(MASK)
    assert found.class_id.tolist() == [0, 1]
    np.testing.assert_array_equal(found.mask, [MASK == 1, MASK == 2])
    assert found.xyxy.tolist() == [[0, 0, 2, 2], [3, 0, 3, 1]]
    apart = np.array([[1, 0, 1]], np.uint8)
    assert detections(apart).class_id.tolist() == [0, 0]
    assert len(detections(np.full((2, 2), 255, np.uint8))) == 0
