import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cti.data.photos import Photo
from cti.evaluate import ConfusionMatrix, score_masks
from cti.evaluate.masks import read_mask
from cti.evaluate.tables import mask_tables

CLASSES = ("cat", "dog")


@dataclass(frozen=True)
class Drawn:
    """A mask that is held in memory."""

    mask: np.ndarray

    def load(self):
        return self.mask


def photo(name, mask):
    return Photo(name, Path(f"{name}.jpg"), (0,), Drawn(np.array(mask, np.uint8)))


def save(folder, name, mask):
    Image.fromarray(np.array(mask, np.uint8)).save(folder / f"{name}.png")


def test_unsure_pixels_are_counted_both_ways(tmp_path):
    save(tmp_path, "a", [[0, 1, 255, 255, 255]])
    scores = score_masks(tmp_path, [photo("a", [[0, 1, 1, 0, 255]])], CLASSES)
    assert scores.coverage == 2 / 4
    assert scores.decided.miou == 1
    np.testing.assert_allclose(scores.resolved.iou, [2 / 3, 1 / 2, np.nan])


def test_decided_masks_score_the_same_both_ways():
    rng = np.random.default_rng(0)
    photos = [photo(f"p{i}", rng.choice([0, 1, 2, 255], (6, 7))) for i in range(4)]
    predictions = {p.id: rng.integers(0, 3, (6, 7)).astype(np.uint8) for p in photos}
    scores = score_masks(lambda p: predictions[p.id], photos, CLASSES, bootstrap=20)
    matrix = ConfusionMatrix(3)
    for p in photos:
        matrix.update(predictions[p.id], p.mask.load())
    assert np.array_equal(scores.decided.counts, matrix.counts)
    assert np.array_equal(scores.resolved.counts, matrix.counts)
    assert scores.coverage == 1
    assert scores.interval.value == matrix.miou
    assert scores.interval.low < scores.interval.high


def test_missing_and_broken_files_are_named(tmp_path):
    photos = [photo("a", [[0]]), photo("b", [[1]])]
    save(tmp_path, "a", [[0]])
    with pytest.raises(FileNotFoundError, match=r"1 of 2 photos \(b\)"):
        score_masks(tmp_path, photos, CLASSES)
    assert score_masks(tmp_path, photos, CLASSES, allow_missing=True).missing == ("b",)
    save(tmp_path, "b", [[1, 1]])
    with pytest.raises(ValueError, match=r"Photo b: .*\(1, 2\)"):
        score_masks(tmp_path, photos, CLASSES)
    save(tmp_path, "b", [[3]])
    with pytest.raises(ValueError, match=r"Photo b: .*value 3"):
        score_masks(tmp_path, photos, CLASSES)
    Image.new("RGB", (1, 1)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match="RGB"):
        score_masks(tmp_path, photos, CLASSES)
    with pytest.raises(ValueError, match="None of the 1 photos"):
        score_masks(tmp_path, [Photo("a", Path("a.jpg"), (0,))], CLASSES)


def test_indexed_masks_are_read_as_values(tmp_path):
    image = Image.fromarray(np.array([[0, 2, 255]], np.uint8))
    image.putpalette([7, 8, 9] * 256)
    image.save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png").tolist() == [[0, 2, 255]]


def test_json_and_table(tmp_path):
    save(tmp_path, "a", [[0, 1, 255, 0]])
    scores = score_masks(tmp_path, [photo("a", [[0, 1, 1, 0]])], CLASSES, bootstrap=5)
    result = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert result["coverage"] == 0.75
    assert result["unsure_ignored"]["miou"] == 1
    assert result["unsure_as_background"]["iou"]["dog"] is None
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(mask_tables(scores))
    assert "75.0" in console.export_text()
