"""How alike class tokens are, on tokens whose cosines are known."""

import math

import numpy as np
import pytest

from cti.evaluate.separation import token_similarity


def test_cosines_that_are_known() -> None:
    same = np.array([[[2.0, 0.0], [5.0, 0.0], [1.0, 0.0]]])
    assert token_similarity(same) == pytest.approx(1)
    assert token_similarity(np.array([[[1.0, 0.0], [0.0, 3.0]]])) == pytest.approx(0)
    assert token_similarity(np.array([[[1.0, 1.0], [-2.0, -2.0]]])) == pytest.approx(-1)
    assert token_similarity(np.array([[[1.0, 0.0], [1.0, 1.0]]])) == pytest.approx(math.cos(math.pi / 4))


def test_it_is_the_mean_over_pairs_and_photos() -> None:
    tokens = np.random.default_rng(0).standard_normal((4, 5, 8))
    cosines = [
        photo[i] @ photo[j] / np.linalg.norm(photo[i]) / np.linalg.norm(photo[j])
        for photo in tokens
        for i in range(5)
        for j in range(5)
        if i != j
    ]
    assert token_similarity(tokens) == pytest.approx(np.mean(cosines), abs=1e-12)


def test_without_a_pair_there_is_no_number() -> None:
    assert math.isnan(token_similarity(np.ones((3, 1, 4))))
    assert token_similarity(np.array([[[0.0, 0.0], [1.0, 2.0]]])) == pytest.approx(0)  # nothing points anywhere
    assert math.isnan(token_similarity(np.ones((0, 2, 4))))
