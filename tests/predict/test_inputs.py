"""Whatever people hand in as a photo."""

import io
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cti.data.depth import Reading
from cti.predict import places
from cti.predict.inputs import read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_every_form_is_the_same_photo(photo: Path) -> None:
    floats = PIXELS / 255
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1)
    opaque = np.dstack([PIXELS, np.full((20, 30), 255, np.uint8)])
    forms = [str(photo), photo, photo.read_bytes(), Image.open(photo), PIXELS, floats, floats.astype(np.float32)]
    for form in [*forms, tensor, tensor / 255, opaque, tensor.flip(0).flip(0)]:
        np.testing.assert_array_equal(np.asarray(read_image(form)[0]), PIXELS)
    grey = PIXELS[..., 0]
    for form in (grey, grey / 255, torch.from_numpy(grey.copy())[None]):
        np.testing.assert_array_equal(np.asarray(read_image(form)[0])[..., 1], grey)
    assert (read_image(photo)[1], read_image(photo.read_bytes())[1]) == (str(photo), "")


def test_addresses_are_read(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(photo.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/photo.png"
        image, source = read_image(address)
        np.testing.assert_array_equal(np.asarray(image), PIXELS)
        assert source == address
        with pytest.raises(ValueError, match=r"gone.png could not be had \(.*404.*\); check the address"):
            read_image(address.replace("photo", "gone"))
        monkeypatch.setattr(places, "MAX_BYTES", 100)
        with pytest.raises(ValueError, match="download it and give its path"):
            read_image(address)
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (b"no photo", "the bytes given is not a readable image"),
        (np.zeros((3, 8, 8), np.uint8), r"shape \(3, 8, 8\) and type uint8 cannot be used; give \(H, W, 3\)"),
        (np.zeros((8, 8, 3), np.int64), "type int64 cannot be used"),
        (np.zeros((0, 8, 3), np.uint8), "cannot be used"),
        (np.full((8, 8, 3), 200.0), r"floats from 200 to 200 cannot be used; give floats in \[0, 1\], or uint8"),
        (np.full((8, 8, 3), np.nan), "floats from nan"),
        (np.array([[0.0, 1.001]]), "floats from 0 to 1 cannot be used"),
        (np.array([[-0.01, 1.0]]), "floats from -0.01 to 1 cannot be used"),
        (np.zeros((8, 8), np.uint16), "type uint16 cannot be used"),
        (np.zeros((8, 8), np.bool_), "type bool cannot be used"),
        (np.zeros((8, 8, 1), np.uint8), r"shape \(8, 8, 1\)"),
        (torch.zeros(2, 8, 8), r"tensor of shape \(2, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8), r"tensor of shape \(2, 3, 8, 8\) cannot be used; .* a batch as a list"),
        (torch.zeros(8, 8, 3), r"tensor of shape \(8, 8, 3\)"),
        (7, "A int is no photo; give a path, an address"),
    ],
)
def test_what_is_no_photo_gets_one_sentence(image: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_image(image)


def test_folders_and_patterns_are_sent_to_stream(photo: Path) -> None:
    for several in (photo.parent, photo.parent / "*.png"):
        with pytest.raises(ValueError, match=r"names several photos; use predictor.stream"):
            read_image(several)


def test_opened_files_are_read_and_iterators_sent_to_stream(photo: Path) -> None:
    with photo.open("rb") as handle:
        opened, source = read_image(handle)
    assert source == ""
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(read_image(photo)[0]))
    np.testing.assert_array_equal(np.asarray(read_image(io.BytesIO(photo.read_bytes()))[0]), np.asarray(opened))
    with pytest.raises(ValueError, match=r"An iterator of photos goes into predictor\.stream"):
        read_image(iter([photo]))  # type: ignore[arg-type]
    with photo.open(encoding="latin-1") as text, pytest.raises(ValueError, match="is no photo"):
        read_image(text)  # type: ignore[arg-type]


def test_one_pixel_is_a_photo_and_none_is_not() -> None:
    for shape in ((1, 1), (1, 1, 3), (1, 5)):
        assert read_image(np.full(shape, 0.5))[0].size == (shape[1], shape[0])
    for shape in ((0, 3), (3, 0, 3), (4, 4, 2), (4,)):
        with pytest.raises(ValueError, match="cannot be used"):
            read_image(np.zeros(shape))


def test_floats_are_rounded() -> None:
    floats = np.array([[0.0, 0.4999, 0.5, 0.999, 1.0]])
    assert np.asarray(read_image(floats)[0])[0, :, 0].tolist() == [0, 127, 128, 255, 255]
    graph = torch.full((3, 1, 1), 0.5, requires_grad=True) * 1
    assert np.asarray(read_image(graph)[0])[0, 0].tolist() == [128, 128, 128]


def test_levels_count_however_a_file_comes(tmp_path: Path) -> None:
    """All but arrays and tensors, which are as they are."""
    path = tmp_path / "deep.png"
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)).save(path)
    expected = np.asarray(read_image(path, reading=Reading((0, 1199)))[0])
    assert expected.max() == 127
    with path.open("rb") as handle, Image.open(path) as image:
        for form in (path, str(path), path.read_bytes(), handle, image):
            np.testing.assert_array_equal(np.asarray(read_image(form, reading=Reading((0, 1199)))[0]), expected)


def test_the_limit_of_pixels_counts_however_a_file_comes(photo: Path) -> None:
    with photo.open("rb") as handle:
        for form in (photo, str(photo), photo.read_bytes(), handle):
            with pytest.raises(ValueError, match="600 pixels are more than the 599 pixels allowed"):
                read_image(form, 599)
