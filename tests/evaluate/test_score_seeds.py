import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cti.data.photos import Photo
from cti.data.seed_file import Seed, read_seed, write_seed
from cti.evaluate.overlap import cam_overlap
from cti.evaluate.scores import ListScores, SeedScores, class_scores
from cti.evaluate.seeds import count_seeds
from cti.evaluate.tables import class_table, seed_table
from cti.evaluate.threshold_sweep import ThresholdSweep
from cti.files import from_json, to_json
from cti.tables import to_rich

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


@pytest.mark.parametrize("workers", [0, 1, 2, 3, 9])
def test_every_number_is_that_of_its_plain_computation(workers):
    photos, seeds = some_photos()
    counts = count_seeds(lambda photo: seeds[photo.id], photos, CLASSES, 0.3, workers=workers, keep_areas=True)
    scores = counts.scores(20)
    assert counts.scores().fixed.interval is None
    sweep = ThresholdSweep(CLASSES)
    for photo in photos:
        seed = seeds[photo.id]
        sweep.update(seed.cams(), seed.class_indices, photo.mask.load(), seed.background_cam())
    expected = sweep.compute()
    assert np.array_equal(counts.sweep.compute().counts, expected.counts)
    fixed = expected.at(0.3).confusion
    assert scores.fixed == class_scores(fixed, CLASSES, scores.fixed.interval)
    assert scores.fixed.miou == fixed.miou
    assert scores.best == class_scores(expected.best.confusion, CLASSES)
    assert scores.best_threshold == expected.best.threshold
    assert scores.threshold_free.miou == expected.threshold_free.miou
    assert scores.num_photos == 5
    assert scores.num_overlap_photos == 2
    assert scores.cam_overlap == pytest.approx(np.mean([cam_overlap(seeds[f"photo{i}"].cams()) for i in (1, 3)]))
    areas = np.stack(counts.fixed_areas)
    assert areas.shape == (5, 3, 4)
    assert np.array_equal(areas[:, 0].sum(axis=0), np.diag(fixed.counts))
    assert scores.fixed.interval.value == fixed.miou
    assert scores.threshold_free.interval.value == expected.threshold_free.miou
    np.testing.assert_array_equal(scores.curve.thresholds, expected.thresholds)
    np.testing.assert_array_equal(scores.curve.miou, expected.miou)
    np.testing.assert_array_equal(scores.curve.precision, expected.precision)
    np.testing.assert_array_equal(scores.curve.recall, expected.recall)
    np.testing.assert_array_equal(scores.curve.iou["dog"], expected.iou[:, 2])


@pytest.mark.parametrize(
    ("threshold", "swept"), [(0.123, 102), (0.25001, 101), (0.25005, 101), (0.2501, 101), (0.29, 101)]
)
def test_perfect_seeds_score_1_and_a_threshold_off_the_grid_is_swept_too(threshold, swept):
    mask = np.zeros((4, 4), np.uint8)
    mask[:2] = 2
    photo = Photo("one", Path("none.jpg"), (1,), Drawn(mask))
    maps = (mask == 2).astype(np.float32)
    scores = count_seeds(lambda _: Seed((1,), (4, 4), maps[None], 1 - maps), [photo], CLASSES, threshold).scores()
    assert scores.fixed.miou == scores.best.miou == scores.threshold_free.miou == 1
    assert scores.threshold == threshold
    assert threshold in scores.curve.thresholds
    assert len(scores.curve.thresholds) == swept  # it takes the place of one that is hardly another
    assert scores.fixed.absent == ("cat", "cow")
    assert scores.cam_overlap is None
    assert scores.fixed.interval is None


def test_kinds_are_read_from_a_folder_and_missing_photos_are_named(tmp_path):
    photos, seeds = some_photos()
    for photo in photos[1:]:
        seed = seeds[photo.id]
        patch = Seed(seed.class_indices, seed.size, seed.maps[:, ::-1].copy(), seed.background)
        write_seed(tmp_path / f"{photo.id}.npz", {"refined": seed, "patch": patch})
    with pytest.raises(FileNotFoundError, match=r"1 of 5 photos \(photo0\)"):
        count_seeds(tmp_path, photos, CLASSES)
    for kind in ("", "patch"):
        scores = count_seeds(tmp_path, photos[1:], CLASSES, kind=kind)
        by_hand = count_seeds(
            lambda photo, kind=kind: read_seed(tmp_path / f"{photo.id}.npz", kind), photos[1:], CLASSES
        )
        assert scores.scores().num_photos == 4
        assert np.array_equal(scores.sweep.compute().counts, by_hand.sweep.compute().counts)
    first_kind = count_seeds(tmp_path, photos[1:], CLASSES)
    assert not np.array_equal(first_kind.sweep.compute().counts, scores.sweep.compute().counts)


def test_wrong_input_is_named():
    photos, seeds = some_photos()
    with pytest.raises(ValueError, match="None of the 1 photos has a mask"):
        count_seeds(lambda photo: seeds[photo.id], [Photo("a", Path("a.jpg"), (0,))], CLASSES)
    other_size = Seed((0,), (5, 5), np.ones((1, 2, 2), np.float32), None)
    with pytest.raises(ValueError, match=r"photo0.*5x5 pixels.*12x16"):
        count_seeds(lambda _: other_size, photos, CLASSES)


def test_json_holds_fractions_and_the_table_percent():
    photos, seeds = some_photos()
    classes = (*CLASSES, "sheep")
    counts = count_seeds(lambda photo: seeds[photo.id], photos, classes, kind="refined", keep_areas=True)
    scores = counts.scores(10)
    assert scores.threshold == 0.25
    assert count_seeds(lambda photo: seeds[photo.id], photos, classes).fixed_areas == []  # kept where asked for
    written = json.loads(json.dumps(to_json(scores), allow_nan=False))
    assert written["fixed"]["miou"] == scores.fixed.miou
    assert written["fixed"]["iou"]["sheep"] is None
    assert len(written["curve"]["miou"]) == 101
    assert set(written["baselines"]) == {"all background", "first tag everywhere", "first tag in a centred box"}
    assert from_json(SeedScores, written, "scores.json") == scores
    assert scores.best_baseline == max(scores.baselines.values())
    console = Console(width=140, record=True, file=io.StringIO())
    lists = ListScores(seeds={"refined": scores})
    console.print(to_rich(seed_table(lists, "val")), to_rich(class_table(lists.by_name, "val")))
    text = console.export_text()
    interval = scores.fixed.interval
    assert f"{100 * scores.fixed.miou:.1f} {100 * interval.low:.1f} to {100 * interval.high:.1f}" in text
    assert "uses pixel labels" in text
    assert "baseline: all background" in text
    assert "The mean runs over 4 of 5 classes (background included); neither true nor predicted: sheep." in text
