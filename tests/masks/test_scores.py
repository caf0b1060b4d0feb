import numpy as np
import pytest

from cti.config import MasksConfig
from cti.data.seed_file import Seed
from cti.masks.scores import start_scores

MAPS = np.array([[[0, 1, 2], [3, 4, 5]], [[5, 3, 1], [0, 2, 4]]], dtype=np.float32)  # each leads somewhere
SEED = Seed((1, 4), (4, 6), MAPS, np.ones((2, 3), dtype=np.float32))


def test_classes_keep_their_cams_under_each_background():
    cams = SEED.cams().numpy()
    for rule, background in [
        ("constant", np.full((4, 6), 0.3)),
        ("power", (1 - cams.max(axis=0)) ** 2),
        ("cam", SEED.background_cam().numpy()),
    ]:
        scores = start_scores(SEED, MasksConfig(background_score=rule, threshold=0.3, alpha=2))
        assert scores.dtype == np.float32
        np.testing.assert_array_equal(scores[1:], cams)
        np.testing.assert_allclose(scores[0], background, rtol=1e-6)


def test_a_photo_without_classes_is_background():
    none = Seed((), (4, 6), np.zeros((0, 2, 3), dtype=np.float32), None)
    scores = start_scores(none, MasksConfig(background_score="power"))
    np.testing.assert_array_equal(scores, np.ones((1, 4, 6)))
    assert scores.dtype == np.float32


def test_a_missing_background_map_is_said():
    seed = Seed(SEED.class_indices, SEED.size, SEED.maps, None)
    with pytest.raises(ValueError, match="no background map"):
        start_scores(seed, MasksConfig(background_score="cam"))
