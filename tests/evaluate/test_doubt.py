"""Doubt without masks: planted faults are found, and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest

from cti.evaluate.doubt import Facts, class_shares, doubts, mask_agreement
from cti.evaluate.wrong_tags import wrong_tags

CLASSES = ("cat", "dog")


def clear_case(count: int = 40, planted: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Logits that know both classes; in the planted photos the first tag is turned round."""
    rng = np.random.default_rng(0)
    truth = rng.random((count, 2)) < 0.5
    logits = np.where(truth, 3.0, -3.0) + rng.normal(0, 0.5, (count, 2))
    labels = truth.copy()
    labels[list(planted), 0] ^= True
    return logits, labels


def test_planted_wrong_tags_are_found() -> None:
    logits, labels = clear_case(planted=(3, 8))
    found = wrong_tags(logits, labels)
    assert {(tag.photo, tag.tag, tag.given) for tag in found} == {(i, 0, bool(labels[i, 0])) for i in (3, 8)}
    assert all(0.7 <= tag.certainty <= 1 for tag in found)


def test_right_tags_are_left_alone() -> None:
    assert wrong_tags(*clear_case()) == []


def test_a_class_that_nobody_can_tell_accuses_no_tag() -> None:
    labels = np.array([[True], [False], [True], [False]])
    assert wrong_tags(np.array([[9.0], [-9.0], [-9.0], [9.0]]), labels) == []  # AUROC 0.5


def test_a_class_that_all_photos_have_is_passed_over() -> None:
    assert wrong_tags(np.array([[5.0], [-5.0]]), np.ones((2, 1))) == []


def facts(photo: str, tags: tuple[int, ...], *shares: float, **more: object) -> Facts:
    return Facts(photo, tags, np.array(shares), **more)


SOUND = [facts(f"sound{i}", (0,), 0.3, 0.0, seen=np.array([0.3, 0.0]), agreement=0.9) for i in range(5)]


def test_sound_photos_are_not_doubted() -> None:
    assert all(doubt.doubt == 0 and not doubt.reasons for doubt in doubts(SOUND, CLASSES))


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"shares": np.zeros(2)}, "empty", "cat is tagged, but the mask holds none of it."),
        ({"shares": np.array([0.01, 0])}, "extent", "cat covers 1.00% of the photo; 30.0% is usual."),
        ({"shares": np.array([0.97, 0])}, "extent", "The mask covers 97% of the photo."),
        ({"seen": np.array([0.1, 0.3])}, "denied", "The segmenter sees dog on 30% of the photo, which the tags deny."),
        ({"agreement": 0.2}, "disagreement", "Pseudo-mask and segmentation agree on 20% of what they mark."),
    ],
)
def test_each_fault_is_named_and_comes_first(change: dict[str, object], kind: str, words: str) -> None:
    faulty = replace(SOUND[0], photo="faulty", **change)
    first, *others = doubts([*SOUND, faulty], CLASSES)
    assert (first.photo, first.tags) == ("faulty", ("cat",))
    assert [(reason.kind, reason.text) for reason in first.reasons] == [(kind, words)]
    assert all(doubt.doubt == 0 for doubt in others)


@pytest.mark.parametrize(
    ("within", "beyond"),
    [
        ({"shares": np.array([0.0151, 0])}, {"shares": np.array([0.0149, 0])}),  # a twentieth of the usual 30 %
        ({"shares": np.array([0.899, 0])}, {"shares": np.array([0.901, 0])}),
        ({"seen": np.array([0.3, 0.0099])}, {"seen": np.array([0.3, 0.0101])}),
        ({"agreement": 0.5}, {"agreement": 0.499}),
    ],
)
def test_the_limits_of_what_is_doubted(within: dict[str, object], beyond: dict[str, object]) -> None:
    found = doubts([*SOUND, replace(SOUND[0], photo="in", **within), replace(SOUND[0], photo="out", **beyond)], CLASSES)
    assert {doubt.photo: len(doubt.reasons) for doubt in found if doubt.reasons} == {"out": 1}


def test_reasons_add_up() -> None:
    faulty = facts("a", (0,), 0.0, 0.0, seen=np.array([0.0, 0.5]), agreement=0.0)
    (doubt,) = doubts([faulty], CLASSES)
    assert [reason.doubt for reason in doubt.reasons] == [0.8, 0.6, 0.6]
    assert doubt.doubt == pytest.approx(1 - 0.2 * 0.4 * 0.4, abs=1e-4)


def test_a_class_that_usually_fills_the_photo_may() -> None:
    grass = [facts(str(i), (0,), share, 0.0) for i, share in enumerate((0.95, 0.96, 0.97))]
    assert not any(doubt.reasons for doubt in doubts(grass, CLASSES))


def test_wrong_tags_reach_their_photo() -> None:
    logits, labels = clear_case(planted=(3,))
    known = [Facts(f"p{i}", tuple(np.flatnonzero(row)), logits=logits[i]) for i, row in enumerate(labels)]
    first = doubts(known, CLASSES)[0]
    assert first.photo == "p3"
    assert first.reasons[0].kind == "tag"
    assert ("is tagged" if labels[3, 0] else "is not tagged") in first.reasons[0].text


def test_shares_and_agreement_leave_undecided_pixels_out() -> None:
    mask = np.array([[1, 1, 0, 255], [2, 2, 0, 255]], np.uint8)
    other = np.array([[1, 0, 0, 1], [2, 2, 0, 1]], np.uint8)
    np.testing.assert_allclose(class_shares(mask, 2), [2 / 6, 2 / 6])
    assert mask_agreement(mask, other, (0, 1)) == pytest.approx((1 / 2 + 1) / 2)
    assert mask_agreement(mask, other, (0,)) == pytest.approx(1 / 2)
    assert mask_agreement(mask * 0, other * 0, (0, 1)) is None
