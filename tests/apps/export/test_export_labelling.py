"""YOLO, Pascal VOC XML and labelme as supervision, which reads them for training, sees them."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cti.apps.export.labelling import LabellingFormat, export_labelling
from cti.apps.export.yolo import yolo_rows

pytestmark = pytest.mark.filterwarnings("ignore:OpenCV")
sv = pytest.importorskip("supervision", reason="needs the extra labelling")

CLASSES = ("cat", "dog", "sofa")


def read_back(folder: Path, to: LabellingFormat) -> Any:
    images = str(folder / "images")
    if to == "yolo":
        return sv.DetectionDataset.from_yolo(
            images, str(folder / "labels"), str(folder / "data.yaml"), force_masks=True
        )
    if to == "pascal-voc":
        return sv.DetectionDataset.from_pascal_voc(images, str(folder / "Annotations"), force_masks=True)
    return sv.DetectionDataset.from_labelme(images, images, force_masks=True)


@pytest.mark.parametrize("to", ["yolo", "pascal-voc", "labelme"])
def test_every_pixel_comes_back(
    to: LabellingFormat,
    masks: Path,
    photos: dict[str, Path],
    drawn_masks: dict[str, NDArray[np.uint8]],
    tmp_path: Path,
) -> None:
    result = export_labelling(masks, photos, CLASSES, tmp_path / "out", to)
    found = read_back(tmp_path / "out", to)
    annotations = {Path(path).stem: detections for path, detections in found.annotations.items()}
    assert set(annotations) == set(drawn_masks)
    for name, mask in drawn_masks.items():
        drawn = np.zeros_like(mask)
        detections = annotations[name]
        for part, index in zip(detections.mask if len(detections) else (), detections.class_id, strict=True):
            drawn[part] = CLASSES.index(found.classes[index]) + 1
        np.testing.assert_array_equal(drawn, np.where(mask == 255, 0, mask), err_msg=name)
    assert result.images == 4
    assert result.objects == 5 == sum(map(len, annotations.values()))
    assert result.lost_unsure == sum(int((mask == 255).sum()) for mask in drawn_masks.values())
    assert (tmp_path / "out" / "classes.txt").read_text() == "cat\ndog\nsofa\n"
    for path in (tmp_path / "out").rglob("*.*"):
        if path.suffix in (".txt", ".xml", ".json", ".yaml"):
            assert str(tmp_path) not in path.read_text()


def test_photos_are_copied_as_they_are(masks: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    export_labelling(masks, photos, CLASSES, tmp_path / "out", "yolo")
    for name, path in photos.items():
        assert (tmp_path / "out" / "images" / f"{name}{path.suffix}").read_bytes() == path.read_bytes()


def test_yolo_finds_its_images_and_classes(masks: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    export_labelling(masks, photos, CLASSES, tmp_path / "out", "yolo")
    facts = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert facts["names"] == dict(enumerate(CLASSES))
    assert (tmp_path / "out" / facts["path"] / facts["train"] / "parts.jpg").is_file()
    lines = (tmp_path / "out" / "labels" / "parts.txt").read_text().splitlines()
    numbers = np.array([float(number) for line in lines for number in line.split()[1:]])
    assert 0 <= numbers.min() <= numbers.max() <= 1


def test_a_folder_appears_whole_or_not_at_all(masks: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    (masks / "unsure.png").write_bytes(b"no mask")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"unsure\.png"):
        export_labelling(masks, photos, CLASSES, tmp_path / "out", "yolo")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    with pytest.raises(ValueError, match="is there already; remove it, give --overwrite, or choose another --out"):
        export_labelling(masks, photos, CLASSES, tmp_path / "out", "yolo")
    assert (tmp_path / "out" / "mine.txt").read_text() == "kept"
    (masks / "unsure.png").unlink()
    del photos["unsure"]
    export_labelling(masks, photos, CLASSES, tmp_path / "out", "yolo", overwrite=True)
    assert not (tmp_path / "out" / "mine.txt").exists()
    assert len(list((tmp_path / "out" / "labels").iterdir())) == 3


def test_single_pixels_are_not_lost(tmp_path: Path) -> None:
    from cti.data.images import save_mask

    mask = np.zeros((12, 14), np.uint8)
    mask[3, 4] = mask[6, 2:9] = mask[8:11, 12] = 1
    save_mask(tmp_path / "masks" / "a.png", mask)
    Image.new("RGB", (14, 12)).save(tmp_path / "a.png")
    export_labelling(tmp_path / "masks", {"a": tmp_path / "a.png"}, CLASSES, tmp_path / "out", "yolo")
    (detections,) = read_back(tmp_path / "out", "yolo").annotations.values()
    np.testing.assert_array_equal(detections.mask.any(axis=0), mask == 1)


def test_without_supervision_one_sentence_names_the_extra(
    masks: Path, photos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "cti\[labelling\]"'):
        export_labelling(masks, photos, CLASSES, tmp_path / "out", "labelme")
    export_labelling(masks, photos, CLASSES, tmp_path / "out", "yolo")  # needs none


def trainers_masks(text: str, size: tuple[int, int], classes: int) -> NDArray[np.uint8]:
    """A label file by the rules of Ultralytics (verify_image_label, polygon2mask): a row of more than five
    columns makes every row of the file corners, corners are rounded down to pixels, the outline belongs to the object.
    """
    rows = [line.split() for line in text.splitlines()]
    assert any(len(row) > 5 for row in rows) or not rows
    mask = np.zeros(size, np.uint8)
    for row in rows:
        corners = np.array(row[1:], np.float32).reshape(-1, 2)
        assert 0 <= int(row[0]) < classes
        assert 0 <= corners.min() <= corners.max() <= 1
        pixels = (corners * np.array(size[::-1], np.float32)).astype(np.int32)
        mask[sv.polygon_to_mask(pixels, size[::-1]).astype(bool)] = int(row[0]) + 1
    return mask


def area(row: str) -> float:
    x, y = np.array(row.split()[1:], float).reshape(-1, 2).T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


@settings(deadline=None, max_examples=60)
@given(arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 0, 1, 2, 255])))
def test_every_row_of_yolo_is_a_polygon_and_every_pixel_comes_back(mask: NDArray[np.uint8]) -> None:
    rows = yolo_rows(mask)
    for row in rows:
        assert len(row.split()) >= 7
        assert len(row.split()) % 2 == 1
        assert area(row) > 0
        assert len(set(map(tuple, np.array(row.split()[1:]).reshape(-1, 2).tolist()))) >= 3
    sure = np.where(mask == 255, 0, mask)
    np.testing.assert_array_equal(trainers_masks("\n".join(rows), mask.shape, 2), sure)
    corners = np.ones((3, 3))
    assert len(rows) == sum(ndimage.label(mask == value, corners)[1] for value in (1, 2))


def test_yolo_keeps_the_split_of_the_run(masks: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    lists = {"train": ["ring", "parts", "elsewhere"], "val": ["nothing"], "score": ["ring"]}
    export_labelling(masks, photos, CLASSES, tmp_path / "out", "yolo", lists)
    facts = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert (facts["train"], facts["val"]) == ("train.txt", "val.txt")
    assert (tmp_path / "out" / "train.txt").read_text() == "./images/ring.png\n./images/parts.jpg\n"
    assert (tmp_path / "out" / "val.txt").read_text() == "./images/nothing.jpg\n"
