import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cti.evaluate.tables import tag_table
from cti.evaluate.tags import TagScores, choose_thresholds, f1_scores, limit_false_alarms, read_tags, score_tags
from cti.files import to_json, write_manifest

SCORES = hnp.arrays(np.int64, (12, 2), elements=st.integers(0, 5)).map(lambda values: values / 2)
LABELS = hnp.arrays(bool, (12, 2))


@given(SCORES, LABELS)
def test_average_precision_equals_the_definition(scores, labels):
    result = score_tags(scores, labels, ("cat", "dog"))
    for index in range(2):
        truth, expected, recalled = labels[:, index], 0.0, 0.0
        for cut in sorted(set(scores[:, index]), reverse=True):
            taken = scores[:, index] >= cut
            recall = (taken & truth).sum() / max(truth.sum(), 1)
            expected += (recall - recalled) * (taken & truth).sum() / taken.sum()
            recalled = recall
        if truth.any():
            assert list(result.average_precision.values())[index] == pytest.approx(expected)
        else:
            assert list(result.average_precision.values())[index] is None


@given(SCORES, LABELS, st.floats(0, 0.99))
def test_false_alarms_stay_within_their_rate_and_no_lower_threshold_would(scores, labels, rate):
    found = limit_false_alarms(scores, labels, rate, default=-7.0)
    for index in range(2):
        without = scores[~labels[:, index], index]
        if not without.size:
            assert found[index] == -7.0
            continue
        assert (without > found[index]).mean() <= rate
        lower = without[without < found[index]].max(initial=-1.0)
        assert (without > lower).mean() > rate


def test_average_precision_and_auroc_equal_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels = rng.random((200, 3)) < 0.2
    scores = np.round(rng.standard_normal((200, 3)) + labels, 1)
    expected = metrics.average_precision_score(labels, scores, average=None)
    result = score_tags(scores, labels, ("cat", "dog", "cow"))
    np.testing.assert_allclose(list(result.average_precision.values()), expected)
    assert result.mean_average_precision == pytest.approx(expected.mean())
    expected = metrics.roc_auc_score(labels, scores, average=None)
    np.testing.assert_allclose(list(result.auroc.values()), expected)
    assert result.mean_auroc == pytest.approx(expected.mean())


@given(SCORES, LABELS)
def test_auroc_is_how_often_a_photo_with_the_class_is_above_one_without(scores, labels):
    result = score_tags(scores, labels, ("cat", "dog"))
    for index, name in enumerate(("cat", "dog")):
        positive, negative = scores[labels[:, index], index], scores[~labels[:, index], index]
        if positive.size and negative.size:
            wins = (positive[:, None] > negative).mean() + (positive[:, None] == negative).mean() / 2
            assert result.auroc[name] == pytest.approx(wins)
        else:
            assert result.auroc[name] is None


def test_a_class_without_a_positive_leaves_the_mean_and_is_named():
    result = score_tags([[0.9, 0.1], [0.2, -0.3]], [[1, 0], [0, 0]], ("cat", "dog"))
    assert result == TagScores(
        mean_average_precision=1, mean_auroc=1, mean_f1=0.5,
        average_precision={"cat": 1, "dog": None}, auroc={"cat": 1, "dog": None}, f1={"cat": 1, "dog": 0},
        thresholds={"cat": pytest.approx(0.55), "dog": 0},
    )  # fmt: skip
    assert result.left_out == ("dog",)
    assert "No photo has the class dog." in tag_table(result).note


def test_without_any_positive_every_score_is_undefined_and_is_still_json(tmp_path):
    scores = score_tags([[-0.9], [-0.2]], [[0], [0]], ("cat",))
    assert (scores.mean_average_precision, scores.mean_auroc, scores.mean_f1) == (None, None, None)
    assert read_tags(tmp_path) is None
    write_manifest(tmp_path, {"tags": to_json(scores)})
    assert read_tags(tmp_path) == scores
    assert [cell.text for cell in tag_table(scores).rows[-1][1]] == ["-", "-", "-", ""]


@given(SCORES, LABELS)
def test_no_other_threshold_has_a_higher_f1(scores, labels):
    thresholds = choose_thresholds(scores, labels, default=9.0)
    chosen = f1_scores(scores, labels, thresholds)
    for cut in np.arange(-0.25, 3, 0.5):
        other = f1_scores(scores, labels, cut)
        for index in np.flatnonzero(labels.any(axis=0)):
            assert chosen[index] >= other[index]
    assert (thresholds[~labels.any(axis=0)] == 9).all()


def test_where_thresholds_lie():
    """Half-way to the next lower score; below the lowest, one beneath it."""
    assert choose_thresholds([[5.0], [3.0], [2.0]], [[1], [1], [0]]).tolist() == [2.5]
    assert choose_thresholds([[5.0], [3.0]], [[1], [1]]).tolist() == [2.0]
    assert choose_thresholds([[5.0], [3.0]], [[0], [0]]).tolist() == [0.0]
    assert limit_false_alarms([[5.0], [3.0]], [[1], [1]], 0.1).tolist() == [0.0]
    assert limit_false_alarms([[5.0], [3.0], [2.0], [1.0]], [[0]] * 4, 0.5).tolist() == [2.0]


def test_f1_in_closed_form():
    f1 = f1_scores([[2.0, -1.0], [1.0, -1.0], [-1.0, -1.0]], [[1, 0], [0, 0], [1, 0]], [0.0, 0.0])
    np.testing.assert_allclose(f1, [2 * 1 / (2 + 2), np.nan])


def test_takes_tensors_of_any_float_type():
    scores = torch.tensor([[0.5], [-1.0]], dtype=torch.bfloat16, requires_grad=True)
    assert score_tags(scores, torch.tensor([[1.0], [0.0]]), ("cat",)).mean_average_precision == 1


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        score_tags(np.zeros((2, 3)), np.zeros((2, 2)), ("cat", "dog", "cow"))
    with pytest.raises(ValueError, match="1 photos have NaN"):
        score_tags([[np.nan], [1.0]], [[1], [0]], ("cat",))
