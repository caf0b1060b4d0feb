"""Photos of more than 8 bits: each comes out as bright as it is, however much its file could hold."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cti.data import Photo, load_image
from cti.data.depth import to_8_bit
from cti.data.images import image_size


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_camera_of_any_depth_uses_the_whole_range(bits: int) -> None:
    values = np.linspace(0, 2**bits - 1, 5000).astype(np.uint16)[None]
    assert np.abs(to_8_bit(values).astype(int) - np.rint(np.linspace(0, 255, 5000))).max() <= 1
    values[0, 17] = 65535  # a hot pixel
    assert to_8_bit(values)[0, 4990] > 250


def test_the_files_own_depth_is_believed() -> None:
    assert to_8_bit(np.array([[0, 1000]], dtype=np.uint16), bits=16).tolist() == [[0, 4]]


@pytest.mark.parametrize("outlier", [np.inf, -np.inf, np.nan, 1e30])
def test_one_wild_float_changes_no_other_pixel(outlier: float) -> None:
    pixels = np.random.default_rng(1).random((40, 56))
    expected = np.rint(pixels * 255)
    pixels[0, 0] = outlier
    result = to_8_bit(pixels.astype(np.float32))
    assert np.abs(result.astype(int) - expected)[1:].max() <= 1
    assert result[0, 0] == (255 if outlier > 0 else 0)


def test_what_fits_no_range_is_stretched() -> None:
    assert to_8_bit(np.array([[-20.0, 10.0, 40.0]])).tolist() == [[0, 128, 255]]
    thermal = np.linspace(29_000, 29_500, 501).astype(np.uint16)[None]
    assert (to_8_bit(thermal).min(), to_8_bit(thermal).max()) == (0, 255)
    assert np.unique(to_8_bit(np.full((3, 3), 29_000, dtype=np.uint16))).tolist() == [113]  # 29000 of 65535
    assert not to_8_bit(np.full((2, 2), np.nan)).any()


def _png_of_16_bits(path: Path, pixels: NDArray[np.int64]) -> None:
    """Pillow cannot write 16-bit colours."""
    height, width, channels = pixels.shape

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


@pytest.mark.parametrize("alpha", [False, True])
def test_colours_of_12_bits_keep_their_depth(tmp_path: Path, alpha: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (20, 30, 3))
    opaque = np.full((20, 30, 1), 65535)
    _png_of_16_bits(tmp_path / "deep.png", np.concatenate([pixels, opaque], axis=2) if alpha else pixels)
    assert np.abs(np.asarray(load_image(tmp_path / "deep.png")) - pixels * 255 / 4095).max() <= 0.5


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_the_size_is_that_of_the_loaded_photo(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / f"turned.{suffix}", exif=exif)
    photo = Photo("turned", tmp_path / f"turned.{suffix}", ())
    assert photo.size() == image_size(photo.image) == (20, 10) == photo.load().size[::-1]


def test_the_photos_limit_is_the_only_one(tmp_path: Path) -> None:
    Image.new("1", (14_000, 13_000), 1).save(tmp_path / "huge.png")  # more than Pillow itself would open
    assert image_size(tmp_path / "huge.png", 400_000_000) == (13_000, 14_000)
    with pytest.raises(ValueError, match=r"182000000 pixels are more than the 100000000 pixels allowed"):
        Photo("huge", tmp_path / "huge.png", ()).load()
    Image.new("L", (30, 20), 1).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match="more than the 599 pixels allowed"):
        Photo("small", tmp_path / "small.png", (), max_pixels=599).load()
