import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cti.evaluate.confusion import ConfusionMatrix, Rates, class_areas, iou_from_areas, mean

MASKS = hnp.arrays(np.uint8, (2, 30), elements=st.sampled_from([0, 1, 2, 3, 255]))


def counted(prediction, target, num_classes=4):
    matrix = ConfusionMatrix(num_classes)
    matrix.update(prediction, target)
    return matrix


@given(MASKS)
def test_counts_equal_a_loop_over_pixels(masks):
    prediction, target = masks[0] % 4, masks[1]
    expected = np.zeros((4, 4), np.int64)
    for predicted, true in zip(prediction, target, strict=True):
        if true != 255:
            expected[true, predicted] += 1
    matrix = counted(prediction, target)
    assert np.array_equal(matrix.counts, expected)
    assert matrix.counts.dtype == np.int64


def test_scores_in_closed_form():
    matrix = counted(np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 0]), 4)
    np.testing.assert_allclose(matrix.iou, [1 / 4, 2 / 4, 0, np.nan])
    np.testing.assert_allclose(matrix.precision, [1 / 2, 2 / 3, 0, np.nan])
    np.testing.assert_allclose(matrix.recall, [1 / 3, 2 / 3, np.nan, np.nan])
    np.testing.assert_allclose(matrix.false_positive_rate, [1 / 3, 1 / 3, 1 / 6, 0])
    assert matrix.accuracy == 3 / 6
    assert matrix.miou == pytest.approx((1 / 4 + 2 / 4 + 0) / 3)
    assert np.flatnonzero(~np.isnan(matrix.iou)).tolist() == [0, 1, 2]


def test_a_stack_of_matrices_has_the_scores_of_each():
    counts = np.random.default_rng(0).integers(0, 9, (5, 3, 3))
    stacked = Rates(counts)
    for name in ("iou", "precision", "recall", "false_positive_rate", "accuracy"):
        expected = [getattr(ConfusionMatrix(3, each), name) for each in counts]
        np.testing.assert_array_equal(getattr(stacked, name), expected)
    np.testing.assert_array_equal(mean(stacked.iou), [ConfusionMatrix(3, each).miou for each in counts])


def test_a_class_that_is_predicted_but_absent_counts_0_and_one_that_is_neither_leaves_the_mean():
    matrix = counted(np.array([0, 2]), np.array([0, 0]), 4)
    assert matrix.iou[2] == 0
    assert np.isnan(matrix.iou[[1, 3]]).all()
    assert matrix.miou == (0.5 + 0) / 2


def test_empty_matrix_has_no_score_and_warns_of_nothing(recwarn):
    matrix = ConfusionMatrix(3)
    assert np.isnan(matrix.miou)
    assert np.isnan(matrix.accuracy)
    assert not recwarn.list


def test_parts_add_up():
    rng = np.random.default_rng(0)
    prediction, target = rng.integers(0, 4, (2, 10, 10, 10))
    whole = counted(prediction, target)
    parts = counted(prediction[:3], target[:3]) + counted(prediction[3:], target[3:])
    assert np.array_equal(whole.counts, parts.counts)


def test_takes_tensors_and_any_integer_type():
    prediction, target = np.array([[0, 1], [1, 255]]), np.array([[0, 1], [0, 255]])
    expected = counted(prediction, target).counts
    assert np.array_equal(counted(torch.tensor(prediction), torch.tensor(target).byte()).counts, expected)
    assert np.array_equal(counted(prediction.astype(np.int16), target.astype(np.uint16)).counts, expected)


def test_ten_billion_pixels_do_not_overflow():
    matrix = ConfusionMatrix(2, np.array([[10**10, 0], [0, 10**10]]))
    assert (matrix + matrix).counts.sum() == 4 * 10**10
    assert matrix.miou == 1


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), r"shape \(2, 3\).*\(3, 2\)"),
        (np.array([4]), np.array([0]), r"prediction has the value 4, but 4 classes \(background included\) end at 3"),
        (np.array([255]), np.array([0]), "prediction has the value 255"),
        (np.array([0]), np.array([7]), "target has the value 7"),
        (np.array([-1]), np.array([0]), "values from -1"),
        (np.array([0.5]), np.array([0]), "float64"),
    ],
)
def test_wrong_input_is_named(prediction, target, message):
    with pytest.raises(ValueError, match=message):
        counted(prediction, target)


def test_the_number_of_classes_and_their_counts_must_fit():
    for wrong in (0, 256):
        with pytest.raises(ValueError, match=f"num_classes is {wrong}; give 1 to 255"):
            ConfusionMatrix(wrong)
    assert (ConfusionMatrix(1).num_classes, ConfusionMatrix(255).num_classes) == (1, 255)
    with pytest.raises(ValueError, match=r"counts are of shape \(2, 3\), but 2 classes need \(2, 2\)"):
        ConfusionMatrix(2, np.zeros((2, 3), np.int64))
    given = np.ones((2, 2), np.int64)
    ConfusionMatrix(2, given).update([0], [0])
    assert given.sum() == 4  # a copy is counted on
    with pytest.raises(ValueError, match="values from 0 to 256"):
        counted(np.array([0, 256]), np.array([0, 0]))
    assert counted(np.array([], int), np.array([], int)).counts.sum() == 0


def test_the_areas_of_a_matrix_give_its_iou():
    matrix = counted(np.array([0, 0, 1, 3]), np.array([0, 1, 1, 0]))
    np.testing.assert_array_equal(iou_from_areas(class_areas(matrix.counts)), matrix.iou)
