"""Reading any photo as RGB, and reading and writing indexed masks."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from cti.classes import IGNORE_INDEX, voc_palette
from cti.files import atomic_path

MAX_PIXELS = 100_000_000
# Formats that only hold pixels: Pillow can also open ones that run other programs (EPS). Importing the plug-ins here
# registers them before any thread opens an image; Pillow's own, lazy registration is no good with threads.
_PLUGINS = (
    BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile,
    JpegImagePlugin.JpegImageFile,
    MpoImagePlugin.MpoImageFile,
    PngImagePlugin.PngImageFile,
    PpmImagePlugin.PpmImageFile,
    TiffImagePlugin.TiffImageFile,
    WebPImagePlugin.WebPImageFile,
)
FORMATS = tuple(name for plugin in _PLUGINS if (name := plugin.format) in Image.OPEN)
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm"})
_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
# What Pillow raises on damaged files besides its own OSError.
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error, OverflowError)


@contextmanager
def open_image(path: Path | str, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open an image file, its header read and its size checked, its pixels not decoded yet.

    Whatever goes wrong with the file inside the block is said with its name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no image, is damaged, or has more than `max_pixels` pixels.
    """
    too_large = f"more than the {max_pixels} pixels allowed; shrink it or raise data.max_pixels"
    try:
        image = Image.open(path, formats=FORMATS)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no image {path}; restore it or take it off the list.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path} was not decoded: it has {too_large} (Pillow: {error}).") from error
    except _DECODING_ERRORS as error:
        raise ValueError(f"{path} is not a readable image ({error}); replace or remove it.") from error
    with image:
        width, height = image.size
        if width * height > max_pixels:
            raise ValueError(f"{path} was not decoded: {width} x {height} = {width * height} pixels are {too_large}.")
        try:
            yield image
        except _DECODING_ERRORS as error:
            raise ValueError(f"{path} is damaged ({error}); replace or remove it.") from error


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of an opened image once its EXIF orientation is applied, without decoding a JPEG."""
    width, height = image.size
    # Pillow's TIFF reader turns the picture itself, and reports the turned size from the start.
    sideways = image.format != "TIFF" and _orientation(image) in _SIDEWAYS
    return (height, width) if sideways else (width, height)


def to_rgb(image: Image.Image) -> Image.Image:
    """Decode an opened image to 8-bit RGB: upright, transparency over white, 16-bit grey scaled to 8."""
    image.load()
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_to_8_bit(np.asarray(image)))
    return image if image.mode == "RGB" else image.convert("RGB")


def load_image(path: Path | str, max_pixels: int = MAX_PIXELS, enough: tuple[int, int] | None = None) -> Image.Image:
    """Read a photo as an upright RGB image.

    Args:
        path: JPEG, PNG, WebP, TIFF, BMP, GIF (first frame) or PPM of any colour mode.
        max_pixels: Larger photos are refused by name before they are decoded.
        enough: (width, height) that will do: a JPEG may then come at 1/2, 1/4 or 1/8 of its size (never below
            `enough`), which is several times as fast.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no image, is damaged, or has too many pixels.
    """
    with open_image(path, max_pixels) as image:
        if enough is not None:
            turned = oriented_size(image) != image.size
            image.draft("RGB", enough[::-1] if turned else enough)
        return to_rgb(image)


@dataclass(frozen=True)
class MaskFile:
    """A mask in a file, read in one vocabulary of classes and handed out in another.

    Args:
        path: Indexed or greyscale 8-bit image: 0 background, 1..num_classes classes, 255 unlabelled.
        num_classes: Classes the file may name.
        table: 256 bytes; value `v` of the file becomes `table[v]`.
    """

    path: Path
    num_classes: int
    table: bytes

    def load(self) -> NDArray[np.uint8]:
        """See `cti.data.photos.MaskSource`."""
        return np.frombuffer(self.table, dtype=np.uint8)[load_mask(self.path, self.num_classes)]


def load_mask(path: Path | str, num_classes: int = 254, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a mask, (H, W) uint8: 0 background, 1..num_classes classes, 255 unlabelled.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no single-channel 8-bit image or holds other values; the message names them.
    """
    with open_image(path, max_pixels) as image:
        kind, mode = image.format, image.mode
        mask = np.array(image)
    if kind in ("JPEG", "MPO"):
        raise ValueError(f"The mask {path} is a JPEG, which blurs class values; save masks as indexed PNG.")
    if mode not in ("P", "L", "1"):
        raise ValueError(
            f"The mask {path} has the colour mode {mode}; save it as an 8-bit indexed (or greyscale) PNG with the "
            f"values 0 = background, 1..{num_classes} = classes, {IGNORE_INDEX} = unlabelled."
        )
    mask = mask.astype(np.uint8, copy=False)
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    unknown = [int(value) for value in present if num_classes < value != IGNORE_INDEX]
    if unknown:
        named = ", ".join(map(str, unknown[:8])) + (", ..." if len(unknown) > 8 else "")
        raise ValueError(
            f"The mask {path} holds the unknown values {named}; with {num_classes} classes a pixel is "
            f"0..{num_classes} or {IGNORE_INDEX} (unlabelled)."
        )
    return mask


def save_mask(path: Path | str, mask: NDArray[np.uint8]) -> None:
    """Write a mask (H, W) as an 8-bit indexed PNG with the VOC palette, atomically."""
    assert mask.ndim == 2, f"a mask is (H, W), got {mask.shape}"
    assert mask.dtype == np.uint8, f"a mask is uint8, got {mask.dtype}"
    image = Image.fromarray(mask)
    image.putpalette(voc_palette().tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", optimize=False)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, struct.error):
        return 1  # broken metadata beside sound pixels: take the photo as it lies


def _to_8_bit(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale grey pixels of 16 or 32 bits, or floats in [0, 1] or [0, 255], to 8 bits."""
    values = np.nan_to_num(np.asarray(pixels, dtype=np.float64))
    if pixels.dtype.kind == "f":
        factor = 255.0 if values.max(initial=0.0) <= 1 else 1.0
    else:  # a 32-bit image nearly always holds 16-bit values, sometimes 8-bit ones
        factor = 1.0 if pixels.dtype.itemsize > 2 and values.max(initial=0.0) <= 255 else 255 / 65535
    return np.clip(np.rint(values * factor), 0, 255).astype(np.uint8)
