"""Photos of more than 8 bits: each comes out as bright as it is, however much its file could hold."""

import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cti import Predictor
from cti.config import DataConfig
from cti.data import Photo, load_image
from cti.data.check import check_data
from cti.data.depth import Reading, to_8_bit
from cti.data.images import deep_ends, image_size, open_image
from cti.data.read import read_photos
from cti.data.transforms import WholeView
from cti.predict.cti import CTIAnalyser
from tiny import tiny_model


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
    for content in (None, (tmp_path / "deep.png").read_bytes()):
        image = load_image(tmp_path / "deep.png" if content is None else "a photo elsewhere", content=content)
        assert np.abs(np.asarray(image) - pixels * 255 / 4095).max() <= 0.5


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


@pytest.mark.parametrize("kind", ["grey", "colour", "float"])
def test_with_levels_all_photos_are_scaled_alike(tmp_path: Path, kind: str) -> None:
    """Photos of 12 bits of which one is dark: by itself it comes out brighter than it is beside the others."""
    bright, dark = np.random.default_rng(0).integers(0, 4000, (20, 30, 3)), np.full((20, 30, 3), 200)
    dark[0, :] = 210
    for name, pixels in (("bright", bright), ("dark", dark)):
        if kind == "colour":
            _png_of_16_bits(tmp_path / f"{name}.png", pixels)
        elif kind == "grey":
            Image.fromarray(pixels[..., 0].astype(np.uint16)).save(tmp_path / f"{name}.png")
        else:
            Image.fromarray(pixels[..., 0].astype(np.float32)).save(tmp_path / f"{name}.tif")
    suffix = "tif" if kind == "float" else "png"
    levels = (100.0, 4100.0)
    for name, pixels in (("bright", bright), ("dark", dark)):
        expected = np.clip((pixels - 100) * 255 / 4000, 0, 255)
        photo = Photo(name, tmp_path / f"{name}.{suffix}", (), reading=Reading(levels))
        shown = np.asarray(photo.load()).astype(float)
        assert np.abs(shown - (expected if kind == "colour" else expected[..., :1])).max() <= 0.5
        alone = np.asarray(load_image(photo.image)).astype(float)
        assert np.abs(alone - shown).max() > 1
    wild = np.array([[np.nan, np.inf, -np.inf, 5.0]], np.float32)
    assert to_8_bit(wild, levels=(0, 10)).tolist() == [[0, 255, 0, 128]]
    plain = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    plain.save(tmp_path / "plain.png")  # 8 bits need no levels
    assert (np.asarray(load_image(tmp_path / "plain.png", reading=Reading(levels)))[..., 0] == np.asarray(plain)).all()


def test_the_check_says_which_levels_fit_and_every_reader_uses_them(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, top in enumerate((900, 3000, 2000)):
        pixels = np.linspace(50 + number, top, 40 * 40).astype(np.uint16).reshape(40, 40)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "labels.csv").write_text("image,tags\n0.png,disc\n1.png,ring\n2.png,star\n")
    config = DataConfig(root=str(folder))
    said = " ".join(check_data(config, cache=tmp_path / "a.json", progress=False).doubts)
    assert "3 photos have more than 8 bits" in said
    found = re.search(r"data\.levels=\[([\d.]+),([\d.]+)\]", said)
    assert found
    levels = (float(found[1]), float(found[2]))
    assert levels == pytest.approx((50, 3000), abs=5)
    config = replace(config, levels=levels)
    assert "8 bits" not in " ".join(check_data(config, cache=tmp_path / "b.json", progress=False).doubts)
    photos = sorted(read_photos(config).photos(), key=lambda photo: photo.id)
    assert [int(np.asarray(photo.load()).max()) for photo in photos] == pytest.approx([73, 255, 169], abs=2)

    # The network carries them along; new photos are read alike.
    network = tiny_model().eval()
    Predictor(CTIAnalyser(network), reading=Reading(levels)).save_pretrained(tmp_path / "network")
    predictor = Predictor.from_pretrained(tmp_path / "network")
    assert predictor.reading == Reading(levels)
    assert int(np.asarray(predictor(photos[0].image, ["disc"]).image).max()) == pytest.approx(73, abs=2)
    assert np.asarray(Predictor(CTIAnalyser(network))(photos[0].image, ["disc"]).image).max() > 200
    views = WholeView(32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert float(views(photos[0].image, reading=Reading(levels)).max()) == pytest.approx(73 / 255, abs=0.02)


def test_ends_are_known_of_photos_of_more_than_8_bits(tmp_path: Path) -> None:
    Image.fromarray(np.array([[7, 900, 30]], dtype=np.uint16)).save(tmp_path / "grey.png")
    _png_of_16_bits(tmp_path / "colours.png", np.array([[[300, 5, 70], [4000, 9, 8]]]))
    Image.fromarray(np.array([[np.nan, -1.5, 2.5]], dtype=np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.array([[np.nan, np.inf]], dtype=np.float32)).save(tmp_path / "none.tif")
    Image.new("RGB", (2, 2)).save(tmp_path / "plain.png")
    Image.new("L", (2, 2)).save(tmp_path / "plain-grey.png")
    expected = {
        "grey.png": (7, 900), "colours.png": (5, 4000), "float.tif": (-1.5, 2.5), "none.tif": None,
        "plain.png": None, "plain-grey.png": None,
    }  # fmt: skip
    for name, ends in expected.items():
        with open_image(tmp_path / name) as image:
            assert deep_ends(image) == ends


@pytest.mark.parametrize("levels", [(1.0,), (3.0, 3.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_levels_that_are_none_are_refused(levels: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"data\.levels is .*; give the lowest and the highest value"):
        DataConfig(levels=levels)


@pytest.mark.parametrize(("top", "shown"), [(255, 255), (256, 64), (1023, 255), (1024, 64), (16383, 255), (16384, 64)])
def test_the_smallest_depth_that_holds_a_photo_is_its_own(top: int, shown: int) -> None:
    assert to_8_bit(np.array([[0, top]], dtype=np.uint16)).tolist() == [[0, shown]]


def test_eight_levels_are_enough_to_show() -> None:
    """Of 256 that the depth could hold; fewer are stretched."""
    for top, shown in ((107, [0, 255]), (108, [100, 108])):
        assert to_8_bit(np.array([[100, top]], dtype=np.uint8)).tolist() == [shown]
    assert to_8_bit(np.array([[0.5, 0.53125]], dtype=np.float32)).tolist() == [[128, 135]]
    assert to_8_bit(np.array([[0.5, 0.53]], dtype=np.float32)).tolist() == [[0, 255]]


def test_the_brightest_value_of_a_depth_still_fits_it() -> None:
    """Only what lies beyond it is stretched between its own ends."""
    fits = np.linspace(1000, 4095, 600).round().astype(np.uint16).reshape(20, 30)
    np.testing.assert_array_equal(to_8_bit(fits, bits=12), np.rint(fits.astype(float) * 255 / 4095))
    beyond = np.linspace(1000, 4096, 600).round().astype(np.uint16).reshape(20, 30)
    np.testing.assert_array_equal(to_8_bit(beyond, bits=12)[[0, -1], [0, -1]], [0, 255])
