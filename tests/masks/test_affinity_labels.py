import itertools

import numpy as np
import pytest
import torch

from cti.config import AffinityConfig, CrfConfig, MasksConfig
from cti.masks.affinity_labels import (
    confident_labels,
    confident_labels_crf,
    grid_size,
    pair_labels,
    pair_offsets,
    partners,
    straight_path,
    to_grid,
)

SCORES = np.array([[0.30, 0.30, 0.30, 0.30], [0.10, 0.30, 0.45, 0.20], [0.05, 0.20, 0.40, 0.90]], dtype=np.float32)


def test_the_grid_has_a_point_per_started_block() -> None:
    assert grid_size((9, 4), 4) == (3, 1)
    assert grid_size((8, 17), 8) == (1, 3)


def test_thresholds_ignore_the_middle():
    labels = confident_labels(SCORES[:, None], AffinityConfig(foreground=0.4, background=0.26))
    assert labels.tolist() == [[0, 255, 1, 2]]
    assert labels.dtype == np.uint8
    at_the_borders = confident_labels(SCORES[:, None], AffinityConfig(foreground=0.45, background=0.1))
    assert at_the_borders.tolist() == [[255, 255, 1, 2]]


def test_without_classes_all_is_background():
    scores, image = np.ones((1, 2, 2), np.float32), np.zeros((2, 2, 3), np.uint8)
    for labels in (confident_labels(scores, AffinityConfig()), confident_labels_crf(image, scores, MasksConfig())):
        assert labels.tolist() == [[0, 0], [0, 0]]
        assert labels.dtype == np.uint8


@pytest.mark.parametrize("size", [(8, 8), (9, 11), (1, 2)])
def test_grid_takes_the_middle_of_each_block(size):
    labels = np.arange(size[0] * size[1], dtype=np.uint8).reshape(size)
    grid = to_grid(labels, 4)
    assert grid.shape == grid_size(size, 4)
    for row, column in np.ndindex(grid.shape):
        assert grid[row, column] == labels[min(4 * row + 2, size[0] - 1), min(4 * column + 2, size[1] - 1)]


@pytest.mark.parametrize("radius", [2, 3, 5])
def test_offsets_name_each_near_pair_once(radius):
    offsets = pair_offsets(radius)
    near = {
        (dy, dx)
        for dy, dx in itertools.product(range(-radius, radius + 1), repeat=2)
        if 0 < dy * dy + dx * dx < radius * radius
    }
    assert set(offsets) | {(-dy, -dx) for dy, dx in offsets} == near
    assert 2 * len(offsets) == len(near)
    assert len(pair_offsets(5)) == 34


def test_paths_are_straight_and_unbroken():
    assert straight_path(0, 3) == ((0, 0), (0, 1), (0, 2), (0, 3))
    assert straight_path(2, -2) == ((0, 0), (1, -1), (2, -2))
    assert straight_path(-3, 1) == ((0, 0), (-1, 0), (-2, 1), (-3, 1))
    for offset in pair_offsets(5):
        path = straight_path(*offset)
        assert (path[0], path[-1]) == ((0, 0), offset)
        assert all(max(abs(b[0] - a[0]), abs(b[1] - a[1])) == 1 for a, b in itertools.pairwise(path))


def test_partners_look_from_the_other_end():
    maps = torch.arange(12.0).reshape(3, 4)
    down, left = partners(maps, ((1, 0), (1, -2)), -1)
    assert down.tolist() == [[4, 5, 6, 7], [8, 9, 10, 11], [-1, -1, -1, -1]]
    assert left.tolist() == [[-1, -1, 4, 5], [-1, -1, 8, 9], [-1, -1, -1, -1]]
    (up,) = partners(maps, ((-2, 0),), -1)
    assert up.tolist() == [[-1] * 4, [-1] * 4, [0, 1, 2, 3]]


def test_pair_labels_against_loops():
    labels = np.random.default_rng(0).choice(np.array([0, 1, 2, 255], np.uint8), (5, 6))
    pairs = pair_labels(labels, 3)
    for number, (dy, dx) in enumerate(pair_offsets(3)):
        for y, x in np.ndindex(labels.shape):
            inside = 0 <= y + dy < 5 and 0 <= x + dx < 6
            a, b = int(labels[y, x]), int(labels[y + dy, x + dx]) if inside else 255
            known = a != 255 and b != 255
            assert bool(pairs.background[number, y, x]) == (known and a == b == 0)
            assert bool(pairs.foreground[number, y, x]) == (known and a == b > 0)
            assert bool(pairs.different[number, y, x]) == (known and a != b)


def test_crf_labels_without_pairs_are_the_thresholds():
    pytest.importorskip("pydensecrf.densecrf", reason="the crf extra is not installed")
    image = np.zeros((1, 4, 3), dtype=np.uint8)
    alone = CrfConfig(gaussian_compat=0, bilateral_compat=0)
    scores = SCORES[:, None] + np.float32(1e-3)  # ties
    numbers = AffinityConfig(foreground=0.4, background=0.26)
    config = MasksConfig(crf=alone, affinity=numbers)
    np.testing.assert_array_equal(confident_labels_crf(image, scores, config), confident_labels(scores, numbers))
