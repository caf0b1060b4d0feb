import numpy as np
import pytest

from cti.evaluate import bootstrap as module
from cti.evaluate.bootstrap import mean_difference, miou_interval
from cti.evaluate.confusion import ConfusionMatrix, class_areas


def some_photos(seed, num=40, error=0.3):
    rng = np.random.default_rng(seed)
    counts = []
    for _ in range(num):
        true = rng.integers(0, 3, 50)
        wrong = rng.random(50) < rng.uniform(0, 2 * error)
        matrix = ConfusionMatrix(3)
        matrix.update(np.where(wrong, (true + 1) % 3, true), true)
        counts.append(matrix.counts)
    return np.stack(counts)


def test_equals_a_loop_over_resamples():
    counts, resamples = some_photos(0), 300
    interval = miou_interval(class_areas(counts), resamples)
    generator = np.random.default_rng(0)
    mious = []
    for size in (module.CHUNK, resamples - module.CHUNK):
        for drawn in generator.integers(40, size=(size, 40)):
            mious.append(ConfusionMatrix(3, counts[drawn].sum(axis=0)).miou)
    assert interval.value == ConfusionMatrix(3, counts.sum(axis=0)).miou
    np.testing.assert_allclose([interval.low, interval.high], np.percentile(mious, [2.5, 97.5]))
    assert interval.low < interval.value < interval.high


def test_a_thousand_resamples_are_drawn_unless_another_number_is_asked_for():
    areas, other = class_areas(some_photos(0, num=5)), class_areas(some_photos(1, num=5))
    assert miou_interval(areas) == miou_interval(areas, 1000) != miou_interval(areas, 999)
    assert mean_difference([areas], [other]) == mean_difference([areas], [other], 1000)
    assert mean_difference([areas], [other]) != mean_difference([areas], [other], 999)


def test_equal_photos_leave_no_doubt():
    interval = miou_interval(class_areas(np.repeat(some_photos(0, num=1), 20, axis=0)), 50)
    assert interval.low == pytest.approx(interval.value)
    assert interval.high == pytest.approx(interval.value)


def test_pairing_finds_a_difference_smaller_than_either_interval():
    worse = some_photos(1)
    better = worse.copy()
    better[:, 0, 0] += 1
    better[:, 0, 1] = np.maximum(better[:, 0, 1] - 1, 0)
    better, worse = class_areas(better), class_areas(worse)
    paired, alone = mean_difference([better], [worse]), miou_interval(worse)
    assert paired.value == pytest.approx(miou_interval(better).value - alone.value)
    assert paired.low > 0
    assert alone.high - alone.low > 2 * paired.high
    same = mean_difference([worse], [worse])
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_a_class_on_one_photo_leaves_the_mean_of_resamples_without_it(recwarn):
    counts = np.zeros((2, 2, 2), np.int64)
    counts[0, 0, 0], counts[1, 1, 1], counts[1, 1, 0] = 10, 5, 5
    interval = miou_interval(class_areas(counts), 200)
    assert np.isfinite([interval.low, interval.high]).all()
    assert interval.high == 1  # both draws took photo 0, on which class 1 does not occur
    assert not recwarn.list


def test_photos_without_a_labelled_pixel_have_no_interval(recwarn):
    empty = np.zeros((3, 3, 2), np.int64)
    assert miou_interval(empty) is None
    assert mean_difference([empty], [empty]) is None
    labelled = empty.copy()
    labelled[0] = 5
    assert miou_interval(labelled).value == 1
    assert mean_difference([labelled], [empty]) is None
    rare = np.zeros((1000, 3, 2), np.int64)
    rare[-1] = 5
    assert miou_interval(rare, 1) is None  # the one resample has not drawn the only labelled photo
    assert not recwarn.list


def test_wrong_input_is_named():
    areas = class_areas(some_photos(0))
    with pytest.raises(ValueError, match="cannot be paired"):
        mean_difference([areas], [areas[:3]])
    with pytest.raises(ValueError, match="0 photos"):
        miou_interval(areas[:0])
    with pytest.raises(ValueError, match="Cannot draw 0 resamples of 40 photos"):
        miou_interval(areas, 0)
    assert miou_interval(areas, 1) is not None
