import numpy as np
from PIL import Image

from cti.config import MasksConfig
from cti.masks.pseudo_mask import argmax_mask, overlay, pseudo_mask, save_preview

#                  background clear, unsure, class 4 clear, class 1 clear, leads but weakly, tie
SCORES = np.array(
    [[0.9, 0.5, 0.1, 0.2, 0.2, 0.4], [0.1, 0.3, 0.8, 0.3, 0.3, 0.4], [0.0, 0.0, 0.2, 0.5, 0.1, 0.0]], dtype=np.float32
)[:, None]


def test_every_pixel_decided():
    assert argmax_mask(SCORES, (4, 1)).tolist() == [[0, 0, 5, 2, 5, 0]]
    config = MasksConfig(argmax=True)
    np.testing.assert_array_equal(pseudo_mask(SCORES, (4, 1), config), argmax_mask(SCORES, (4, 1)))


def test_unsure_pixels_are_255():
    config = MasksConfig(foreground=0.4, background=0.26)
    assert pseudo_mask(SCORES, (4, 1), config).tolist() == [[0, 255, 5, 2, 255, 255]]


def test_without_classes_all_is_sure_background():
    assert pseudo_mask(np.ones((1, 2, 2), np.float32), (), MasksConfig()).tolist() == [[0, 0], [0, 0]]


def test_preview_shows_photo_and_overlays(tmp_path):
    image = np.full((4, 5, 3), 100, dtype=np.uint8)
    mask = np.zeros((4, 5), dtype=np.uint8)
    mask[0], mask[1] = 1, 255
    over = overlay(image, mask, strength=1)
    assert over[0, 0].tolist() == [128, 0, 0]
    assert over[1, 0].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(over[2:], image[2:])
    save_preview(tmp_path / "a" / "b.png", image, mask, mask)
    assert Image.open(tmp_path / "a" / "b.png").size == (15, 4)
