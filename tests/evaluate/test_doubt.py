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


def test_certainty_is_the_place_between_the_kinds_of_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a loop over photos; of two classes, the second of which is hardly told apart."""
    monkeypatch.setattr("cti.evaluate.wrong_tags.CERTAIN", 0.0)
    rng = np.random.default_rng(1)
    labels = rng.random((12, 2)) < 0.5
    logits = rng.normal(0, 1, (12, 2)) + labels * [3.0, 0.5]
    found = {(tag.photo, tag.tag): tag for tag in wrong_tags(logits, labels)}
    assert len(found) == 24
    for tag in range(2):
        with_it = [1 / (1 + np.exp(-logits[i, tag])) for i in range(12) if labels[i, tag]]
        without = [1 / (1 + np.exp(-logits[i, tag])) for i in range(12) if not labels[i, tag]]
        auroc = np.mean([float(a > b) for a in with_it for b in without])
        assert auroc > 0.5
        low, high = np.mean(without), np.mean(with_it)
        for i in range(12):
            place = min(max((1 / (1 + np.exp(-logits[i, tag])) - low) / (high - low), 0), 1)
            against = 1 - place if labels[i, tag] else place
            assert found[i, tag].certainty == pytest.approx((2 * auroc - 1) * against)
            assert found[i, tag].given == labels[i, tag]
    monkeypatch.setattr("cti.evaluate.wrong_tags.CERTAIN", found[0, 0].certainty)
    assert (0, 0) in {(tag.photo, tag.tag) for tag in wrong_tags(logits, labels)}  # from it on, inclusive


def test_a_class_that_all_photos_have_is_passed_over() -> None:
    assert wrong_tags(np.array([[5.0], [-5.0]]), np.ones((2, 1))) == []


def facts(photo: str, tags: tuple[int, ...], *shares: float, **more: object) -> Facts:
    return Facts(photo, tags, np.array(shares), **more)


SOUND = [facts(f"sound{i}", (0,), 0.3, 0.0, seen=np.array([0.3, 0.0]), agreement=0.9) for i in range(5)]


def test_sound_photos_are_not_doubted() -> None:
    assert all(doubt.doubt == 0 and not doubt.reasons for doubt in doubts(SOUND, CLASSES))


@pytest.mark.parametrize(
    ("change", "kind", "weight", "words"),
    [
        ({"shares": np.zeros(2)}, "empty", 0.8, "cat is tagged, but the mask holds none of it."),
        ({"shares": np.array([0.01, 0])}, "extent", 0.5, "cat covers 1.00% of the photo; 30.0% is usual."),
        ({"shares": np.array([0.97, 0])}, "extent", 0.6, "The mask covers 97% of the photo."),
        ({"seen": np.array([0.1, 0.3])}, "denied", 0.45,  # 0.6 of its share of what is seen
         "The segmenter sees dog on 30% of the photo, which the tags deny."),
        ({"agreement": 0.2}, "disagreement", 0.48, "Pseudo-mask and segmentation agree on 20% of what they mark."),
    ],
)  # fmt: skip
def test_each_fault_is_named_and_comes_first(change: dict[str, object], kind: str, weight: float, words: str) -> None:
    faulty = replace(SOUND[0], photo="faulty", **change)
    first, *others = doubts([*SOUND, faulty], CLASSES)
    assert (first.photo, first.tags) == ("faulty", ("cat",))
    assert [(reason.kind, reason.text, reason.doubt) for reason in first.reasons] == [(kind, words, weight)]
    assert first.doubt == weight
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


def test_a_photo_that_need_not_be_covered_is_doubted_if_it_is() -> None:
    """One that shows none of the classes, and one of a class that no mask holds."""
    normal, lost = facts("normal", (), 0.97, 0.0), facts("lost", (1,), 0.97, 0.0)
    found = {
        doubt.photo: [reason.kind for reason in doubt.reasons] for doubt in doubts([*SOUND, normal, lost], CLASSES)
    }
    assert found["normal"] == ["extent"]
    assert found["lost"] == ["empty", "extent"]


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
    assert first.reasons[0].doubt == round(wrong_tags(logits, labels)[0].certainty, 4)
    assert ("is tagged" if labels[3, 0] else "is not tagged") in first.reasons[0].text


def test_shares_and_agreement_leave_undecided_pixels_out() -> None:
    mask = np.array([[1, 1, 0, 255], [2, 2, 0, 255]], np.uint8)
    other = np.array([[1, 0, 0, 1], [2, 2, 0, 1]], np.uint8)
    np.testing.assert_allclose(class_shares(mask, 2), [2 / 6, 2 / 6])
    assert mask_agreement(mask, other, (0, 1)) == pytest.approx((1 / 2 + 1) / 2)
    assert mask_agreement(mask, other, (0,)) == pytest.approx(1 / 2)
    assert mask_agreement(mask * 0, other * 0, (0, 1)) is None
    np.testing.assert_array_equal(class_shares(np.full((2, 2), 255, np.uint8), 2), [0, 0])
