import numpy as np
import pytest
import torch
from benchmarks.references import sweep_by_loop
from hypothesis import given, settings
from hypothesis import strategies as st

from cti.evaluate.confusion import ConfusionMatrix
from cti.evaluate.labels import label_pixels
from cti.evaluate.threshold_sweep import ThresholdSweep

CLASSES = ("cat", "dog", "cow")
DEFAULT = np.linspace(0, 1, 101)


@st.composite
def photos(draw):
    """Photos whose CAMs often equal each other, a threshold, or the next number beside one."""
    result = []
    for _ in range(draw(st.integers(1, 3))):
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        size = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
        indices = tuple(draw(st.permutations(range(3)))[: draw(st.integers(0, 3))])
        cams = rng.choice(DEFAULT.astype(np.float32), (len(indices), *size))
        beside = np.nextafter(cams, rng.choice(np.array([0, 1], np.float32), cams.shape))
        cams = np.where(rng.random(cams.shape) < 0.4, beside, cams)
        cams = np.where(rng.random(cams.shape) < 0.3, rng.random(cams.shape), cams).astype(np.float32)
        result.append((cams, indices, rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), size)))
    return result


THRESHOLDS = st.one_of(
    st.just(DEFAULT),
    st.just(np.linspace(0.005, 0.995, 100)),
    st.lists(st.integers(0, 4096), min_size=1, unique=True).map(lambda steps: np.sort(steps) / 4096),
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=5).map(
        lambda values: np.array([v for i, v in enumerate(sorted(values)) if i == 0 or v - sorted(values)[i - 1] > 1e-3])
    ),
)


def swept(samples, thresholds=DEFAULT):
    sweep = ThresholdSweep(CLASSES, thresholds)
    for sample in samples:
        sweep.update(*sample)
    return sweep


@settings(deadline=None)
@given(photos(), THRESHOLDS)
def test_one_pass_equals_the_loop_bit_for_bit(samples, thresholds):
    result = swept(samples, thresholds).compute()
    expected = sweep_by_loop(samples, CLASSES, thresholds)
    assert np.array_equal(result.counts, expected)
    for place, counts in enumerate(expected):
        matrix = ConfusionMatrix(4, counts)
        assert np.array_equal(result.iou[place], matrix.iou, equal_nan=True)
        assert np.array_equal(result.miou[place], matrix.miou, equal_nan=True)


@settings(deadline=None)
@given(photos(), st.sampled_from(DEFAULT))
def test_labels_of_pixels_give_the_counts_of_the_sweep(samples, threshold):
    matrix = ConfusionMatrix(4)
    for cams, indices, mask in samples:
        matrix.update(label_pixels(cams, indices, threshold), mask)
    assert np.array_equal(swept(samples).compute().at(threshold).confusion.counts, matrix.counts)


@settings(deadline=None)
@given(photos(), st.integers(0, 2**32))
def test_background_cam_is_scored_without_a_threshold(samples, seed):
    rng = np.random.default_rng(seed)
    sweep, matrix = ThresholdSweep(CLASSES), ConfusionMatrix(4)
    for cams, indices, mask in samples:
        background = rng.choice(np.append(cams.ravel(), np.float32(0)), mask.shape)  # ties are frequent
        sweep.update(cams, indices, mask, background)
        stack = np.concatenate([background[None], cams])
        matrix.update(np.array([0, *(i + 1 for i in indices)])[stack.argmax(axis=0)], mask)
        assert np.array_equal(
            label_pixels(cams, indices, background), np.array([0, *(i + 1 for i in indices)])[stack.argmax(axis=0)]
        )
    result = sweep.compute()
    assert np.array_equal(result.threshold_free.confusion.counts, matrix.counts)
    assert np.array_equal(result.counts, sweep_by_loop(samples, CLASSES, DEFAULT))


@settings(deadline=None)
@given(photos(), photos())
def test_merged_sweeps_equal_one_sweep(one, other):
    merged = swept(one)
    merged.merge(swept(other))
    result = merged.compute()
    assert np.array_equal(result.counts, swept(one + other).compute().counts)
    assert result.num_photos == len(one) + len(other)


def test_a_tie_with_the_threshold_is_background_and_a_tie_of_classes_goes_to_the_first():
    cams = np.array([[[0.5, 0.6]], [[0.2, 0.6]]], np.float32)
    assert label_pixels(cams, (2, 0), 0.5).tolist() == [[0, 3]]
    counts = swept([(cams, (2, 0), np.array([[3, 3]], np.uint8))]).compute().at(0.5).confusion.counts
    assert counts[3].tolist() == [1, 0, 0, 1]


def test_best_fixed_and_threshold_free_say_where_they_come_from():
    mask = np.array([[0, 0, 1, 1]], np.uint8)
    cams = np.array([[[0.1, 0.3, 0.55, 0.9]]], np.float32)
    sweep = ThresholdSweep(CLASSES)
    sweep.update(torch.from_numpy(cams), (0,), torch.from_numpy(mask), torch.tensor([[0.9, 0.2, 0.1, 0.1]]))
    result = sweep.compute()
    assert result.best.threshold == 0.3
    assert result.best.miou == 1
    assert result.at(0.25).miou == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result.threshold_free.miou == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result.threshold_free.threshold is None
    assert result.at(1.0).confusion.counts[:, 0].sum() == 4  # nothing lies above 1
    assert swept([(cams, (0,), mask)]).compute().threshold_free is None
    with pytest.raises(ValueError, match=r"0\.255 was not swept"):
        result.at(0.255)


def test_without_tags_everything_is_background():
    counts = swept([(np.zeros((0, 1, 3), np.float32), (), np.array([[0, 2, 255]], np.uint8))]).compute().counts
    assert (counts[:, :, 0] == [1, 0, 1, 0]).all()
    assert counts.sum() == 2 * 101


def test_curve_means_run_over_the_defined_classes():
    mask = np.array([[0, 1, 1, 2]], np.uint8)
    cams = np.array([[[0.0, 0.5, 0.7, 0.7]]], np.float32)
    result = swept([(cams, (0,), mask)]).compute()
    place = 60
    assert result.precision[place] == pytest.approx((1 / 2 + 1 / 2) / 2)  # dog is never predicted
    assert result.recall[place] == pytest.approx((1 + 1 / 2 + 0) / 3)  # cow never occurs
    assert result.miou.shape == result.precision.shape == result.recall.shape == (101,)
    assert result.iou.shape == (101, 4)


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1, np.inf])
@pytest.mark.parametrize("where", [0, 1])
def test_values_that_are_no_cam_are_refused(bad, where):
    cams = np.full((2, 1, 2), 0.5, np.float32)
    cams[:, 0, 0] = bad
    if np.isnan(bad):
        cams[1 - where, 0, 0] = 0.5
    with pytest.raises(ValueError, match="NaN or leaves"):
        swept([(cams, (0, 1), np.zeros((1, 2), np.uint8))])
    with pytest.raises(ValueError, match="background CAM"):
        swept([(np.zeros((1, 1, 2), np.float32), (0,), np.zeros((1, 2), np.uint8), np.full((1, 2), bad))])


@pytest.mark.parametrize(
    ("cams", "indices", "mask", "message"),
    [
        (np.zeros((1, 2, 3)), (0,), np.zeros((3, 2), int), "mask is of shape"),
        (np.zeros((1, 2, 3)), (0, 1), np.zeros((2, 3), int), "do not fit 2 classes"),
        (np.zeros((2, 2, 3)), (1, 1), np.zeros((2, 3), int), "twice"),
        (np.zeros((1, 2, 3)), (3,), np.zeros((2, 3), int), "count from 0"),
        (np.zeros((1, 2, 3)), (0,), np.full((2, 3), 4), "value 4"),
    ],
)
def test_wrong_input_is_named(cams, indices, mask, message):
    with pytest.raises(ValueError, match=message):
        ThresholdSweep(CLASSES).update(cams, indices, mask)


def test_only_sweeps_of_one_kind_are_merged():
    sample = np.zeros((1, 1, 1)), (0,), np.zeros((1, 1), int)
    with pytest.raises(ValueError, match="same classes and thresholds"):
        swept([sample]).merge(ThresholdSweep(("cat",)))
    with pytest.raises(ValueError, match="same classes and thresholds"):
        swept([sample]).merge(ThresholdSweep(CLASSES, [0.5]))
    free = swept([(*sample, np.zeros((1, 1)))])
    for one, other in ((swept([sample]), free), (swept([(*sample, np.zeros((1, 1)))]), swept([sample]))):
        with pytest.raises(ValueError, match="give them for all photos or for none"):
            one.merge(other)
    empty = swept([])  # which has neither
    empty.merge(free)
    empty.merge(free)
    result = empty.compute()
    assert (result.num_photos, result.free_counts.sum(), free.compute().free_counts.sum()) == (2, 2, 1)
    result.free_counts[:] = 7
    result.thresholds[:] = 0
    assert empty.compute().free_counts.sum() == 2  # what is handed out is a copy
    assert empty.compute().thresholds[-1] == 1
    one = swept([])
    one.merge(free)
    one.update(*sample, np.zeros((1, 1)))
    assert free.compute().free_counts.sum() == 1  # what was merged into another counts no further


def test_a_threshold_is_met_but_for_rounding():
    result = swept([(np.zeros((1, 1, 1)), (0,), np.zeros((1, 1), int))]).compute()
    assert result.at(0.25 + 5e-10).threshold == 0.25
    with pytest.raises(ValueError, match=r"was not swept; the nearest is 0\.25"):
        result.at(0.25 + 1e-8)
    with pytest.raises(ValueError, match="was not swept; the nearest is 1"):
        result.at(1.0 + 1e-8)


def test_thresholds_may_be_this_close_and_photos_may_be_empty():
    close = [0.5, 0.5 + 1 / 16384]
    cams, mask = np.array([[[0.5 + 1 / 32768, 0.6]]]), np.ones((1, 2), int)
    counts = swept([(cams, (0,), mask)], close).compute().counts
    assert counts[:, 1, 1].tolist() == [2, 1]
    with pytest.raises(ValueError, match="1/16384"):
        ThresholdSweep(CLASSES, [0.5, 0.5 + 0.99 / 16384])
    nothing = swept([(np.zeros((1, 0, 3)), (0,), np.zeros((0, 3), int))]).compute()
    assert (nothing.num_photos, nothing.counts.sum()) == (1, 0)


def test_the_background_cam_has_the_size_of_the_others():
    with pytest.raises(ValueError, match=r"background CAM is of shape \(2, 1\), but the CAMs are of \(1, 2\)"):
        swept([(np.zeros((1, 1, 2)), (0,), np.zeros((1, 2), int), np.zeros((2, 1)))])
    with pytest.raises(ValueError, match="class indices"):
        label_pixels(np.zeros((1, 1, 1)), (254,), 0.5)
    assert label_pixels(np.ones((1, 1, 1)), (253,), 0.5).tolist() == [[254]]


def test_mixing_photos_with_and_without_background_cam_is_refused():
    sample = np.zeros((1, 1, 1)), (0,), np.zeros((1, 1), int)
    sweep = swept([sample])
    with pytest.raises(ValueError, match="for all or for none"):
        sweep.update(*sample, np.zeros((1, 1)))


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.5], [0.5, 0.4], [-0.1, 0.5], [0.5, 1.1], [np.nan], [0.5, 0.50001]])
def test_unusable_thresholds_are_refused(thresholds):
    with pytest.raises(ValueError, match="Thresholds"):
        ThresholdSweep(CLASSES, thresholds)
