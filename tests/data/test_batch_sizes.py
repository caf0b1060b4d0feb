"""How a photo is seen: at which size, whole or by windows, and how many of one size the memory of attention allows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cti.config import RuntimeConfig
from cti.data import batches
from cti.data.batches import (
    MAX_TOKENS,
    Sight,
    fit_to_patches,
    load_batches,
    nearest_grid,
    parts,
    photos_at_once,
    sight,
    size_batches,
    split_large,
)
from cti.data.photos import Photo

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


@pytest.mark.parametrize(
    ("size", "asked", "expected"),
    [
        ((80, 160), 4, 4),
        ((80, 160), 10**9, MAX_TOKENS**2 // (10 * 20) ** 2),
        ((160, 80), 10**9, MAX_TOKENS**2 // (10 * 20) ** 2),
        ((8 * MAX_TOKENS, 8), 16, 1),
        ((16 * MAX_TOKENS, 8), 16, 1),  # never none
    ],
)
def test_attention_needs_no_more_than_that_of_the_largest_photo(
    size: tuple[int, int], asked: int, expected: int
) -> None:
    assert photos_at_once(size, 8, asked) == expected


def test_the_last_part_may_be_shorter() -> None:
    assert [list(part) for part in parts(range(5), 2)] == [[0, 1], [2, 3], [4]]
    assert not list(parts([], 2))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 24 patches at once, and windows of two patches of 8 pixels."""
    monkeypatch.setattr(batches, "MAX_TOKENS", 24)
    monkeypatch.setattr(batches, "AUTO_WINDOW", 16)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((32, 48), (32, 48)),  # 24 patches
        ((40, 40), (32, 32)),  # 5 x 5 by the root of 24/25
        ((80, 80), (32, 32)),
        ((8, 800), (8, 192)),  # one side is a single patch, so the other one is cut
        ((800, 8), (192, 8)),
        ((1, 1), (8, 8)),
    ],
)
def test_a_photo_of_too_many_patches_is_reduced(size: tuple[int, int], seen: tuple[int, int]) -> None:
    assert fit_to_patches(size, 8) == seen


def test_the_grid_is_the_nearest_and_never_empty() -> None:
    assert nearest_grid((11, 13), 8) == (1, 2)
    assert nearest_grid((3, 100), 8, 0.5) == (1, 6)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("size", "window", "expected"),
    [
        ((32, 48), -1, Sight((32, 48))),
        ((40, 40), -1, Sight((40, 40), 16)),
        ((40, 40), 0, Sight((32, 32))),
        ((32, 32), 32, Sight((32, 32))),
        ((32, 40), 32, Sight((32, 40), 32)),
        ((40, 32), 32, Sight((40, 32), 32)),
        ((16, 24), 23, Sight((16, 24), 16)),  # whole patches
        ((16, 16), 1, Sight((16, 16), 8)),  # of one patch at least
        ((80, 80), 800, Sight((80, 80), 32)),  # a window has no more patches than fit, either
    ],
)
def test_a_photo_is_seen_whole_or_by_windows(size: tuple[int, int], window: int, expected: Sight) -> None:
    assert sight(size, 0, window, 8) == expected


@pytest.mark.usefixtures("few")
def test_the_longest_side_is_brought_to_what_is_asked_for() -> None:
    assert sight((100, 50), 32, -1, 8) == Sight((32, 16))
    assert sight((50, 100), 64, -1, 8) == Sight((32, 64), 16)
    assert Sight((64, 8), 8).at_most(4, 8) == Sight((40, 8), 8)
    assert Sight((8, 64), 8).at_most(4, 8) == Sight((8, 40), 8)


def _photos(folder: Path, *sizes: tuple[int, int]) -> list[Photo]:
    """Photos of noise, of these heights and widths."""
    photos = []
    for number, (height, width) in enumerate(sizes):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        photos.append(Photo(str(number), folder / f"{number}.png", ()))
    return photos


@pytest.mark.usefixtures("few")
def test_large_photos_are_told_from_those_seen_whole(tmp_path: Path) -> None:
    photos = _photos(tmp_path, (40, 40), (32, 48), (48, 48))
    assert split_large(photos, 0, 0, 8) == (photos, [])
    whole, large = split_large(photos, 0, -1, 8)
    assert whole == [photos[1]]
    assert large == [(photos[0], Sight((40, 40), 16)), (photos[2], Sight((48, 48), 16))]


@pytest.mark.parametrize("workers", [0, -1])
def test_photos_of_one_size_are_loaded_together(
    tmp_path: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = _photos(tmp_path, (15, 24), (32, 20), (16, 25), (16, 24), (32, 20))
    found = size_batches(photos, 0, 8, 2)
    assert [([photo.id for photo in batch.photos], batch.sizes, batch.size) for batch in found] == [
        (["0", "2"], ((15, 24), (16, 25)), (16, 24)),
        (["3"], ((16, 24),), (16, 24)),
        (["1", "4"], ((32, 20), (32, 20)), (32, 16)),
    ]
    loaded = list(load_batches(found, MEAN, STD, RuntimeConfig(workers=workers), "reading"))
    assert [batch for batch, _ in loaded] == found
    for batch, images in loaded:
        for photo, image in zip(batch.photos, images, strict=True):
            pixels = np.asarray(photo.load().resize(batch.size[::-1], Image.Resampling.BICUBIC)) / 255
            expected = torch.from_numpy((pixels - MEAN) / STD).permute(2, 0, 1).float()
            torch.testing.assert_close(image, expected, atol=1e-5, rtol=1e-5)
    out, err = capsys.readouterr()
    assert out == ""
    assert "reading" in err
    assert not list(load_batches([], MEAN, STD, RuntimeConfig(workers=0), "reading"))
    list(load_batches(found, MEAN, STD, RuntimeConfig(workers=0)))
    assert capsys.readouterr() == ("", "")
