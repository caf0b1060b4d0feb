import numpy as np
import pytest

from cti.evaluate.overlap import cam_overlap


def test_overlap_is_0_for_disjoint_and_1_for_equal_maps():
    left, right = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert cam_overlap(np.stack([left, right])) == 0
    assert cam_overlap(np.stack([left, left])) == 1


def test_overlap_is_the_mean_over_pairs():
    maps = np.array([[[1.0, 0.0]], [[0.5, 0.5]], [[0.0, 0.0]]])
    assert cam_overlap(maps) == pytest.approx((0.5 / 1.5 + 0 + 0) / 3)


def test_one_map_has_no_overlap(recwarn):
    assert np.isnan(cam_overlap(np.ones((1, 2, 2))))
    assert cam_overlap(np.zeros((2, 1, 2))) == 0
    assert not recwarn.list
