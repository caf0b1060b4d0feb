"""Brush strokes over a mask: colours are values of the mask, black erases to background, grey = don't know."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cti.apps.web.cards import Card
from cti.classes import BACKGROUND, IGNORE_INDEX
from cti.visualize import display_palette

PAINTED_FROM = 128  # opacity from which a pixel counts as painted: the edge of a stroke is faint


def brush_colours(classes: Sequence[str]) -> list[tuple[str, str]]:
    """The brush's colours with their names: the classes, the background, and "don't know"."""
    colours = ["#{:02x}{:02x}{:02x}".format(*display_palette()[value]) for value in _values(len(classes))]
    return list(zip(colours, [*classes, BACKGROUND, "don't know"], strict=True))


def to_editor(card: Card, opacity: float) -> dict[str, object]:
    """The photo with its mask as something to paint on; strokes come back on a layer of their own."""
    return {"background": card.overlay(opacity), "layers": [], "composite": None}


def read_strokes(layer: Image.Image, num_classes: int) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Which pixels (H, W) were painted, and the value of the nearest colour, for edges and browsers blend.

    Args:
        layer: RGBA.
        num_classes: C.
    """
    pixels = np.asarray(layer.convert("RGBA")).astype(np.int64)
    values = np.array(_values(num_classes), np.uint8)
    colours = display_palette()[values].astype(np.int64)
    painted = pixels[..., 3] >= PAINTED_FROM
    found = np.zeros(painted.shape, np.uint8)
    if painted.any():
        seen, place = np.unique(pixels[painted, :3], axis=0, return_inverse=True)
        nearest = [values[np.argmin(((colours - colour) ** 2).sum(axis=1))] for colour in seen]
        found[painted] = np.array(nearest, np.uint8)[place.ravel()]
    return painted, found


def paint(card: Card, layer: Image.Image) -> Card:
    """The card with its mask changed where the layer was painted; a class that was painted becomes a tag.

    Args:
        card: The card whose mask was painted on.
        layer: RGBA strokes over the preview.
    """
    rows, columns = card.size
    painted, values = read_strokes(layer, len(card.analysis.classes))

    def enlarged(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(Image.fromarray(plane).resize((columns, rows), Image.Resampling.NEAREST))

    mask = np.where(enlarged(painted.astype(np.uint8)) > 0, enlarged(values), card.full_mask())
    new = {int(value) for value in np.unique(values[painted])}
    tags = [name for value, name in enumerate(card.analysis.classes, 1) if value in new or name in card.tags]
    return card.painted(mask, tags)


def _values(num_classes: int) -> list[int]:
    return [*range(1, num_classes + 1), 0, IGNORE_INDEX]
