"""Tags predicted in place of given ones, and the weights of rare classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cti.config import RuntimeConfig, SeedsConfig
from cti.data import Photo
from cti.data.batches import network_input, seen_size
from cti.train import tagging
from cti.train.tagging import (
    certain_thresholds,
    positive_weights,
    predicted_tags,
    score_held_out,
    tag_logits,
    with_predicted_tags,
)
from tiny import CLASSES, tiny_model

RUNTIME = RuntimeConfig(workers=0, batch_size=2)


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
    scores = tag_logits(model, photos, SeedsConfig(), RUNTIME)
    low, high = scores.min(axis=0), scores.max(axis=0)
    # Every photo has the first class, none the second; the third's threshold lies between its photos.
    middle = float((low[2] + high[2]) / 2)
    thresholds = {CLASSES[0]: float(low[0]) - 1, CLASSES[1]: float(high[1]) + 1, CLASSES[2]: middle}
    guessed = with_predicted_tags(model, photos, thresholds, SeedsConfig(), RUNTIME)
    assert [photo.tags for photo in guessed] == [(0, 2) if row[2] > middle else (0,) for row in scores]
    assert [photo.id for photo in guessed] == [photo.id for photo in photos]


def test_nothing_is_an_answer() -> None:
    logits = [[0.5, -1.0, 2.0], [-0.1, -0.2, 0.0]]
    assert predicted_tags(logits, CLASSES, {}) == [(0, 2), ()]
    assert predicted_tags(logits, CLASSES, {CLASSES[0]: 0.5, CLASSES[1]: -0.5}) == [(2,), (1,)]
    assert with_predicted_tags(tiny_model(), [], {}, SeedsConfig(), RUNTIME) == []


def test_tags_are_scored_on_whole_photos_in_their_order(photos: list[Photo]) -> None:
    """Sizes differ, so batches do not follow the list; each photo alone scores the same, at a size with its aspect."""
    Image.new("RGB", (64, 24), "yellow").save(photos[1].image)
    model = tiny_model()
    together = tag_logits(model, photos, SeedsConfig(long_side=32), RUNTIME)
    for photo, row in zip(photos, together, strict=True):
        height, width = seen_size(photo.size(), 32, 8)
        assert abs(height / width - photo.size()[0] / photo.size()[1]) < 0.25
        with torch.inference_mode():
            out = model.eval()(network_input(photo.load(), (height, width), model.mean, model.std)[None])
        np.testing.assert_allclose((out.class_logits + out.patch_logits)[0].numpy() / 2, row, rtol=1e-4, atol=1e-5)
    assert score_held_out(model, [], SeedsConfig(long_side=32), RUNTIME) is None


def test_processes_share_the_photos_that_are_scored(photos: list[Photo], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes every second one; what comes back is put into the order of the list."""
    tagged = [Photo(photo.id, photo.image, tags=(number % 2,)) for number, photo in enumerate(photos)]
    model = tiny_model()
    alone = score_held_out(model, tagged, SeedsConfig(), RUNTIME)
    logits = tag_logits(model, tagged, SeedsConfig(), RUNTIME)
    monkeypatch.setattr(tagging, "own_share", lambda given: given[1::2])
    monkeypatch.setattr(tagging, "objects_of_all", lambda own: [logits[::2], own])
    assert score_held_out(model, tagged, SeedsConfig(), RUNTIME) == alone


def test_tags_are_scored_in_eval_mode_and_of_no_photo_there_are_none() -> None:
    model = tiny_model().train()
    assert tag_logits(model, [], SeedsConfig(), RUNTIME).shape == (0, 3)
    assert not model.training


def test_rare_classes_weigh_more(photos: list[Photo]) -> None:
    rare = [Photo(photo.id, photo.image, tags=(0, 1) if number == 0 else (0,)) for number, photo in enumerate(photos)]
    assert positive_weights(rare, 3, 0.0) is None
    weights = positive_weights(rare, 3, 1.0)
    assert weights is not None
    # 4 of 4 photos, 1 of 4, and none, which counts as one.
    torch.testing.assert_close(weights, torch.tensor([0.25, 3.0, 3.0]))
    torch.testing.assert_close(positive_weights(rare, 3, 0.5), weights.sqrt())


def test_thresholds_are_kept_of_classes_that_enough_photos_tell_about() -> None:
    photos = [Photo(str(i), Path("none"), tags=(0,) if i < 10 else (1,) if i < 12 else ()) for i in range(20)]
    scores = torch.full((20, 2), 0.1)
    scores[:10, 0], scores[10:12, 1] = 0.9, 0.9
    assert certain_thresholds(scores, photos, ("many", "two")) == {"many": pytest.approx(0.5)}
    assert certain_thresholds(scores[:19], photos[:19], ("many", "two")) == {}
    # Three photos with the tag are enough, and so are three without it.
    few = [Photo(str(i), Path("none"), tags=(0,) * (i < 3) + (1,) * (i < 17) + (2,) * (i < 18)) for i in range(20)]
    scores = torch.stack([torch.arange(20.0) < count for count in (3, 17, 18)], dim=1).float()
    assert certain_thresholds(scores, few, ("a", "b", "c")) == {"a": 0.5, "b": 0.5}
