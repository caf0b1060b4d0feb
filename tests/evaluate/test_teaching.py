"""The order in which photos are corrected: classes in turn, of each the photo that the segmenter is least sure of."""

from pathlib import Path

import pytest
import torch

from cti.data import Photo
from cti.evaluate.teaching import teaching_order
from cti.segment.predict import mean_entropy


def _photo(name: str, *tags: int) -> Photo:
    return Photo(name, Path(f"{name}.jpg"), tags)


def test_classes_take_turns_and_the_least_sure_photo_comes_first() -> None:
    photos = [
        _photo("a", 0),
        _photo("b", 0),
        _photo("c", 0, 1),
        _photo("d", 1),
        _photo("e"),
        _photo("f"),
        _photo("g", 2),
    ]
    entropies = {"a": 0.9, "b": 0.2, "c": 0.5, "d": 0.1, "e": 0.8, "f": 1.0}  # of g nothing is known
    assert teaching_order(photos, entropies, 3) == ("a", "c", "b", "d", "f", "e")
    assert teaching_order(photos, {}, 3) == ()


def test_entropy_is_0_where_a_network_is_sure_and_1_where_it_knows_nothing() -> None:
    sure = torch.zeros(3, 4, 5)
    sure[1] = 1
    even = torch.full((3, 4, 5), 1 / 3)
    assert mean_entropy(sure) == 0
    assert mean_entropy(even) == pytest.approx(1)
    half = torch.cat((sure, even), dim=2)
    assert mean_entropy(half) == pytest.approx(0.5)
