"""COCO JSON as pycocotools, its own reader, sees it."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from cti.apps.export.coco import export_coco
from cti.predict.annotations import Per, Shape

COCO = pytest.importorskip("pycocotools.coco", reason="needs the extra coco").COCO

CLASSES = ("cat", "dog", "sofa")


def read_back(coco: COCO, image: dict) -> NDArray[np.uint8]:
    """The mask that the annotations of an image draw."""
    mask = np.zeros((image["height"], image["width"]), np.uint8)
    for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
        mask[coco.annToMask(annotation).astype(bool)] = 255 if annotation["iscrowd"] else annotation["category_id"]
    return mask


@pytest.mark.parametrize("shape", ["polygons", "rle"])
@pytest.mark.parametrize("per", ["class", "component"])
def test_every_pixel_comes_back(
    shape: Shape,
    per: Per,
    masks: Path,
    photos: dict[str, Path],
    drawn_masks: dict[str, NDArray[np.uint8]],
    tmp_path: Path,
) -> None:
    result = export_coco(masks, photos, CLASSES, tmp_path / "out.json", shape, per)
    coco = COCO(tmp_path / "out.json")
    assert {category["id"]: category["name"] for category in coco.loadCats(coco.getCatIds())} == {
        1: "cat", 2: "dog", 3: "sofa",
    }  # fmt: skip
    images = {Path(image["file_name"]).stem: image for image in coco.loadImgs(coco.getImgIds())}
    assert set(images) == set(drawn_masks)
    for name, mask in drawn_masks.items():
        # Unsure pixels of a photo without any class have nobody's crowd to be: they are counted.
        expected = np.zeros_like(mask) if name == "unsure" else mask
        np.testing.assert_array_equal(read_back(coco, images[name]), expected)
    assert result.lost_unsure == (drawn_masks["unsure"] == 255).sum()
    assert result.images == 4
    assert result.objects == len(coco.getAnnIds())


def test_areas_boxes_and_crowds(
    masks: Path, photos: dict[str, Path], drawn_masks: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    export_coco(masks, photos, CLASSES, tmp_path / "out.json")
    coco = COCO(tmp_path / "out.json")
    (image,) = [image for image in coco.loadImgs(coco.getImgIds()) if image["file_name"] == "parts.jpg"]
    sofa, cat = (coco.loadAnns(coco.getAnnIds(image["id"], catIds=[value], iscrowd=False))[0] for value in (3, 1))
    assert sofa["area"] == (drawn_masks["parts"] == 3).sum()
    assert sofa["bbox"] == [2, 2, 31, 28]
    assert cat["bbox"] == [2, 9, 7, 3]
    crowds = coco.loadAnns(coco.getAnnIds(image["id"], iscrowd=True))
    assert [crowd["category_id"] for crowd in crowds] == [1, 3]
    assert all(isinstance(crowd["segmentation"]["counts"], str) for crowd in crowds)


def test_one_annotation_for_each_part(
    masks: Path, photos: dict[str, Path], drawn_masks: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    export_coco(masks, photos, CLASSES, tmp_path / "out.json", per="component")
    coco = COCO(tmp_path / "out.json")
    expected = sum(ndimage.label(mask == value)[1] for mask in drawn_masks.values() for value in (1, 2, 3))
    assert len(coco.getAnnIds(iscrowd=False)) == expected


def test_the_file_tells_no_place_of_this_machine(masks: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    export_coco(masks, photos, CLASSES, tmp_path / "out.json")
    content = (tmp_path / "out.json").read_text()
    assert str(tmp_path) not in content
    assert {image["file_name"] for image in json.loads(content)["images"]} == {
        "nothing.jpg", "parts.jpg", "holiday/ring.png", "unsure.jpg",
    }  # fmt: skip


def test_an_error_leaves_no_file(masks: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    (masks / "unsure.png").unlink()
    with pytest.raises(ValueError, match="lacks the masks"):
        export_coco(masks, photos, CLASSES, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_without_pycocotools_one_sentence_names_the_extra(
    masks: Path, photos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "cti\[coco\]"'):
        export_coco(masks, photos, CLASSES, tmp_path / "out.json")
