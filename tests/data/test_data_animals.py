"""Real photos: the numbers of the data set's README."""

from pathlib import Path

import numpy as np
import pytest

from cti.config import DataConfig
from cti.data import load_image, read_photos

CLASSES = ("cat", "chair", "cow", "dog", "horse", "person", "sheep", "sofa")
COUNTS = {
    "train": (475, 75, 148, 501, 217, 318, 158, 64),
    "score": (131, 19, 62, 121, 68, 79, 63, 17),
    "val": (53, 7, 35, 63, 43, 43, 33, 8),
}


@pytest.mark.data
def test_voc12_animals_reads_right(animals_root: Path) -> None:
    photos = read_photos(DataConfig(root=str(animals_root), train="train_aug", score="train", val="val"))
    assert photos.classes == CLASSES
    assert {name: len(listed) for name, listed in photos.lists.items()} == {"train": 1464, "score": 437, "val": 222}
    for name, counts in COUNTS.items():
        assert tuple(photos.count_tags(name).values()) == counts
    assert not {photo.id for photo in photos.lists["train"]} & {photo.id for photo in photos.lists["val"]}

    seen = set()
    for photo in photos.lists["val"]:
        assert photo.mask is not None
        mask = photo.mask.load()
        values = set(np.unique(mask).tolist())
        assert values <= {0, 255, *(tag + 1 for tag in photo.tags)}  # masks and tags speak of the same classes
        seen |= values
    assert seen == {*range(9), 255}
    photo = photos.lists["val"][0]
    assert photo.mask is not None
    assert photo.mask.load().shape[::-1] == load_image(photo.image).size
