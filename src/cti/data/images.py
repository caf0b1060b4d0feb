"""Reading any photo as RGB, and reading and writing indexed masks."""

import io
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from cti.classes import IGNORE_INDEX, voc_palette
from cti.data.bands import NUMPY, TIFF, BandsError, as_colours, bands_of, chosen, has_bands
from cti.data.depth import AS_IT_IS, Reading, ends_of, to_8_bit
from cti.data.stretched import count_values
from cti.files import atomic_path

T = TypeVar("T", str, Path)

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
FORMATS = (*(name for plugin in _PLUGINS if (name := plugin.format) in Image.OPEN), TIFF, NUMPY)
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm"})
NAMED_SUFFIXES = SUFFIXES | {".npy"}
"""Of photos that are named. In a folder with other photos, a numpy file is not taken for one: it may be about one."""
# Raw modes of 16-bit colours -> the one that reads their other byte.
_OTHER_BYTE = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B" if sys.byteorder == "little" else "L"))
}
_EXIF_ORIENTATION = 0x0112
_MAX_SAMPLE_VALUE = 281  # TIFF
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
# What Pillow raises on damaged files besides its own OSError.
_DECODING_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error, OverflowError,
    Image.DecompressionBombError,  # a frame of a GIF that is larger than the GIF
)  # fmt: skip


@contextmanager
def open_image(path: Path | str, max_pixels: int = MAX_PIXELS, content: bytes | None = None) -> Iterator[Image.Image]:
    """Open an image file, its header read and its size checked, its pixels not decoded yet.

    Whatever goes wrong with the file inside the block is said with its name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no image, is damaged, or has more than `max_pixels` pixels.
    """
    too_large = (
        f"more than the {max_pixels} pixels allowed; shrink it or raise data.max_pixels (cti label: --max-pixels)"
    )
    try:
        image = _open(Path(path), content)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no image {path}; restore it or take it off the list.") from error
    except _DECODING_ERRORS as error:
        raise ValueError(_unreadable(path, "is not a readable image", error)) from error
    with image:
        width, height = image.size
        if width * height > max_pixels:
            raise ValueError(f"{path} was not decoded: {width} x {height} = {width * height} pixels are {too_large}.")
        try:
            yield image
        except BandsError as error:
            raise ValueError(f"{path} is not read: {error}.") from error
        except _DECODING_ERRORS as error:
            raise ValueError(_unreadable(path, "is damaged", error)) from error


def is_passing(error: BaseException) -> bool:
    """Whether `open_image` failed for a reason outside the file (permission, memory, the disk), which may pass."""
    cause = error.__cause__ or error
    return isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None)


def photos_among(paths: Sequence[T]) -> list[T]:
    """Those of the files in a folder that are photos: numpy's only where there are no others.

    Args:
        paths: Paths, or the names of files.
    """
    suffixes = [PurePath(path).suffix.lower() for path in paths]
    wanted = SUFFIXES if SUFFIXES.intersection(suffixes) else NAMED_SUFFIXES
    return [path for path, suffix in zip(paths, suffixes, strict=True) if suffix in wanted]


def image_size(path: Path | str, max_pixels: int = MAX_PIXELS, content: bytes | None = None) -> tuple[int, int]:
    """(H, W) of a photo as it is shown, its EXIF orientation applied; only the header is read.

    Args:
        path: See `load_image`.
        max_pixels: See `load_image`.
        content: See `load_image`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no image, or has more than `max_pixels` pixels.
    """
    with open_image(path, max_pixels, content) as image:
        width, height = oriented_size(image)
    return height, width


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of an opened image once its EXIF orientation is applied, without decoding a JPEG."""
    width, height = image.size
    # Pillow's TIFF reader turns the picture itself, and reports the turned size from the start.
    sideways = image.format != "TIFF" and orientation(image) in _SIDEWAYS
    return (height, width) if sideways else (width, height)


def to_rgb(image: Image.Image, reading: Reading = AS_IT_IS) -> Image.Image:
    """Decode an opened image to 8-bit RGB: upright, transparency over white, more bits than 8 scaled to 8.

    Args:
        image: Opened.
        reading: How values of more than 8 bits, and of more bands than colours, become colours.
    """
    if has_bands(image, reading):
        return as_colours(image, reading)
    bits, deep = _stated_bits(image), _raw_mode(image) in _OTHER_BYTE
    stored = _Stored.of(image)
    image.load()
    if deep and image.mode in ("RGB", "RGBA"):
        image = _spread(image, stored, reading.levels)
    if orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(to_8_bit(np.asarray(image), bits, reading.levels))
    return image if image.mode == "RGB" else image.convert("RGB")


def load_image(
    path: Path | str,
    max_pixels: int = MAX_PIXELS,
    enough: tuple[int, int] | None = None,
    content: bytes | None = None,
    reading: Reading = AS_IT_IS,
) -> Image.Image:
    """Read a photo as an upright RGB image.

    Args:
        path: JPEG, PNG, WebP, TIFF, BMP, GIF (first frame) or PPM of any colour mode, or a numpy file.
        max_pixels: Larger photos are refused by name before they are decoded.
        enough: (width, height) that will do: a JPEG may then come at 1/2, 1/4 or 1/8 of its size (never below
            `enough`), which is several times as fast.
        content: The bytes of the file, where it is not on the disk; `path` is then only what it is called.
        reading: See `to_rgb`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no image, is damaged, or has too many pixels.
    """
    with open_image(path, max_pixels, content) as image:
        if enough is not None:
            turned = oriented_size(image) != image.size
            image.draft("RGB", enough[::-1] if turned else enough)
        return to_rgb(image, reading)


def deep_ends(image: Image.Image, reading: Reading = AS_IT_IS) -> tuple[float, float] | None:
    """What `cti.data.depth.ends_of` says of an opened image of more than 8 bits; None for others, which stay undecoded.

    Args:
        image: Opened, not decoded.
        reading: Says which bands are looked at.
    """
    if has_bands(image, reading):
        pixels = np.stack(chosen(bands_of(image), reading.bands))
        finite = pixels[np.isfinite(pixels)]
        return ends_of(finite) if finite.size and pixels.dtype != np.uint8 else None
    colour = _raw_mode(image) in _OTHER_BYTE and image.mode in ("RGB", "RGBA")
    if not (colour or image.mode.startswith(("I", "F"))):
        return None
    stored = _Stored.of(image)
    image.load()
    pixels = _whole_depth(image, stored) if colour else np.asarray(image)
    finite = pixels[np.isfinite(pixels)]
    return ends_of(finite) if finite.size else None


@dataclass(frozen=True)
class MaskFile:
    """A mask in a file, read in one vocabulary of classes and handed out in another.

    Args:
        path: Indexed or greyscale 8-bit image: 0 background, 1..num_classes classes, 255 unlabelled.
        num_classes: Classes the file may name.
        table: 256 bytes; value `v` of the file becomes `table[v]`.
        max_pixels: Larger masks are refused.
        folder_class: The class, as the file would name it, after which its folder is named; 0 = none. The only value
            beside 0 is that class then, whichever it is: 255 in MVTec's data sets.
    """

    path: Path
    num_classes: int
    table: bytes
    max_pixels: int = MAX_PIXELS
    folder_class: int = 0

    def load(self) -> NDArray[np.uint8]:
        """See `cti.data.photos.MaskSource`."""
        return np.frombuffer(self.table, dtype=np.uint8)[self.read()]

    def read(self) -> NDArray[np.uint8]:
        """The mask (H, W) in the file's own vocabulary. Errors: see `load_mask`."""
        if self.folder_class:
            mask = load_mask(self.path, IGNORE_INDEX - 1, self.max_pixels)
            if np.count_nonzero(count_values(mask)[1:]) == 1:
                return np.where(mask > 0, self.folder_class, 0).astype(np.uint8)
        return load_mask(self.path, self.num_classes, self.max_pixels)


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
    present = np.flatnonzero(count_values(mask))
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


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an opened image; 1 = upright."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, struct.error):
        return 1  # broken metadata beside sound pixels: take the photo as it lies


def _stated_bits(image: Image.Image) -> int:
    """Bits per pixel that are used, where the file says so: MaxSampleValue of a TIFF; 0 where it does not."""
    tags = getattr(image, "tag_v2", {})
    try:
        top = tags.get(_MAX_SAMPLE_VALUE, (0,))
        return int(np.max(top)).bit_length()
    except (TypeError, ValueError):
        return 0


@dataclass(frozen=True)
class _Stored:
    """What is known of an opened image's file until its pixels are decoded.

    Args:
        tiles: How the pixels lie in it.
        content: Its bytes, where it is not on the disk.
    """

    tiles: tuple[ImageFile._Tile, ...] = ()
    content: bytes | None = None

    @classmethod
    def of(cls, image: Image.Image) -> "_Stored":
        if not isinstance(image, ImageFile.ImageFile):
            return cls()
        return cls(tuple(image.tile), image.fp.getvalue() if isinstance(image.fp, io.BytesIO) else None)


def _raw_mode(image: Image.Image) -> str:
    tiles = _Stored.of(image).tiles
    arguments = tiles[0].args if tiles else ""
    return str(arguments[0]) if isinstance(arguments, tuple) and arguments else str(arguments)


def _spread(image: Image.Image, stored: _Stored, levels: Sequence[float] = ()) -> Image.Image:
    """Bring colours of 9 to 14 bits in a 16-bit file to 8 bits, and of any depth where levels are given.

    Pillow keeps the upper byte of each 16-bit colour, which is nearly black there; the lower one is read as well.
    """
    upper = np.asarray(image)
    if not levels and np.percentile(upper[..., :3], 99.9, method="higher") >= 64:
        return image
    orientation = image.getexif()
    pixels = to_8_bit(_whole_depth(image, stored), levels=levels)
    spread = Image.fromarray(np.concatenate([pixels, upper[..., 3:]], axis=-1))
    spread.getexif().update(orientation)
    return spread


def _whole_depth(image: Image.Image, stored: _Stored) -> NDArray[np.uint16]:
    """Colours (H, W, 3) of a loaded image with 16 bits each."""
    with _open(Path(str(getattr(image, "filename", ""))), stored.content) as again:
        again.tile = [tile._replace(args=_with_other_byte(tile.args)) for tile in stored.tiles]
        lower = np.asarray(again)
    return np.asarray(image)[..., :3].astype(np.uint16) * 256 + lower[..., :3]


def _with_other_byte(arguments: Any) -> Any:
    if isinstance(arguments, tuple):
        return (_OTHER_BYTE[arguments[0]], *arguments[1:])
    return _OTHER_BYTE[arguments]


def _open(path: Path, content: bytes | None = None) -> ImageFile.ImageFile:
    """Open an image by the first format that takes it.

    As `Image.open` does, but without Pillow's own limit of about 179 million pixels, which would overrule
    `data.max_pixels`; the caller checks the size.
    """
    if content is None:
        with path.open("rb") as handle:
            prefix = handle.read(16)
    else:
        prefix = content[:16]
    reasons = []
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is None or accept(prefix) is True:
            try:
                return cast(
                    ImageFile.ImageFile, cast(Any, factory)(str(path) if content is None else io.BytesIO(content), "")
                )
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                reasons.append(str(error))
    raise ValueError("; ".join(reasons) or ("the file is empty" if not prefix else "no known image format"))


def _unreadable(path: Path | str, what: str, error: BaseException) -> str:
    """Say that a file cannot be read: because of itself, or because of something that may pass."""
    if is_passing(error):
        return f"{path} cannot be read at the moment ({error}); see to that, or remove it."
    return f"{path} {what} ({error}); replace or remove it."
