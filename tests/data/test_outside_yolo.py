"""Where outlines of YOLO may lie, and whose numbers they hold."""

from pathlib import Path

import numpy as np
import pytest

from cti.data.outside_masks import outside_masks

CLASSES = ("disc", "ring")
LEFT_HALF = "1 0 0 0.5 0 0.5 1 0 1\n"


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("place", ["set/labels/a.txt", "labels/a.txt", "beside/a.txt"])
def test_outlines_are_found_in_labels_or_beside_data_yaml(tmp_path: Path, place: str) -> None:
    path = _write(tmp_path / place, LEFT_HALF)
    source = tmp_path / Path(place).parts[0]
    if source.name == "beside":
        _write(source / "data.yaml", "names: [disc, ring]\n")
    (mask,) = outside_masks(source, CLASSES)
    assert (mask.photo, mask.where) == ("a", path)
    drawn = mask.draw((6, 8), 0)
    assert (drawn[:, :3] == 2).all()
    assert (drawn[:, 5:] == 0).all()
    assert (mask.draw((6, 8), 255)[:, 5:] == 255).all()


@pytest.mark.parametrize("names", ["[ring, disc]", "{1: disc, 0: ring}"])
def test_data_yaml_says_whose_numbers_they_are(tmp_path: Path, names: str) -> None:
    _write(tmp_path / "data.yaml", f"names: {names}\n")
    _write(tmp_path / "labels" / "a.txt", LEFT_HALF)
    (mask,) = outside_masks(tmp_path, CLASSES)
    assert np.unique(mask.draw((6, 8), 0)).tolist() == [0, 1]


def test_other_text_is_no_outline(tmp_path: Path) -> None:
    _write(tmp_path / "notes" / "a.txt", LEFT_HALF)
    with pytest.raises(ValueError, match="holds no masks: no COCO or labelme JSON, no YOLO labels"):
        outside_masks(tmp_path / "notes", CLASSES)
