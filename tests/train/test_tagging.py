"""Tags predicted in place of given ones, and the weights of rare classes."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from builders import CLASSES, tiny_model
from cti.data import Photo
from cti.train.tagging import positive_weights, tag_logits, with_predicted_tags


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    made = []
    for number, colour in enumerate(("red", "green", "blue", "white")):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (40, 32), colour).save(path)
        made.append(Photo(str(number), path, tags=(0, 1, 2)))
    return made


def test_predicted_tags_are_the_classes_above_their_thresholds(photos: list[Photo]) -> None:
    model = tiny_model()
    scores, _ = tag_logits(model, photos, model.config.image_size)
    low, high = scores.min(axis=0), scores.max(axis=0)
    # Every photo has the first class, none the second; the third's threshold lies between its photos.
    middle = float((low[2] + high[2]) / 2)
    thresholds = {CLASSES[0]: float(low[0]) - 1, CLASSES[1]: float(high[1]) + 1, CLASSES[2]: middle}
    guessed = with_predicted_tags(model, photos, thresholds)
    assert [photo.tags for photo in guessed] == [(0, 2) if row[2] > middle else (0,) for row in scores]
    assert [photo.id for photo in guessed] == [photo.id for photo in photos]


def test_a_photo_below_every_threshold_gets_the_nearest_class(photos: list[Photo]) -> None:
    model = tiny_model()
    scores, _ = tag_logits(model, photos, model.config.image_size)
    far = float(scores.max()) + 1
    thresholds = {CLASSES[0]: far, CLASSES[1]: far, CLASSES[2]: far}
    guessed = with_predicted_tags(model, photos, thresholds)
    assert [photo.tags for photo in guessed] == [(int(row.argmax()),) for row in scores]


def test_rare_classes_weigh_more(photos: list[Photo]) -> None:
    rare = [Photo(photo.id, photo.image, tags=(0, 1) if number == 0 else (0,)) for number, photo in enumerate(photos)]
    assert positive_weights(rare, 3, 0.0) is None
    weights = positive_weights(rare, 3, 1.0)
    assert weights is not None
    # 4 of 4 photos, 1 of 4, and none, which counts as one.
    torch.testing.assert_close(weights, torch.tensor([0.25, 3.0, 3.0]))
