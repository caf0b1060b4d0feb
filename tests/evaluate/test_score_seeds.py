import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cti.data.photos import Photo
from cti.data.seed_file import Seed, read_seed, write_seed
from cti.evaluate import ConfusionMatrix, ThresholdSweep, cam_overlap, score_seeds
from cti.evaluate.tables import seed_tables

CLASSES = ("cat", "dog", "cow")


@dataclass(frozen=True)
class Drawn:
    """A mask that is held in memory."""

    mask: np.ndarray

    def load(self):
        return self.mask


def some_photos(num=5, size=(12, 16)):
    rng = np.random.default_rng(0)
    photos, seeds = [], {}
    for number in range(num):
        tags = tuple(sorted(rng.permutation(3)[: 1 + number % 2].tolist()))
        mask = rng.choice(np.array([0, 255, *(tag + 1 for tag in tags)], np.uint8), size)
        photos.append(Photo(f"photo{number}", Path("none.jpg"), tags, Drawn(mask)))
        maps = rng.random((len(tags) + 1, 3, 4)).astype(np.float32)
        seeds[f"photo{number}"] = Seed(tags, size, maps[1:], maps[0])
    return photos, seeds


@pytest.mark.parametrize("workers", [1, 2, 3, 9])
def test_every_number_is_that_of_its_plain_computation(workers):
    photos, seeds = some_photos()
    moved = []
    scores = score_seeds(
        lambda photo: seeds[photo.id],
        photos,
        CLASSES,
        0.3,
        workers=workers,
        bootstrap=20,
        advance=lambda: moved.append(1),
    )
    sweep = ThresholdSweep(CLASSES)
    for photo in photos:
        seed = seeds[photo.id]
        sweep.update(seed.cams(), seed.class_indices, photo.mask.load(), seed.background_cam())
    expected = sweep.compute()
    assert np.array_equal(scores.sweep.counts, expected.counts)
    assert scores.fixed.miou == expected.at(0.3).miou
    assert scores.best.miou == expected.best.miou
    assert scores.threshold_free.miou == expected.threshold_free.miou
    assert scores.num_photos == len(moved) == 5
    assert scores.num_overlap_photos == 2
    assert scores.overlap == pytest.approx(np.mean([cam_overlap(seeds[f"photo{i}"].cams()) for i in (1, 3)]))
    assert scores.fixed_areas.shape == (5, 3, 4)
    matrix = ConfusionMatrix(4, expected.at(0.3).confusion.counts)
    assert np.array_equal(scores.fixed_areas[:, 0].sum(axis=0), np.diag(matrix.counts))
    assert scores.fixed_interval.value == matrix.miou
    assert scores.free_interval.value == expected.threshold_free.miou


@pytest.mark.parametrize("threshold", [0.123, 0.25001, 0.29])
def test_perfect_seeds_score_1_and_a_threshold_off_the_grid_is_swept_too(threshold):
    mask = np.zeros((4, 4), np.uint8)
    mask[:2] = 2
    photo = Photo("one", Path("none.jpg"), (1,), Drawn(mask))
    maps = (mask == 2).astype(np.float32)
    scores = score_seeds(lambda _: Seed((1,), (4, 4), maps[None], 1 - maps), [photo], CLASSES, threshold)
    assert scores.fixed.miou == scores.best.miou == scores.threshold_free.miou == 1
    assert scores.fixed.threshold == threshold
    assert scores.fixed.confusion.classes_in_mean == (0, 2)
    assert np.isnan(scores.overlap)


def test_kinds_are_read_from_a_folder_and_missing_photos_are_counted(tmp_path):
    photos, seeds = some_photos()
    for photo in photos[1:]:
        seed = seeds[photo.id]
        patch = Seed(seed.class_indices, seed.size, seed.maps[:, ::-1].copy(), seed.background)
        write_seed(tmp_path / f"{photo.id}.npz", {"refined": seed, "patch": patch})
    with pytest.raises(FileNotFoundError, match=r"1 of 5 photos \(photo0\)"):
        score_seeds(tmp_path, photos, CLASSES)
    for kind in ("", "patch"):
        scores = score_seeds(tmp_path, photos, CLASSES, kind=kind, allow_missing=True)
        by_hand = score_seeds(
            lambda photo, kind=kind: read_seed(tmp_path / f"{photo.id}.npz", kind), photos[1:], CLASSES
        )
        assert scores.missing == ("photo0",)
        assert scores.num_photos == 4
        assert np.array_equal(scores.sweep.counts, by_hand.sweep.counts)
    assert not np.array_equal(score_seeds(tmp_path, photos[1:], CLASSES).sweep.counts, scores.sweep.counts)


def test_wrong_input_is_named():
    photos, seeds = some_photos()
    with pytest.raises(ValueError, match="None of the 1 photos has a mask"):
        score_seeds(lambda photo: seeds[photo.id], [Photo("a", Path("a.jpg"), (0,))], CLASSES)
    other_size = Seed((0,), (5, 5), np.ones((1, 2, 2), np.float32), None)
    with pytest.raises(ValueError, match=r"photo0.*5x5 pixels.*12x16"):
        score_seeds(lambda _: other_size, photos, CLASSES)


def test_json_holds_fractions_and_the_table_percent():
    photos, seeds = some_photos()
    scores = score_seeds(lambda photo: seeds[photo.id], photos, (*CLASSES, "sheep"), 0.25, bootstrap=10, kind="refined")
    result = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert result["best"]["uses_pixel_labels"] is True
    assert result["fixed"]["uses_pixel_labels"] is False
    assert result["fixed"]["miou"] == scores.fixed.miou
    assert result["fixed"]["iou"]["sheep"] is None
    assert result["fixed"]["classes_in_mean"] == ["background", *CLASSES]
    assert result["threshold_free"]["threshold"] is None
    assert len(result["curve"]["miou"]) == 101
    assert set(result["baselines"]) == {"all background", "first tag everywhere", "first tag in a centred box"}
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(seed_tables([scores]))
    text = console.export_text()
    assert f"{100 * scores.fixed.miou:.1f}" in text
    assert "uses pixel labels" in text
    assert "neither true nor predicted: sheep" in text
