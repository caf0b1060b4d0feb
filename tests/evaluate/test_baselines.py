import numpy as np
import pytest

from cti.config import DataConfig
from cti.data import read_photos
from cti.evaluate.baselines import ALL_BACKGROUND, CENTRED_BOX, FIRST_TAG, Baselines
from cti.evaluate.confusion import ConfusionMatrix


def test_baselines_equal_the_scores_of_their_predictions():
    rng = np.random.default_rng(0)
    baselines = Baselines(3)
    matrices = {name: ConfusionMatrix(4) for name in (ALL_BACKGROUND, FIRST_TAG, CENTRED_BOX)}
    for tags in [(0,), (2, 1), ()]:
        mask = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (21, 10))
        baselines.update(tags, mask)
        first = min(tags) + 1 if tags else 0
        box = np.zeros_like(mask)
        box[3:18, 1:9] = first
        matrices[ALL_BACKGROUND].update(np.zeros_like(mask), mask)
        matrices[FIRST_TAG].update(np.full_like(mask, first), mask)
        matrices[CENTRED_BOX].update(box, mask)
    for name, matrix in matrices.items():
        assert np.array_equal(baselines.matrices[name].counts, matrix.counts), name
        assert baselines.compute()[name] == matrix.miou


def test_baselines_of_parts_add_up():
    mask = np.array([[0, 1], [2, 2]], np.uint8)
    whole, one, other = Baselines(2), Baselines(2), Baselines(2)
    for baselines, tags in ((whole, (0,)), (one, (0,)), (whole, (1,)), (other, (1,))):
        baselines.update(tags, mask)
    one.merge(other)
    assert one.compute() == whole.compute()


def test_mask_value_beyond_the_classes_is_named():
    with pytest.raises(ValueError, match="value 3, but 2 classes end at 2"):
        Baselines(2).update((0,), np.array([[0, 7, 3]], np.uint8))


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "expected"),
    [("score", {ALL_BACKGROUND: 7.9, FIRST_TAG: 15.4, CENTRED_BOX: 26.4}),
     ("val", {ALL_BACKGROUND: 7.9, FIRST_TAG: 15.1, CENTRED_BOX: 26.3})],
)  # fmt: skip
def test_baselines_of_the_real_photos(animals_root, name, expected):
    photo_set = read_photos(DataConfig(root=str(animals_root)))
    baselines = Baselines(len(photo_set.classes))
    for photo in photo_set.lists[name]:
        baselines.update(photo.tags, photo.mask.load())
    assert {key: round(100 * score, 1) for key, score in baselines.compute().items()} == expected
