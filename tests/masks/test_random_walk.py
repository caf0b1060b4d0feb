import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cti.masks.affinity_labels import pair_offsets
from cti.masks.random_walk import random_walk, transition_matrix

OFFSETS = pair_offsets(3)


def dense_transition(affinity: np.ndarray, beta: float, offsets: tuple[tuple[int, int], ...] = OFFSETS) -> np.ndarray:
    _, height, width = affinity.shape
    matrix = np.eye(height * width)
    for number, (dy, dx) in enumerate(offsets):
        for y, x in np.ndindex(height, width):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                a, b = y * width + x, (y + dy) * width + x + dx
                matrix[a, b] = matrix[b, a] = affinity[number, y, x] ** beta
    return matrix / matrix.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("radius", [3, 5])
@pytest.mark.parametrize("size", [(5, 6), (2, 9), (3, 3), (1, 1)])
def test_against_the_dense_power(size, radius):
    """Also on grids that are smaller than the way to a partner."""
    rng, offsets = np.random.default_rng(0), pair_offsets(radius)
    affinity = (0.5 + rng.random((len(offsets), *size)) / 2).astype(np.float32)
    scores = rng.random((2, *size)).astype(np.float32)
    expected = np.linalg.matrix_power(dense_transition(affinity, 4, offsets), 8) @ scores.reshape(2, -1).T
    walked = random_walk(transition_matrix(affinity, offsets, 4), scores, 8)
    np.testing.assert_allclose(walked.reshape(2, -1).T, expected, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(1, 12), st.integers(0, 20))
def test_rows_sum_to_one_and_scores_stay_in_their_range(seed, beta, steps):
    rng = np.random.default_rng(seed)
    affinity = rng.random((len(OFFSETS), 4, 5)).astype(np.float32)
    matrix = transition_matrix(affinity, OFFSETS, beta)
    np.testing.assert_allclose(np.asarray(matrix.sum(axis=1)).ravel(), 1, rtol=1e-5)
    scores = rng.random((1, 4, 5)).astype(np.float32)
    walked = random_walk(matrix, scores, steps)
    assert scores.min() - 1e-5 <= walked.min()
    assert walked.max() <= scores.max() + 1e-5


def test_a_wall_keeps_scores_on_their_side():
    affinity = np.ones((len(OFFSETS), 6, 10), dtype=np.float32)
    columns = np.arange(10)
    for number, (_, dx) in enumerate(OFFSETS):
        affinity[number, :, (columns < 5) != (columns + dx < 5)] = 0
    scores = np.zeros((1, 6, 10), dtype=np.float32)
    scores[0, 0, 0] = 30
    walked = random_walk(transition_matrix(affinity, OFFSETS, 10), scores, 400)
    assert walked[..., 5:].max() == 0
    assert walked[..., :5].min() > 0.5  # spread over the 30 points of its side


def test_links_that_carry_nothing_are_not_kept_and_constants_stay_exactly():
    affinity = np.array([[[0.9e-3, 1.1e-3, 1.0, 0.0]]], dtype=np.float32)  # squared: 0.8e-6, 1.2e-6
    matrix = transition_matrix(affinity, ((0, 1),), 2)
    linked = [[1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    np.testing.assert_array_equal(matrix.toarray() > 0, np.array(linked, bool))
    assert matrix.dtype == np.float32
    affinity = np.random.default_rng(0).random((len(OFFSETS), 4, 5)).astype(np.float32)
    matrix, flat = transition_matrix(affinity, OFFSETS, 2), np.full((1, 4, 5), 0.3, np.float32)
    np.testing.assert_array_equal(random_walk(matrix, flat, 50), flat)
    scores = np.eye(4, 5, dtype=np.float32)[None]
    random_walk(matrix, scores, 3)
    np.testing.assert_array_equal(scores, np.eye(4, 5)[None])  # a copy walks
