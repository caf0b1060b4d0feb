import numpy as np
from PIL import Image

from cti.config import MasksConfig
from cti.masks.pseudo_mask import argmax_mask, pseudo_mask, restore_erased, save_preview

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
    # Exactly `foreground` is enough for a class, exactly `background` is too much for the background.
    config = MasksConfig(foreground=0.5, background=0.1)
    assert pseudo_mask(SCORES, (4, 1), config).tolist() == [[255, 255, 5, 2, 255, 255]]


def test_without_classes_all_is_sure_background():
    assert pseudo_mask(np.ones((1, 2, 2), np.float32), (), MasksConfig()).tolist() == [[0, 0], [0, 0]]


def test_preview_shows_photo_and_overlays(tmp_path):
    image = Image.new("RGB", (5, 4), (100, 100, 100))
    mask = np.zeros((4, 5), dtype=np.uint8)
    mask[0] = 1
    save_preview(tmp_path / "a" / "b.png", image, mask, np.zeros_like(mask))
    shown = np.asarray(Image.open(tmp_path / "a" / "b.png"))
    assert shown.shape == (4, 15, 3)
    assert (shown[:, :5] == 100).all()
    assert (shown[0, 5:10] != 100).any()
    assert (shown[2:, 5:10] == 100).all()
    assert (shown[:, 10:] == 100).all()


def test_a_class_that_refinement_erases_is_given_back_from_the_last_step_that_had_it() -> None:
    background = np.full((1, 4), 0.5, np.float32)
    seed = np.stack([background, [[0.9, 0.9, 0, 0]], [[0, 0, 0, 0.9]]]).astype(np.float32)
    step = np.stack([background, [[0.9, 0, 0, 0]], [[0, 0, 0, 0.4]]]).astype(np.float32)
    final = np.stack([background, [[0.1, 0, 0, 0]], [[0, 0, 0, 0.4]]]).astype(np.float32)
    mask = argmax_mask(final, (4, 1))
    assert not mask.any()
    assert restore_erased(mask, [seed, step, final], (4, 1)).tolist() == [[5, 0, 0, 2]]
    assert not mask.any()  # a copy is changed
    assert restore_erased(argmax_mask(seed, (4, 1)), [seed, step, final], (4, 1)).tolist() == [[5, 5, 0, 2]]
