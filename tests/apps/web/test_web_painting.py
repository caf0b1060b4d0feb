"""Brush strokes become a mask; only what was painted changes."""

import numpy as np
import pytest
from PIL import Image

from cti.apps.web.cards import Card, Desk
from cti.apps.web.painting import brush_colours, paint, read_strokes, to_editor
from cti.visualize import display_palette
from tiny import CLASSES


def strokes(values: np.ndarray, alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([display_palette()[values], alpha]).astype(np.uint8), "RGBA")


def test_each_class_the_background_and_not_knowing_have_a_colour() -> None:
    names = brush_colours(CLASSES)
    assert [name for _, name in names] == [*CLASSES, "background", "don't know"]
    assert [colour for colour, _ in names][3:] == ["#000000", "#969696"]
    assert len({colour for colour, _ in names}) == 5


def test_every_colour_is_read_back_as_its_value() -> None:
    values = np.array([[0, 1, 2], [3, 255, 1]], np.uint8)
    painted, found = read_strokes(strokes(values, np.full(values.shape, 255)), 3)
    assert painted.all()
    np.testing.assert_array_equal(found, values)


def test_blended_colours_count_as_the_nearest_and_faint_ones_as_nothing() -> None:
    pixels = np.zeros((1, 2, 4), np.uint8)
    pixels[0, :, :3] = np.clip(display_palette()[2].astype(int) + 12, 0, 255)
    pixels[0, :, 3] = (255, 30)
    painted, found = read_strokes(Image.fromarray(pixels, "RGBA"), 3)
    assert painted.tolist() == [[True, False]]
    assert found.tolist() == [[2, 0]]


@pytest.fixture
def card(desk: Desk) -> Card:
    """A photo of 3000 x 1500 px, seen at a third, with a mask whose edge lies between the preview's pixels."""
    mask = np.zeros((1500, 3000), np.uint8)
    mask[:, 1000:] = 1
    return desk.card(Image.new("RGB", (3000, 1500)), "a", ["disc"], {"mask": lambda: mask})


def test_only_what_was_painted_changes(card: Card) -> None:
    before = card.full_mask()
    background = to_editor(card, 0.5)["background"]
    assert background.size == (1024, 512)
    values, alpha = np.zeros((512, 1024), np.uint8), np.zeros((512, 1024))
    values[:100, :100], alpha[:100, :100] = 3, 255
    values[:100, 200:300], alpha[:100, 200:300] = 255, 255
    alpha[-100:, -100:] = 255  # black
    painted = paint(card, strokes(values, alpha))
    after = painted.full_mask()
    assert (painted.layer, painted.tags) == ("corrected", ("disc", "star"))
    assert (after[:290, :290] == 3).all()
    assert (after[:290, 600:870] == 255).all()
    assert (after[-290:, -290:] == 0).all()
    np.testing.assert_array_equal(after[300:1200], before[300:1200])
    np.testing.assert_array_equal(after[:, 900:2600], before[:, 900:2600])


def test_nothing_painted_changes_nothing(card: Card) -> None:
    empty = Image.new("RGBA", (1024, 512), (0, 0, 0, 0))
    np.testing.assert_array_equal(paint(card, empty).full_mask(), card.full_mask())
