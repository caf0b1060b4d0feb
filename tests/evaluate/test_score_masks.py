import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cti.data.photos import Photo
from cti.evaluate.confusion import ConfusionMatrix
from cti.evaluate.masks import count_masks, foreground_shares
from cti.evaluate.scores import ForegroundShares, ListScores, MaskScores
from cti.evaluate.tables import mask_table
from cti.files import from_json, to_json
from cti.tables import to_rich

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


def test_ignored_pixels_are_counted_both_ways(tmp_path):
    save(tmp_path, "a", [[0, 1, 255, 255, 255]])
    scores = count_masks(tmp_path, [photo("a", [[0, 1, 1, 0, 255]])], CLASSES).scores()
    assert scores.coverage == 2 / 4
    assert scores.confident.miou == 1
    assert scores.as_background.iou == {"background": 2 / 3, "cat": 1 / 2, "dog": None}
    assert scores.as_background.absent == ("dog",)
    assert scores.as_background.interval is None


def test_masks_without_ignored_pixels_score_the_same_both_ways():
    rng = np.random.default_rng(0)
    photos = [photo(f"p{i}", rng.choice([0, 1, 2, 255], (6, 7))) for i in range(4)]
    predictions = {p.id: rng.integers(0, 3, (6, 7)).astype(np.uint8) for p in photos}
    counts = count_masks(lambda p: predictions[p.id], photos, CLASSES)
    scores = counts.scores(20)
    matrix = ConfusionMatrix(3)
    for p in photos:
        matrix.update(predictions[p.id], p.mask.load())
    assert np.array_equal(counts.confident.counts, matrix.counts)
    assert np.array_equal(counts.as_background.counts, matrix.counts)
    assert scores.coverage == 1
    assert counts.areas.shape == (4, 3, 3)
    assert scores.num_photos == 4
    assert scores.as_background.interval.value == matrix.miou
    assert scores.as_background.interval.low < scores.as_background.interval.high


def test_missing_and_broken_files_are_named(tmp_path):
    photos = [photo("a", [[0]]), photo("b", [[1]])]
    save(tmp_path, "a", [[0]])
    with pytest.raises(FileNotFoundError, match=r"1 of 2 photos \(b\)"):
        count_masks(tmp_path, photos, CLASSES)
    save(tmp_path, "b", [[1, 1]])
    with pytest.raises(ValueError, match=r"Photo b: .*\(1, 2\)"):
        count_masks(tmp_path, photos, CLASSES)
    save(tmp_path, "b", [[3]])
    with pytest.raises(ValueError, match=r"Photo b: .*value 3"):
        count_masks(tmp_path, photos, CLASSES)
    Image.new("RGB", (1, 1)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match="RGB"):
        count_masks(tmp_path, photos, CLASSES)
    with pytest.raises(ValueError, match="None of the 1 photos"):
        count_masks(tmp_path, [Photo("a", Path("a.jpg"), (0,))], CLASSES)


def test_json_and_table(tmp_path):
    save(tmp_path, "a", [[0, 1, 255, 0]])
    scores = count_masks(tmp_path, [photo("a", [[0, 1, 1, 0]])], CLASSES).scores(5)
    written = json.dumps(to_json(scores), allow_nan=False)
    assert from_json(MaskScores, json.loads(written), "scores.json") == scores
    assert scores.coverage == 0.75
    assert scores.confident.miou == 1
    assert scores.as_background.confusion == ((2, 0, 0), (1, 1, 0), (0, 0, 0))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(to_rich(mask_table(ListScores(masks=scores), "val")))
    text = console.export_text()
    assert "75.0" in text
    assert "58.3" in text  # (2/3 + 1/2) / 2


def test_a_list_without_a_labelled_pixel_has_no_scores_and_is_still_json(tmp_path):
    save(tmp_path, "a", [[0, 1]])
    scores = count_masks(tmp_path, [photo("a", [[255, 255]])], CLASSES).scores(5)
    assert (scores.as_background.miou, scores.as_background.interval, scores.coverage) == (None, None, None)
    json.dumps(to_json(scores), allow_nan=False)


def test_foreground_on_normal_photos():
    masks = [np.array([[0, 0, 255]], np.uint8), np.array([[2, 0, 0], [1, 1, 255]], np.uint8)]
    assert foreground_shares(masks) == ForegroundShares(num_photos=2, photos=1 / 2, pixels=3 / 9)
    assert foreground_shares([]) is None
