"""Parts of a few pixels are left out of outlines, by one rule for all formats, and are counted."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cti.apps.export import Exported
from cti.apps.export.coco import export_coco
from cti.apps.export.labelling import export_labelling
from cti.apps.export.specks import without_specks
from cti.data.images import save_mask

CLASSES = ("disc", "box")
SIZE = (400, 500)  # a speck is below 16 pixels
SMALL = (100, 120)  # and here only a single pixel is one


def speckled(size: tuple[int, int]) -> np.ndarray:
    """A disc of 40 x 40 pixels, one of 4 x 4, and three specks, of which two pixels touch by a corner; a tiny box."""
    mask = np.zeros(size, np.uint8)
    mask[5:45, 5:45] = 1
    mask[50:54, 50:54] = 1
    mask[60:63, 60:65] = 1  # 15 pixels
    mask[70, 70] = mask[71, 71] = 1
    mask[80, 80] = 1
    mask[90, 90] = 2
    mask[95, 95] = 255
    return mask


def test_small_parts_are_left_out_but_never_a_class() -> None:
    mask = speckled(SIZE)
    before = mask.copy()
    found, count = without_specks(mask)
    assert count == 3
    expected = before.copy()
    expected[60:63, 60:65] = expected[70, 70] = expected[71, 71] = expected[80, 80] = 0
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(mask, before)


def test_on_a_small_photo_less_is_a_speck() -> None:
    mask = speckled(SMALL)
    found, count = without_specks(mask)
    assert count == 1
    assert (found != mask).sum() == 1
    assert without_specks(mask[:64, :64])[1] == 0


def test_nothing_to_leave_out() -> None:
    mask = np.full(SIZE, 255, np.uint8)
    assert without_specks(mask)[1] == 0
    assert without_specks(np.zeros(SIZE, np.uint8))[1] == 0


@pytest.mark.parametrize("to", ["yolo", "labelme", "pascal-voc", "coco", "rle"])
def test_all_outlines_leave_out_the_same(tmp_path: Path, to: str) -> None:
    if to in ("labelme", "pascal-voc"):
        pytest.importorskip("supervision")
    if to in ("coco", "rle"):
        pytest.importorskip("pycocotools")
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "a.png")
    save_mask(tmp_path / "masks" / "a.png", speckled(SIZE))
    photos, out = {"a": tmp_path / "a.png"}, tmp_path / "out"
    if to in ("coco", "rle"):
        shape = "polygons" if to == "coco" else "rle"
        result = export_coco(tmp_path / "masks", photos, CLASSES, out, shape, "component")  # type: ignore[arg-type]
        areas = [one["area"] for one in json.loads(out.read_text())["annotations"] if not one["iscrowd"]]
        assert sorted(areas) == ([1, 16, 1600] if to == "coco" else [1, 1, 1, 1, 15, 16, 1600])
    else:
        result = export_labelling(tmp_path / "masks", photos, CLASSES, out, to)  # type: ignore[arg-type]
        assert result.objects == 3
    assert result.specks == (0 if to == "rle" else 3)
    assert result.pixels["disc"] == (speckled(SIZE) == 1).sum()  # of the masks, which stay as they are
    assert ("3 parts of a few pixels left out" in str(result)) == (to != "rle")


def test_one_speck_is_one_part() -> None:
    assert str(Exported("", 1, 2, {"disc": 1}, specks=1)).endswith(", 1 part of a few pixels left out")
