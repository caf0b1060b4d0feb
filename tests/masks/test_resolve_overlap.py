from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cti.config import MasksConfig, OverlapConfig
from cti.data.seed_file import read_seed, write_seed
from cti.masks.pseudo_mask import argmax_mask
from cti.masks.resolve_overlap import resolve_overlap
from cti.masks.seed_folder import SeedFolder
from cti.masks.steps import build_steps, refine_photos

CLASSES = ("disc", "box", "bar")


def drawn_scores(seed: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.random((1 + num_classes, 5, 7), dtype=np.float32)
    return scores, rng.random((num_classes, 5, 7), dtype=np.float32) * (rng.random((num_classes, 5, 7)) > 0.3)


@given(st.integers(0, 10_000), st.integers(2, 4), st.floats(0.1, 8))
def test_the_class_with_most_evidence_keeps_its_score_and_none_gains(seed: int, num_classes: int, power: float) -> None:
    scores, evidence = drawn_scores(seed, num_classes)
    settled = resolve_overlap(scores, evidence, OverlapConfig(power=power))
    assert settled.dtype == np.float32
    np.testing.assert_array_equal(settled[0], scores[0])
    assert (settled <= scores).all()
    best = evidence.argmax(axis=0)[None]
    np.testing.assert_array_equal(np.take_along_axis(settled[1:], best, 0), np.take_along_axis(scores[1:], best, 0))
    behind = (evidence < 0.9 * evidence.max(axis=0)) & (evidence.max(axis=0) > 0.01) & (scores[1:] > 0)
    assert (settled < scores)[1:][behind].all()


@pytest.mark.parametrize("num_classes", [0, 1])
def test_a_photo_with_one_class_is_left_alone(num_classes: int) -> None:
    scores, evidence = drawn_scores(0, num_classes)
    np.testing.assert_array_equal(resolve_overlap(scores, evidence, OverlapConfig()), scores)


def test_power_nought_and_no_evidence_settle_nothing() -> None:
    scores, evidence = drawn_scores(1, 3)
    np.testing.assert_array_equal(resolve_overlap(scores, evidence, OverlapConfig(power=0)), scores)
    np.testing.assert_array_equal(resolve_overlap(scores, np.zeros_like(evidence), OverlapConfig()), scores)


def test_a_class_without_evidence_is_weakened_as_by_a_little() -> None:
    scores, evidence = np.ones((3, 1, 2), np.float32), np.array([[[0.0, 0.02]], [[0.01, 0.0]]], np.float32)
    settled = resolve_overlap(scores, evidence, OverlapConfig(power=0.5))
    np.testing.assert_allclose(settled[1:], [[[0.1, 1]], [[1, 0.005**0.5]]], rtol=1e-5)  # of 1e-4 at least


def test_two_classes_that_cover_each_other_are_told_apart(drawn, tmp_path) -> None:
    """As affinity does with rider and horse: both seeds cover both; the other kind of map knows which is which."""
    photo = drawn.photos[0]
    apart = read_seed(drawn.seeds / f"{photo.id}.npz")
    both = np.broadcast_to(apart.maps.max(axis=0), apart.maps.shape)
    blurred = replace(apart, maps=both)
    for path in drawn.seeds.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write_seed(tmp_path / f"{photo.id}.npz", {"refined": blurred, "patch": apart})
    seeds = SeedFolder(tmp_path, CLASSES)
    config = MasksConfig(steps=("resolve_overlap",))
    (refined,) = refine_photos([photo], seeds, config, build_steps([photo], seeds, config, tmp_path / "work"))
    assert list(refined.scores) == ["seed", "resolve_overlap"]
    truth = drawn.truths[photo.id]
    right = {
        name: [(argmax_mask(scores, refined.class_indices) == value)[truth == value].mean() for value in (1, 2)]
        for name, scores in refined.scores.items()
    }
    assert min(right["seed"]) < 0.1
    assert min(right["resolve_overlap"]) > 0.8
