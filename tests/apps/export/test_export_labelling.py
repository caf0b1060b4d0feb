"""YOLO, Pascal VOC XML and labelme as supervision, which reads them for training, sees them."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from cti.apps.export.labelling import LabellingFormat, export_labelling

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
    assert result["images"] == 4
    assert result["objects"] == 5 == sum(map(len, annotations.values()))
    assert result["lost_unsure"] == sum(int((mask == 255).sum()) for mask in drawn_masks.values())
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
    assert facts["names"] == list(CLASSES)
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
    with pytest.raises(ValueError, match="is there already; remove it or choose another --out"):
        export_labelling(masks, photos, CLASSES, tmp_path / "out", "yolo")
    assert (tmp_path / "out" / "mine.txt").read_text() == "kept"


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
        export_labelling(masks, photos, CLASSES, tmp_path / "out", "yolo")
