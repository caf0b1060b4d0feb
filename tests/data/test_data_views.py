"""Views and datasets: drawn from (seed, epoch, index) alone, and right against a plain reference."""

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from cti.data.datasets import TagDataset, TwoViewDataset, drawing_from
from cti.data.photos import Photo
from cti.data.transforms import Normalize, TwoViews, draw_crop, rand_augment

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def photos(tmp_path: Path, write_photo: Callable[..., Path]) -> list[Photo]:
    return [
        Photo(str(index), write_photo(tmp_path / f"{index}.jpg", size=(60, 45), seed=index), tags)
        for index, tags in enumerate([(0,), (1, 2), ()])
    ]


def test_an_item_depends_on_seed_epoch_and_index_only(photos: list[Photo]) -> None:
    dataset = TwoViewDataset(photos, 3, 32, MEAN, STD, seed=4)
    item = dataset[2, 1]
    random.seed(99)
    dataset[0, 0]
    again = TwoViewDataset(photos, 3, 32, MEAN, STD, seed=4)[2, 1]
    assert all(torch.equal(item[key], again[key]) for key in item)
    assert item["images"].shape == item["images_pos"].shape == (3, 32, 32)
    assert item["labels"].tolist() == [0.0, 1.0, 1.0]
    assert item["labels"].dtype == torch.float32
    assert item["index"].item() == 1
    others = [dataset[3, 1], dataset[2, 0], TwoViewDataset(photos, 3, 32, MEAN, STD, seed=5)[2, 1]]
    assert not any(torch.equal(item["images"], other["images"]) for other in others)
    assert not torch.equal(item["images"], item["images_pos"])


def test_the_process_keeps_its_own_random_numbers(photos: list[Photo]) -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002

    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    undisturbed = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    TwoViewDataset(photos, 3, 32, MEAN, STD)[0, 0]
    with drawing_from(-1, 2):
        assert draw() != undisturbed
    with pytest.raises(ZeroDivisionError):
        _fail_while_drawing()
    assert draw() == undisturbed


def test_a_key_draws_as_it_always_did() -> None:
    """Numbers of earlier runs come again, and a run that was begun goes on as it would have."""
    for key, drawn in (
        ((3, 1, 2), (0.45358646, 0.33910036, 0.10331410)),
        ((-1,), (0.82459226, 0.92246734, 0.77704656)),
    ):
        with drawing_from(*key):
            found = random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002
        assert found == pytest.approx(drawn, abs=1e-7)


def _fail_while_drawing() -> None:
    with drawing_from(3):
        random.random()
        raise ZeroDivisionError


def test_workers_and_batches_change_nothing(photos: list[Photo]) -> None:
    dataset = TwoViewDataset(photos, 3, 32, MEAN, STD)
    keys = [(1, 2), (1, 0), (1, 1)]
    loader = DataLoader(dataset, batch_size=3, sampler=keys, num_workers=1)  # type: ignore[arg-type]
    (batch,) = list(loader)
    assert batch["index"].tolist() == [2, 0, 1]
    assert batch["labels"].shape == (3, 3)
    for row, key in enumerate(keys):
        assert torch.equal(batch["images_pos"][row], dataset[key]["images_pos"])


def test_tags_are_scored_on_the_whole_photo(photos: list[Photo]) -> None:
    item = TagDataset(photos, 3, 32, MEAN, STD)[1]
    with Image.open(photos[1].image) as image:
        whole = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC)) / 255
    expected = ((whole - MEAN) / STD).transpose(2, 0, 1)
    assert item["images"].numpy() == pytest.approx(expected, abs=1e-5)
    assert item["labels"].tolist() == [0.0, 1.0, 1.0]


@given(width=st.integers(1, 900), height=st.integers(1, 900), seed=st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_crops_stay_inside_and_keep_their_limits(width: int, height: int, seed: int) -> None:
    with drawing_from(seed):
        left, upper, right, lower = draw_crop((width, height))
    assert 0 <= left < right <= width
    assert 0 <= upper < lower <= height
    if min(width, height) > 100 and 3 / 4 <= width / height <= 4 / 3:
        assert 0.29 * width * height <= (right - left) * (lower - upper)
        assert 0.73 <= (right - left) / (lower - upper) <= 1.37


def test_crops_use_the_whole_range_of_areas() -> None:
    with drawing_from(0):
        boxes = [draw_crop((400, 300)) for _ in range(500)]
    shares = [(right - left) * (lower - upper) / 120_000 for left, upper, right, lower in boxes]
    assert min(shares) < 0.35
    assert max(shares) > 0.95
    assert 0.45 < np.mean(shares) < 0.65


def test_a_view_is_the_crop_resized_and_flipped_half_the_time(tmp_path: Path) -> None:
    ramp = np.zeros((90, 120, 3), dtype=np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(120) * 2, np.arange(90)[:, None] * 2
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    views, flipped = TwoViews(16, (0, 0, 0), (1, 1, 1)), 0
    for seed in range(40):
        with drawing_from(seed):
            view = views(tmp_path / "ramp.png")[0] * 255
        with drawing_from(seed):
            left, upper, right, lower = draw_crop((120, 90))
            draw_crop((120, 90))
            flip = random.random() < 0.5
        expected = 2 * (left + (right - left) * (np.arange(16) + 0.5) / 16 - 0.5)
        columns = view[0].mean(dim=0).numpy()
        assert columns[2:-2] == pytest.approx((expected[::-1] if flip else expected)[2:-2], abs=2.5)
        rows = 2 * (upper + (lower - upper) * (np.arange(16) + 0.5) / 16 - 0.5)
        assert view[1].mean(dim=1).numpy()[2:-2] == pytest.approx(rows[2:-2], abs=2.5)
        flipped += flip
    assert 10 < flipped < 30


@pytest.mark.parametrize("orientation", [1, 6])
def test_fast_decoding_shows_the_same_crop(tmp_path: Path, orientation: int) -> None:
    rows, columns = np.mgrid[:600, :800]
    smooth = np.stack([columns / 4, rows / 4, (rows + columns) / 8], axis=-1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(smooth).save(tmp_path / "large.jpg", quality=98, subsampling=0, exif=exif)
    Image.fromarray(smooth).save(tmp_path / "large.png", exif=exif)
    views = TwoViews(32, (0, 0, 0), (1, 1, 1))
    for seed in range(4):
        with drawing_from(seed):
            fast = views(tmp_path / "large.jpg")[0]
        with drawing_from(seed):
            slow = views(tmp_path / "large.png")[0]
        assert (fast - slow).abs().max() < 0.03


def test_normalize() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    result = Normalize(MEAN, STD)(Image.fromarray(pixels))
    assert result.dtype == torch.float32
    assert result.is_contiguous()
    assert result.numpy() == pytest.approx(((pixels / 255 - MEAN) / STD).transpose(2, 0, 1), abs=1e-5)


def test_rand_augment_never_asks_for_no_bits() -> None:
    augment = rand_augment(32, MEAN)
    settings = augment.ops[0].hparams
    assert settings["translate_const"] == 14  # 45 % of the side
    assert settings["img_mean"] == (124, 116, 104)
    assert settings["interpolation"] == Image.Resampling.BICUBIC
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    for operation in augment.ops:
        if operation.name.startswith("Posterize"):
            levels = [operation.level_fn(level, operation.hparams)[0] for level in np.linspace(0, 10, 21)]
            assert min(levels) == 1
            assert max(levels) == 4
    changed = 0
    with drawing_from(0):
        for _ in range(200):
            changed += not math.isclose(np.abs(np.asarray(augment(image), dtype=float) - np.asarray(image)).mean(), 0)
    assert 100 < changed < 190  # two operations, each with probability 1/2


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_tiny_and_narrow_photos_give_views(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (10, 20, 30)).save(tmp_path / "thin.png")
    for seed in (*range(20), 122):  # by which a single pixel gives an empty box
        with drawing_from(seed):
            left, upper, right, lower = draw_crop(size)
        assert 0 <= left < right <= size[0]
        assert 0 <= upper < lower <= size[1]
        with drawing_from(seed):
            view = TwoViews(8, (0, 0, 0), (1, 1, 1))(tmp_path / "thin.png")[0]
        assert (view * 255).mean(dim=(1, 2)).tolist() == pytest.approx([10, 20, 30], abs=0.01)


def test_the_smallest_area_of_a_crop_can_be_raised() -> None:
    def areas(scale: tuple[float, float]) -> list[float]:
        with drawing_from(0):
            boxes = [draw_crop((100, 100), scale) for _ in range(200)]
        return [(right - left) * (lower - upper) / 100**2 for left, upper, right, lower in boxes]

    assert min(areas((0.3, 1.2))) < 0.5
    assert min(areas((0.7, 1.2))) > 0.68  # whole pixels
