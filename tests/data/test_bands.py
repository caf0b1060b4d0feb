"""Files of more bands than colours: which bands are seen, what is said where none were chosen, what is damaged."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cti.config import DataConfig
from cti.data import Photo, load_image, read_photos
from cti.data import bands as bands_module
from cti.data.check import check_data
from cti.data.depth import Reading, to_8_bit
from cti.data.images import image_size, open_image, photos_among
from cti.predict.inputs import read_image
from cti.predict.photos import find_photos

CUBE = np.random.default_rng(0).integers(0, 4096, (6, 9, 5)).astype(np.uint16)


def _write(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(path, pixels, photometric="minisblack", metadata=None, **options)
    return path


FORMS = {
    "cube.npy": (CUBE, {}),
    "bands_first.npy": (np.moveaxis(CUBE, -1, 0), {}),
    "by_columns.npy": (np.asfortranarray(CUBE), {}),
    "cube.tif": (CUBE, {"planarconfig": "contig"}),
    "planes.tif": (np.moveaxis(CUBE, -1, 0), {"planarconfig": "separate"}),
    "packed.tif": (CUBE, {"planarconfig": "contig", "compression": "zlib"}),
    "four.tif": (CUBE[..., :4], {"planarconfig": "contig"}),  # which Pillow takes for colours
}


@pytest.mark.parametrize("name", FORMS)
def test_the_bands_that_were_named_become_colours(name: str, tmp_path: Path) -> None:
    pixels, options = FORMS[name]
    path = _write(tmp_path / name, pixels, **options)
    expected = np.stack([to_8_bit(CUBE[..., band]) for band in (3, 1, 0)], axis=-1)
    reading = Reading(bands=(4, 2, 1))
    np.testing.assert_array_equal(np.asarray(load_image(path, reading=reading)), expected)
    np.testing.assert_array_equal(np.asarray(load_image("x", content=path.read_bytes(), reading=reading)), expected)
    assert image_size(path) == (6, 9)
    leveled = np.asarray(load_image(path, reading=Reading((100.0, 3000.0), (4, 2, 1))))
    np.testing.assert_array_equal(leveled[..., 2], to_8_bit(CUBE[..., 0], levels=(100.0, 3000.0)))


@pytest.mark.parametrize("name", ["cube.npy", "cube.tif"])
def test_without_a_choice_the_number_of_bands_is_said(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / name, FORMS[name][0], **FORMS[name][1])
    monkeypatch.setitem(sys.modules, "tifffile", None)  # which is not needed to say so
    said = r"cube\.\w+ is not read: it has 5 bands; say which of them become red, green and blue, e\.g\. --data\.bands"
    with pytest.raises(ValueError, match=said):
        load_image(path)
    with pytest.raises(ValueError, match=r"it has 5 bands, and data\.bands names band 6\."):
        load_image(path, reading=Reading(bands=(1, 2, 6)))


def test_a_tiff_of_bands_asks_for_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "cube.tif", CUBE, planarconfig="contig")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ValueError, match=r'need the extra `bands`: pip install "cti\[bands\]"'):
        load_image(path, reading=Reading(bands=(1, 2, 3)))


def test_one_band_is_grey_and_three_are_colours(tmp_path: Path) -> None:
    grey = load_image(_write(tmp_path / "grey.npy", CUBE[..., 0]))
    assert np.array_equal(np.asarray(grey), np.repeat(to_8_bit(CUBE[..., 0])[..., None], 3, axis=2))
    one = load_image(_write(tmp_path / "one.npy", CUBE[..., :1]))
    assert one.tobytes() == grey.tobytes()
    three = np.asarray(load_image(_write(tmp_path / "three.npy", CUBE[..., :3])))
    np.testing.assert_array_equal(three[..., 1], to_8_bit(CUBE[..., 1]))


def test_ordinary_photos_are_as_they_were(tmp_path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    for name in ("a.png", "a.tif"):
        Image.fromarray(colours).save(tmp_path / name)
        np.testing.assert_array_equal(
            np.asarray(load_image(tmp_path / name, reading=Reading(bands=(3, 2, 1)))), colours
        )


@pytest.mark.parametrize("name", ["cube.npy", "cube.tif"])
def test_damaged_files_are_said_to_be(name: str, tmp_path: Path) -> None:
    path = _write(tmp_path / name, FORMS[name][0], **FORMS[name][1])
    whole = path.read_bytes()
    for keep in (4, 20, len(whole) // 2):
        path.write_bytes(whole[:keep])
        with pytest.raises(ValueError, match=f"{name} (is not a readable image|is damaged)"):
            load_image(path, reading=Reading(bands=(1, 2, 3)))


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 3, 4, 5)), np.zeros(7), np.zeros((3, 0)), np.zeros((4, 4), complex), np.array([["a"]])],
)
def test_an_array_that_is_no_image_is_said_to_be(pixels: NDArray[Any], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", pixels)
    with pytest.raises(ValueError, match=r"a\.npy is not a readable image \(its array of shape"):
        load_image(tmp_path / "a.npy")


@pytest.mark.parametrize("name", ["cube.npy", "cube.tif"])
def test_a_header_may_not_ask_for_more_memory_than_there_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / name, FORMS[name][0], **FORMS[name][1])
    monkeypatch.setattr(bands_module, "MOST", CUBE.nbytes - 1)
    with pytest.raises(ValueError, match=r"is not read: its bands take .* GB together, more than"):
        load_image(path, reading=Reading(bands=(1, 2, 3)))
    with pytest.raises(ValueError, match="more than the 53 pixels allowed"), open_image(path, max_pixels=53):
        pass


def test_the_check_reads_and_measures_the_named_bands(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for number, name in enumerate(("crack", "rust", "good")):
        (root / name).mkdir(parents=True)
        _write(root / name / f"{number}.npy", CUBE * (number + 1) // 3)
    config = DataConfig(root=str(root), bands=(5, 1, 2), val_fraction=0.0)
    report = check_data(config, cache=tmp_path / "a.json", progress=False)
    assert not report.broken
    assert "3 photos have more than 8 bits" in " ".join(report.doubts)
    photos = read_photos(config).photos()
    assert {photo.id for photo in photos} == {"crack__0", "rust__1", "good__2"}
    assert all(photo.load().size == (9, 6) for photo in photos)
    refused = check_data(DataConfig(root=str(root), val_fraction=0.0), cache=tmp_path / "a.json", progress=False)
    assert all("it has 5 bands; say which" in reason for reason in refused.broken.values())
    assert len(refused.broken) == 3


def test_numpy_files_are_photos_only_where_there_are_no_others(tmp_path: Path) -> None:
    assert photos_among(["a.jpg", "a.npy", "b.txt"]) == ["a.jpg"]
    assert photos_among(["a.npy", "b.NPY", "b.txt"]) == ["a.npy", "b.NPY"]
    _write(tmp_path / "a.npy", CUBE)
    assert list(find_photos([tmp_path])) == ["a"]
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    assert list(find_photos([tmp_path])) == ["b"]


def test_arrays_of_bands_are_read_by_a_network_that_reads_bands() -> None:
    reading = Reading((0.0, 4095.0), (4, 2, 1))
    image, _ = read_image(CUBE, reading=reading)
    np.testing.assert_array_equal(np.asarray(image)[..., 0], to_8_bit(CUBE[..., 3], levels=(0.0, 4095.0)))
    with pytest.raises(ValueError, match="cannot be used"):
        read_image(CUBE)


@pytest.mark.parametrize("bands", [(1, 2), (0, 1, 2), (1, 2, 3, 4)])
def test_bands_that_are_none_are_refused(bands: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"data\.bands is .*; name three bands, counted from 1, or none"):
        DataConfig(bands=bands)


def test_photos_of_one_set_share_their_reading(tmp_path: Path) -> None:
    path = _write(tmp_path / "cube.npy", CUBE)
    first = Photo("a", path, (), reading=Reading(bands=(1, 2, 3))).load()
    second = Photo("a", path, (), reading=Reading(bands=(3, 2, 1))).load()
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second)[..., ::-1])
