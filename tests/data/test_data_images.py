"""Every kind of photo loads right, every kind of broken one is refused by name; masks likewise."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cti.classes import voc_palette
from cti.data import load_image, load_mask, save_mask
from cti.data.images import MaskFile, image_size, open_image, oriented_size

RED, GREEN = (255, 0, 0), (0, 128, 0)


def _corner(width: int = 6, height: int = 4) -> NDArray[np.uint8]:
    """A green picture whose upper left pixel is red."""
    pixels = np.full((height, width, 3), GREEN, dtype=np.uint8)
    pixels[0, 0] = RED
    return pixels


def test_greyscale_and_bilevel_become_grey_rgb(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 77], [200, 255]], dtype=np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bits.png")
    grey = np.asarray(load_image(tmp_path / "grey.png"))
    assert grey.shape == (2, 2, 3)
    assert (grey[..., 0] == [[0, 77], [200, 255]]).all()
    assert (grey == grey[..., :1]).all()
    assert np.asarray(load_image(tmp_path / "bits.png"))[0, :, 0].tolist() == [255, 0]


def test_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    image.putpalette([*RED, *GREEN])
    image.save(tmp_path / "palette.png")
    assert np.asarray(load_image(tmp_path / "palette.png")).tolist() == [[list(RED), list(GREEN)]]


def test_palette_with_transparent_entry_lies_over_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    image.putpalette([*RED, *GREEN])
    image.save(tmp_path / "palette.png", transparency=0)
    assert np.asarray(load_image(tmp_path / "palette.png")).tolist() == [[[255, 255, 255], list(GREEN)]]


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_alpha_lies_over_white(tmp_path: Path, suffix: str) -> None:
    pixels = np.zeros((1, 3, 4), dtype=np.uint8)
    pixels[0, :, 3] = [0, 128, 255]
    Image.fromarray(pixels).save(tmp_path / f"alpha.{suffix}", lossless=True)
    assert np.asarray(load_image(tmp_path / f"alpha.{suffix}"))[0, :, 0].tolist() == pytest.approx([255, 127, 0], abs=1)


def test_grey_with_alpha_lies_over_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[50, 0], [50, 255]]], dtype=np.uint8), "LA").save(tmp_path / "la.png")
    assert np.asarray(load_image(tmp_path / "la.png"))[0, :, 0].tolist() == [255, 50]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16)).save(tmp_path / f"deep.{suffix}")
    assert np.asarray(load_image(tmp_path / f"deep.{suffix}"))[0, :, 1].tolist() == [0, 100, 255]


@pytest.mark.parametrize(("top", "expected"), [(1.0, [0, 128, 255]), (255.0, [0, 128, 255])])
def test_floating_point_tiff(tmp_path: Path, top: float, expected: list[int]) -> None:
    Image.fromarray(np.array([[0, 0.5 * top, top]], dtype=np.float32)).save(tmp_path / "float.tif")
    assert np.asarray(load_image(tmp_path / "float.tif"))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_has_the_right_colours(tmp_path: Path, suffix: str) -> None:
    image = Image.new("RGB", (16, 16), RED).convert("CMYK")
    image.save(tmp_path / f"print.{suffix}")
    assert np.asarray(load_image(tmp_path / f"print.{suffix}"))[8, 8].tolist() == pytest.approx(RED, abs=6)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int, suffix: str) -> None:
    # What a camera stores for an upright picture, by the meaning of the eight values in the EXIF standard.
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](_corner())
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, lossless=True)
    assert (np.asarray(load_image(path)) == _corner()).all()
    with open_image(path) as opened:
        assert oriented_size(opened) == (6, 4)


def test_broken_exif_does_not_lose_the_photo(tmp_path: Path) -> None:
    Image.fromarray(_corner()).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00garbage!", quality=95)
    assert load_image(tmp_path / "a.jpg").size == (6, 4)


@pytest.mark.parametrize("orientation", [1, 6])
def test_draft_is_smaller_but_never_too_small(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    ramp = np.tile(np.linspace(0, 255, 400, dtype=np.uint8)[:, None, None], (1, 640, 3))
    Image.fromarray(ramp).save(tmp_path / "large.jpg", quality=95, exif=exif)
    full = load_image(tmp_path / "large.jpg")
    small = load_image(tmp_path / "large.jpg", enough=(100, 100) if orientation == 1 else (100, 150))
    assert full.size == ((640, 400) if orientation == 1 else (400, 640))
    assert small.size == ((160, 100) if orientation == 1 else (100, 160))
    difference = np.asarray(small, dtype=float) - np.asarray(full.resize(small.size, Image.Resampling.BOX), dtype=float)
    assert np.abs(difference).mean() < 3


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert np.asarray(load_image(tmp_path / "moving.gif"))[0, 0].tolist() == list(RED)


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "bomb.png")
    assert image_size(tmp_path / "bomb.png", max_pixels=1200) == (30, 40)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("the bomb was decoded"))
    with pytest.raises(ValueError, match=r"bomb\.png was not decoded: 40 x 30 = 1200 pixels.*data\.max_pixels"):
        load_image(tmp_path / "bomb.png", max_pixels=1199)


def test_what_pillow_itself_calls_a_bomb_is_refused_by_name(tmp_path: Path) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT")
    with pytest.raises(ValueError, match=r"bomb\.png was not decoded"):
        load_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "gif", "bmp"])
def test_truncated_files_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, format={"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
    path = tmp_path / f"cut.{suffix}"
    for share in (0.0, 0.02, 0.5, 0.9):
        path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * share)])
        with pytest.raises(ValueError, match=rf"cut\.{suffix}.*(replace|remove)"):
            load_image(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_an_image_or_a_sentence(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kind = data.draw(st.sampled_from(["jpeg", "png", "tiff", "gif", "webp", "ppm"]))
    buffer = io.BytesIO()
    Image.fromarray(_corner(24, 16)).save(buffer, format=kind)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "photo"
    path.write_bytes(content)
    with warnings.catch_warnings():  # Pillow warns of what it can get over
        warnings.simplefilter("ignore")
        try:
            outcome = load_image(path, max_pixels=1_000_000).mode
        except ValueError as error:
            outcome = str(error)
    assert outcome == "RGB" or str(path) in outcome


def test_a_missing_photo_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg.*restore"):
        load_image(tmp_path / "nowhere.jpg")


def test_programs_in_postscript_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(ValueError, match="not a readable image"):
        load_image(tmp_path / "photo.jpg")


@given(height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_masks_come_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, seed: int
) -> None:
    mask = np.random.default_rng(seed).choice(np.array([0, 1, 2, 20, 255], dtype=np.uint8), (height, width))
    path = tmp_path_factory.mktemp("mask") / "a.png"
    save_mask(path, mask)
    assert (load_mask(path, 20) == mask).all()
    with Image.open(path) as image:
        assert image.mode == "P"
        assert (
            np.array(image.getpalette()).reshape(-1, 3) == voc_palette()[: len(image.getpalette() or []) // 3]
        ).all()
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


def test_mask_values_go_through_the_table(tmp_path: Path) -> None:
    save_mask(tmp_path / "a.png", np.array([[0, 1, 2, 255]], dtype=np.uint8))
    table = bytearray([255] * 256)
    table[0], table[2] = 0, 1
    assert MaskFile(tmp_path / "a.png", 2, bytes(table)).load().tolist() == [[0, 255, 1, 255]]


def test_grey_masks_are_read_too(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 3, 255]], dtype=np.uint8)).save(tmp_path / "grey.png")
    assert load_mask(tmp_path / "grey.png", 3).tolist() == [[0, 3, 255]]
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "bits.png")
    assert load_mask(tmp_path / "bits.png", 1).tolist() == [[0, 1]]
    assert load_mask(tmp_path / "bits.png", 1).dtype == np.uint8


def test_unknown_mask_values_are_named(tmp_path: Path) -> None:
    save_mask(tmp_path / "a.png", np.array([[0, 3, 4, 9, 255]], dtype=np.uint8))
    with pytest.raises(ValueError, match=r"a\.png holds the unknown values 4, 9; with 3 classes"):
        load_mask(tmp_path / "a.png", 3)
    for many, named in ((8, "1, 2, 3, 4, 5, 6, 7, 8;"), (9, r"1, 2, 3, 4, 5, 6, 7, 8, \.\.\.;")):
        save_mask(tmp_path / "a.png", np.arange(many + 1, dtype=np.uint8)[None])
        with pytest.raises(ValueError, match=f"unknown values {named} with 0 classes"):
            load_mask(tmp_path / "a.png", 0)


def test_coloured_deep_and_jpeg_masks_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3)).save(tmp_path / "rgb.png")
    Image.fromarray(np.ones((3, 3), dtype=np.uint16)).save(tmp_path / "deep.png")
    Image.new("L", (3, 3)).save(tmp_path / "blurred.jpg")
    with pytest.raises(ValueError, match=r"rgb\.png has the colour mode RGB; save it as an 8-bit indexed"):
        load_mask(tmp_path / "rgb.png", 3)
    with pytest.raises(ValueError, match=r"deep\.png has the colour mode I;16"):
        load_mask(tmp_path / "deep.png", 3)
    with pytest.raises(ValueError, match=r"blurred\.jpg is a JPEG"):
        load_mask(tmp_path / "blurred.jpg", 3)
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        load_mask(tmp_path / "none.png", 3)
