"""Pictures for people: masks and maps over photos, rows of panels, a legend.

Colours here are bright and far apart, to be told apart on a photo; mask files keep the fixed VOC palette.
"""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

from cti.classes import IGNORE_INDEX
from cti.evaluate.confusion import to_mask, to_numpy
from cti.files import atomic_path

UNSURE_COLOUR = (150, 150, 150)
PAPER, INK = (255, 255, 255), (30, 30, 30)
FONT_SIZE = 14
LINE = 20  # height of a line of text in pixels
GAP = 6
MAX_CAMS = 3
MASKS = ("truth", "seed", "pseudo-mask", "segmentation", "mask")
"""The masks of a panel, in their order."""


@dataclass(frozen=True)
class Cell:
    """One picture of a panel and the words under it."""

    caption: str
    image: Image.Image


@dataclass(frozen=True)
class PanelRow:
    """One photo with everything that is known about it.

    Args:
        cells: Pictures by column; rows of one panel are aligned by these names.
        values: Mask values that its masks show, for the legend.
    """

    cells: Mapping[str, Cell]
    values: frozenset[int] = field(default_factory=frozenset)


@cache
def display_palette() -> NDArray[np.uint8]:
    """Colours for looking at masks, (256, 3) uint8: background black, 255 grey, hues a golden ratio apart."""
    palette = np.zeros((256, 3), np.uint8)
    for value in range(1, IGNORE_INDEX):
        hue, dim = (0.98 + (value - 1) * 0.6180339887) % 1, (value - 1) // 8 % 3
        palette[value] = np.round(255 * np.array(colorsys.hsv_to_rgb(hue, 0.85 - 0.2 * dim, 1 - 0.2 * dim)))
    palette[IGNORE_INDEX] = UNSURE_COLOUR
    palette.setflags(write=False)
    return palette


def overlay(
    image: Image.Image, mask: ArrayLike | Tensor, palette: NDArray[np.uint8] | None = None, alpha: float = 0.5
) -> Image.Image:
    """Paint a mask over a photo: classes tinted and outlined, unsure pixels (255) grey-striped, background as it is.

    Args:
        image: The photo, of W x H pixels.
        mask: (H, W) mask values.
        palette: (256, 3) colours of the mask values; `display_palette` if not given.
        alpha: Opacity of the tint, 0 to 1; outlines are always opaque.

    Raises:
        ValueError: if the mask is not of the photo's size, or `alpha` is not in [0, 1].
    """
    values = to_mask(mask, "mask")
    _check_size(image, values.shape, "mask")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; give an opacity from 0 to 1.")
    pixels = np.asarray(image.convert("RGB"), np.float32)
    colours = (display_palette() if palette is None else palette)[values].astype(np.float32)
    opacity = np.where(values > 0, np.float32(alpha), np.float32(0))
    thickness = max(1, round(max(values.shape) / 250))
    height, width = values.shape
    stripe = (np.arange(height)[:, None] + np.arange(width)) // (4 * thickness) % 2 == 0
    opacity[(values == IGNORE_INDEX) & stripe] = max(alpha, 0.85)
    opacity[_outlines(values, thickness) & (values != IGNORE_INDEX)] = 1
    blended = pixels + opacity[..., None] * (colours - pixels)
    return Image.fromarray(blended.round().astype(np.uint8))


def heat(cam: ArrayLike | Tensor, image: Image.Image | None = None, alpha: float = 0.6) -> Image.Image:
    """Show a class activation map as colours, over the greyscale photo if one is given.

    Args:
        cam: (H, W) in [0, 1].
        image: The photo, of W x H pixels.
        alpha: Opacity of the colours over the photo.

    Raises:
        ValueError: if the map is not of the photo's size.
    """
    from matplotlib import colormaps  # slow to import, and not every picture needs it

    values = to_numpy(cam)
    colours = Image.fromarray((colormaps["turbo"](values)[..., :3] * 255).round().astype(np.uint8))
    if image is None:
        return colours
    _check_size(image, values.shape, "CAM")
    return Image.blend(image.convert("L").convert("RGB"), colours, alpha)


def panel_row(
    photo: Image.Image,
    classes: Sequence[str],
    masks: Mapping[str, ArrayLike | Tensor | None] = MappingProxyType({}),
    *,
    name: str = "photo",
    cams: ArrayLike | Tensor = (),
    class_indices: Sequence[int] = (),
    background_cam: ArrayLike | Tensor | None = None,
) -> PanelRow:
    """Make the pictures of one photo: photo | truth | the other masks | CAMs, of which photos have few or many.

    Args:
        photo: The photo, of W x H pixels.
        classes: The C foreground classes.
        masks: Any of `MASKS` -> (H, W) mask values, 255 where unsure; what is None gets no picture.
        name: What to call the photo.
        cams: (n, H, W) in [0, 1], one per class of `class_indices`; `MAX_CAMS` are shown, and how many are left out.
        class_indices: 0-based foreground classes of the CAMs.
        background_cam: (H, W) in [0, 1].

    Raises:
        ValueError: if something is not of the photo's size.
    """
    known = {column: to_mask(mask, column) for column in MASKS if (mask := masks.get(column)) is not None}
    drawn = {column: Cell(column, overlay(photo, mask)) for column, mask in known.items()}
    cells = {"photo": Cell(name, photo.convert("RGB"))}
    if "truth" in drawn:
        cells["truth"] = drawn.pop("truth")
    left_out = len(class_indices) - MAX_CAMS
    for place, (index, cam) in enumerate(zip(class_indices[:MAX_CAMS], to_numpy(cams), strict=False), 1):
        more = f" (and {left_out} more)" if left_out > 0 and place == MAX_CAMS else ""
        cells[f"CAM {place}"] = Cell(f"CAM: {classes[index]}{more}", heat(cam, photo))
    if background_cam is not None:
        cells["background CAM"] = Cell("CAM: background", heat(background_cam, photo))
    return PanelRow(cells | drawn, frozenset(value for mask in known.values() for value in np.unique(mask).tolist()))


def panels(rows: Sequence[PanelRow], classes: Sequence[str], cell_width: int = 240) -> Image.Image:
    """Set rows under each other, one column per kind of picture, a legend below; columns without a picture vanish.

    Args:
        rows: At least one row.
        classes: The C foreground classes, for the legend.
        cell_width: Width of a picture in pixels; taller photos are fitted into a square of it.

    Raises:
        ValueError: if there is no row.
    """
    if not rows:
        raise ValueError("There is no row to draw; give at least one photo.")
    columns = _ordered_columns(rows)
    width = GAP + len(columns) * (cell_width + GAP)
    drawn = [_draw_row(row, columns, cell_width, width) for row in rows]
    drawn.append(legend(classes, sorted(frozenset[int]().union(*(row.values for row in rows))), width))
    page = Image.new("RGB", (width, sum(strip.height for strip in drawn)), PAPER)
    top = 0
    for strip in drawn:
        page.paste(strip, (0, top))
        top += strip.height
    return page


def legend(classes: Sequence[str], values: Sequence[int], width: int) -> Image.Image:
    """A strip of colour swatches with class names, wrapped at `width` pixels.

    Args:
        classes: The C foreground classes.
        values: Mask values to name; the background needs no swatch.
        width: Width of the strip in pixels.
    """
    colours = display_palette()
    font, swatch = _font(), LINE - 8
    left, top, placed = GAP, GAP, []
    for value in values:
        if value == 0:
            continue
        text = "unsure or unlabelled" if value == IGNORE_INDEX else classes[value - 1]
        needed = swatch + 5 + round(font.getlength(text)) + 3 * GAP
        if left > GAP and left + needed > width:
            left, top = GAP, top + LINE
        placed.append((left, top, value, text))
        left += needed
    strip = Image.new("RGB", (width, top + LINE + GAP), PAPER)
    draw = ImageDraw.Draw(strip)
    for left, top, value, text in placed:
        red, green, blue = (int(channel) for channel in colours[value])
        draw.rectangle((left, top + 4, left + swatch, top + 4 + swatch), fill=(red, green, blue))
        draw.text((left + swatch + 5, top + LINE // 2), text, fill=INK, font=font, anchor="lm")
    return strip


def save_panels(path: Path | str, rows: Sequence[PanelRow], classes: Sequence[str]) -> None:
    """Write `panels` as a picture, atomically; the suffix chooses the format."""
    picture = panels(rows, classes)
    with atomic_path(path) as temporary:
        picture.save(temporary)


def _ordered_columns(rows: Sequence[PanelRow]) -> list[str]:
    num_cams = sum(any(f"CAM {place}" in row.cells for row in rows) for place in range(1, 256))
    cams = [f"CAM {place + 1}" for place in range(num_cams)]
    present = {column for row in rows for column in row.cells}
    return [column for column in ("photo", "truth", *MASKS[1:], "background CAM", *cams) if column in present]


def _draw_row(row: PanelRow, columns: Sequence[str], cell_width: int, width: int) -> Image.Image:
    thumbnails = {}
    for column, cell in row.cells.items():
        scale = cell_width / max(cell.image.size)
        size = (max(1, round(cell.image.width * scale)), max(1, round(cell.image.height * scale)))
        thumbnails[column] = cell.image.resize(size, Image.Resampling.LANCZOS)
    height = max(thumbnail.height for thumbnail in thumbnails.values())
    strip = Image.new("RGB", (width, GAP + height + LINE), PAPER)
    draw = ImageDraw.Draw(strip)
    for place, column in enumerate(columns):
        if column not in thumbnails:
            continue
        left = GAP + place * (cell_width + GAP)
        picture = thumbnails[column]
        strip.paste(picture, (left + (cell_width - picture.width) // 2, GAP + (height - picture.height) // 2))
        caption = _fitted(row.cells[column].caption, cell_width)
        draw.text((left + cell_width // 2, GAP + height + LINE // 2), caption, fill=INK, font=_font(), anchor="mm")
    return strip


def _outlines(values: NDArray[np.uint8], thickness: int) -> NDArray[np.bool_]:
    """Pixels of a class that lie within `thickness` pixels of another value."""
    image = Image.fromarray(values)
    size = 2 * thickness + 1
    high, low = image.filter(ImageFilter.MaxFilter(size)), image.filter(ImageFilter.MinFilter(size))
    return (np.asarray(high) != np.asarray(low)) & (values > 0)


def _check_size(image: Image.Image, shape: tuple[int, ...], name: str) -> None:
    if shape != (image.height, image.width):
        raise ValueError(
            f"The {name} is of shape {shape}, but the photo has {image.height} rows and {image.width} columns."
        )


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_SIZE)


def _fitted(text: str, width: int) -> str:
    """`text`, shortened with an ellipsis if it is wider than `width` pixels."""
    font = _font()
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
