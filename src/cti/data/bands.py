"""Images of more bands than colours have: numpy's files, and TIFFs of satellites and multispectral cameras.

Pillow does not read them. Here they are opened as any image is, by their header; which three bands become red, green
and blue is said by `data.bands`.
"""

import math
import struct
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from cti.data.depth import Reading, to_8_bit

NUMPY, TIFF = "NUMPY", "TIFFBANDS"
"""Names of the formats, as Pillow's own are `PNG` and `JPEG`."""
MOST = 4_000_000_000
"""Most bytes of a file's pixels, all bands together."""
_MAGIC = b"\x93NUMPY"
_SAMPLES_PER_PIXEL = 277
_COLOURS = 3


class BandsError(ValueError):
    """A sound file whose bands cannot be used; says why and what to do."""


class BandsFile(ImageFile.ImageFile):
    """An opened image of many bands; its pixels are read by `bands_of`."""

    def load(self) -> Any:
        """Refuse: as colours it is read by `as_colours` only."""
        raise ValueError("it has many bands, and is read by cti only")


class NumpyFile(BandsFile):
    """An array (H, W), (H, W, bands) or (bands, H, W) of numbers, as `numpy.save` writes it."""

    format = NUMPY

    def _open(self) -> None:
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        file = _file(self)
        version = npy.read_magic(file)
        if version not in readers:
            raise SyntaxError(f"it is of numpy's format {version}")
        shape, self.by_columns, self.type = readers[version](file)
        if self.type.kind not in "buif" or len(shape) not in (2, 3) or 0 in shape:
            raise SyntaxError(f"its array of shape {shape} and type {self.type} is no image")
        self.shape, self.start = shape, file.tell()
        self.bands_first = len(shape) == 3 and shape[0] < shape[2]
        height, width = shape[1:] if self.bands_first else shape[:2]
        self._size, self._mode = (width, height), "RGB"


class BandsTiff(TiffImagePlugin.TiffImageFile, BandsFile):
    """A TIFF whose samples are no colours, so that Pillow reads its header only."""

    format = TIFF

    def _setup(self) -> None:
        self._size = (int(self.tag_v2[256]), int(self.tag_v2[257]))
        self._mode = "RGB"
        self.tile = []

    def load(self) -> Any:
        """See `BandsFile`."""
        return BandsFile.load(self)


Image.register_open(NUMPY, NumpyFile, lambda prefix: prefix.startswith(_MAGIC))
Image.register_open(TIFF, BandsTiff, Image.OPEN["TIFF"][1])


def has_bands(image: Image.Image, reading: Reading) -> bool:
    """Whether an opened image is read by its bands: no colours, or more samples than colours and bands were named."""
    if isinstance(image, BandsFile):
        return True
    return bool(reading.bands) and image.format == "TIFF" and band_count(image) > _COLOURS


def as_colours(image: Image.Image, reading: Reading) -> Image.Image:
    """The bands of an opened image that were chosen, as an 8-bit RGB image.

    Each band is brought to 8 bits by a range of its own, where no levels are given.

    Args:
        image: One of which `has_bands` is true.
        reading: Which bands, and by which levels.

    Raises:
        BandsError: if no bands were chosen, if the file has fewer, or if the extra is missing that reads such a TIFF.
        ValueError: if the file is damaged.
    """
    _numbers(band_count(image), reading.bands)  # before anything is decoded
    return mix(bands_of(image), reading)


def mix(pixels: NDArray[Any], reading: Reading) -> Image.Image:
    """Likewise for pixels (H, W, bands)."""
    bands = chosen(pixels, reading.bands)
    return Image.fromarray(np.stack([to_8_bit(band, levels=reading.levels) for band in bands], axis=-1))


def chosen(pixels: NDArray[Any], bands: Sequence[int]) -> list[NDArray[Any]]:
    """The three bands (H, W) of pixels (H, W, bands) that become red, green and blue; a single one becomes grey."""
    return [pixels[..., number - 1] for number in _numbers(pixels.shape[2], bands)]


def _numbers(count: int, bands: Sequence[int]) -> Sequence[int]:
    numbers = bands or {1: (1, 1, 1), _COLOURS: (1, 2, 3)}.get(count, ())
    if not numbers:
        raise BandsError(
            f"it has {count} bands; say which of them become red, green and blue, e.g. --data.bands [3,2,1]"
        )
    if max(numbers) > count:
        raise BandsError(f"it has {count} bands, and data.bands names band {max(numbers)}")
    return numbers


def band_count(image: Image.Image) -> int:
    """How many bands an opened image has of which `has_bands` is true; its header says so."""
    if isinstance(image, NumpyFile):
        return 1 if len(image.shape) == 2 else int(image.shape[0 if image.bands_first else 2])
    return int(getattr(image, "tag_v2", {}).get(_SAMPLES_PER_PIXEL, 1))


def bands_of(image: Image.Image) -> NDArray[Any]:
    """The pixels (H, W, bands) of an opened image of which `has_bands` is true; errors as for `as_colours`."""
    if not isinstance(image, NumpyFile):
        return _tiff_bands(image)
    size = math.prod(image.shape) * image.type.itemsize
    check_size(size)
    file = _file(image)
    file.seek(image.start)
    content = file.read(size)
    if len(content) < size:
        raise ValueError("it is cut off")
    pixels = np.frombuffer(content, image.type).reshape(image.shape, order="F" if image.by_columns else "C")
    if pixels.ndim == 2:
        return pixels[..., None]
    return np.moveaxis(pixels, 0, -1) if image.bands_first else pixels


def _file(image: Image.Image) -> IO[bytes]:
    """The file behind an opened image."""
    assert isinstance(image, ImageFile.ImageFile)
    assert image.fp is not None
    return image.fp


def check_size(size: int) -> None:
    """Refuse pixels that would take so many bytes, all bands together."""
    if size > MOST:
        raise BandsError(f"its bands take {size / 1e9:.1f} GB together, more than the {MOST / 1e9:.0f} GB allowed")


def _tiff_bands(image: Image.Image) -> NDArray[Any]:
    try:
        import tifffile
    except ModuleNotFoundError as error:
        raise BandsError('TIFFs of many bands need the extra `bands`: pip install "cti[bands]"') from error
    file = _file(image)
    file.seek(0)
    try:
        with tifffile.TiffFile(file) as opened:
            page = opened.series[0]
            check_size(page.nbytes)
            pixels = page.asarray()
    except BandsError:
        raise
    except (tifffile.TiffFileError, ValueError, TypeError, KeyError, IndexError, struct.error) as error:
        raise ValueError(str(error)) from error
    sizes = {"Y": image.size[1], "X": image.size[0]}
    places = [page.axes.find(name) for name in sizes]
    if -1 in places or [pixels.shape[place] for place in places] != list(sizes.values()) or pixels.ndim > 3:
        raise ValueError(f"its axes {page.axes} of shape {pixels.shape} are no image of bands")
    if pixels.ndim == 2:
        return pixels[..., None]
    return np.moveaxis(pixels, ({0, 1, 2} - set(places)).pop(), -1)
