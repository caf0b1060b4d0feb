import colorsys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cti.config import SegmentConfig
from cti.data.images import save_mask
from cti.data.photos import Photo
from cti.segment.dataset import SegmentationDataset, change_colours, draw_crop, working_size
from cti.segment.masks import MaskFolder

Drawn = tuple[list[Photo], Path]
COLOURS = torch.tensor([[40, 40, 40], [220, 40, 40], [40, 220, 40], [40, 40, 220]]) / 255
NEUTRAL = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def make(drawn: Drawn, config: SegmentConfig, seed: int = 0) -> SegmentationDataset:
    return SegmentationDataset(drawn[0], MaskFolder(drawn[1], 3), 3, config, *NEUTRAL, seed=seed)


def test_items_depend_on_seed_epoch_and_index_alone(drawn: Drawn, tiny: SegmentConfig) -> None:
    dataset, again = make(drawn, tiny), make(drawn, tiny)
    first = dataset[3, 1]
    torch.manual_seed(99)
    for name, value in again[3, 1].items():
        assert torch.equal(first[name], value)
    assert not torch.equal(first["images"], dataset[4, 1]["images"])
    assert not torch.equal(first["images"], make(drawn, tiny, seed=1)[3, 1]["images"])


def test_items_have_the_promised_form(drawn: Drawn, tiny: SegmentConfig) -> None:
    dataset = make(drawn, tiny)
    assert len(dataset) == 6
    item = dataset[0, 0]
    assert item["images"].shape == (3, 32, 32)
    assert item["images"].dtype == torch.float32
    assert item["masks"].shape == (32, 32)
    assert item["masks"].dtype == torch.int64


def test_what_lies_around_a_small_photo_is_not_labelled(tmp_path: Path, tiny: SegmentConfig) -> None:
    """A photo of nothing but class 2, smaller than the crop: the rest is the mean colour and 255."""
    Image.fromarray(np.full((20, 25, 3), 200, np.uint8)).save(tmp_path / "p.png")
    photo = Photo("p", tmp_path / "p.png", (1,))
    mean, std = (0.5, 0.5, 0.5), (0.1, 0.1, 0.1)
    config = replace(tiny, jitter=0.0, long_side=0, scale_range=(1.0, 1.0))
    dataset = SegmentationDataset([photo], lambda _: np.full((20, 25), 2, np.uint8), 3, config, mean, std)
    places = set()
    for epoch in range(4):
        item = dataset[epoch, 0]
        inside = item["masks"] == 2
        assert int(inside.sum()) == 20 * 25
        assert (item["masks"][~inside] == 255).all()
        assert (item["images"][:, ~inside] == 0).all()
        torch.testing.assert_close(item["images"][:, inside], torch.full((3, 500), (200 / 255 - 0.5) / 0.1))
        places.add(tuple(inside.nonzero()[0].tolist()))
    assert len(places) > 1


@pytest.mark.parametrize("long_side", [0, 24, 90])
def test_image_and_mask_stay_aligned(drawn: Drawn, tiny: SegmentConfig, long_side: int) -> None:
    dataset = make(drawn, replace(tiny, jitter=0.0, long_side=long_side))
    right = total = 0
    for epoch in range(5):
        for index in range(len(dataset)):
            item = dataset[epoch, index]
            masks = item["masks"]
            assert set(masks.unique().tolist()) <= {0, 1, 2, 3, 255}
            padding = masks == 255
            assert (item["images"][:, padding] == 0).all()  # the mean colour
            distances = (item["images"][:, None] - COLOURS.T[..., None, None]).square().sum(dim=0)
            right += int((distances.argmin(dim=0) == masks)[~padding].sum())
            total += int((~padding).sum())
    # Edges that the image blends and the mask does not are the only pixels in doubt.
    assert right / total > 0.93
    assert total > 0.2 * masks.numel() * 30


def test_a_reduced_jpeg_stays_aligned(tmp_path: Path, tiny: SegmentConfig) -> None:
    mask = np.zeros((301, 403), dtype=np.uint8)
    mask[90:250, 200:390] = 2
    Image.fromarray((COLOURS.numpy() * 255).astype(np.uint8)[mask]).save(tmp_path / "big.jpg", quality=95)
    save_mask(tmp_path / "big.png", mask)
    config = replace(tiny, jitter=0.0, long_side=40, crop_size=40, scale_range=(0.9, 1.1))
    dataset = SegmentationDataset(
        [Photo("big", tmp_path / "big.jpg", (1,))], MaskFolder(tmp_path, 3), 3, config, *NEUTRAL
    )
    for epoch in range(6):
        item = dataset[epoch, 0]
        green = item["images"][1] > 0.5
        assert ((green == (item["masks"] == 2)) | (item["masks"] == 255)).float().mean() > 0.95


sizes = st.tuples(st.integers(1, 900), st.integers(1, 900))


@settings(deadline=None)
@given(sizes, st.integers(0, 500), st.integers(0, 10**6))
def test_crops_lie_within_photo_and_crop(size: tuple[int, int], long_side: int, seed: int) -> None:
    config = SegmentConfig(crop_size=64, long_side=long_side)
    crop = draw_crop(size, config, np.random.default_rng(seed))
    left, top, right, bottom = crop.box(size)
    assert 0 <= left < right <= size[1]
    assert 0 <= top < bottom <= size[0]
    for scaled, start, seen, offset in zip(crop.scaled, crop.start, crop.seen, crop.offset, strict=True):
        assert seen == min(scaled, 64)
        assert 0 <= start <= scaled - seen
        assert 0 <= offset <= 64 - seen


def test_scales_cover_their_range() -> None:
    config = SegmentConfig(crop_size=64, long_side=100)
    rng = np.random.default_rng(0)
    crops = [draw_crop((75, 100), config, rng) for _ in range(500)]
    widths = np.array([crop.scaled[1] for crop in crops])
    assert 50 <= widths.min() < 55
    assert 190 < widths.max() <= 200
    assert abs(np.log(widths / 100).mean()) < 0.06  # as often half as double
    assert 0.4 < np.mean([crop.flip for crop in crops]) < 0.6


@pytest.mark.parametrize(
    ("size", "long_side", "scale", "expected"),
    [((300, 400), 0, 1.0, (300, 400)), ((300, 400), 200, 1.0, (150, 200)), ((300, 400), 200, 0.5, (75, 100)),
     ((1, 500), 50, 1.0, (1, 50))],
)  # fmt: skip
def test_working_size(size: tuple[int, int], long_side: int, scale: float, expected: tuple[int, int]) -> None:
    assert working_size(size, long_side, scale) == expected


def test_colours_change_within_bounds_and_not_at_all_at_zero() -> None:
    image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    assert torch.equal(change_colours(image, 0.0, np.random.default_rng(0)), image)
    changed = change_colours(image, 0.4, np.random.default_rng(0))
    assert changed.dtype == torch.uint8
    assert not torch.equal(changed, image)
    assert torch.equal(changed, change_colours(image, 0.4, np.random.default_rng(0)))


def _changed(colour: tuple[int, int, int], strength: float = 0.4) -> np.ndarray:
    """What becomes of a picture of one colour, (300, 3), over many draws."""
    image = torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, 2, 2)
    return np.array([change_colours(image, strength, np.random.default_rng(seed))[:, 0, 0] for seed in range(300)])


def test_brightness_changes_by_the_strength_and_hue_by_a_fifth_of_it() -> None:
    grey = _changed((100, 100, 100))  # neither hue nor saturation, and contrast keeps its mean
    assert (grey == grey[:, :1]).all()
    assert 57 <= grey.min() < 63  # each of the four changes rounds down
    assert 136 < grey.max() <= 140
    hues = np.array([colorsys.rgb_to_hsv(*(pixel / 255))[0] for pixel in _changed((150, 50, 50))])
    hues = np.where(hues > 0.5, hues - 1, hues)
    assert -0.085 < hues.min() < -0.07
    assert 0.07 < hues.max() < 0.085
    ranges = _changed((120, 100, 100))
    spread = (ranges.max(axis=1) - ranges.min(axis=1)) / ranges.mean(axis=1)  # what brightness leaves as it is
    plain = 20 / (320 / 3)
    assert 0.34 * plain < spread.min() < 0.5 * plain  # by contrast and saturation, both between 0.6 and 1.4
    assert 1.6 * plain < spread.max() < 2.05 * plain


def test_contrast_changes_by_the_strength() -> None:
    image = torch.tensor([80, 120], dtype=torch.uint8).expand(3, 1, 2)
    changed = [change_colours(image, 0.4, np.random.default_rng(seed))[0, 0].numpy() for seed in range(300)]
    ratios = np.array([(float(b) - float(a)) / (float(b) + float(a)) for a, b in changed]) / 0.2
    assert 0.55 < ratios.min() < 0.66  # they are rounded
    assert 1.34 < ratios.max() < 1.46


def test_weights_lie_where_a_person_gave_the_label(drawn: Drawn, tiny: SegmentConfig) -> None:
    """The reviewed pixels are those of one class, so that weights can be compared with the crop's own mask."""
    masks = MaskFolder(drawn[1], 3)

    def reviewed(photo: Photo) -> NDArray[np.bool_] | None:
        return masks(photo) == 2 if photo.id != "p0" else None

    config = replace(tiny, reviewed_weight=4.0)
    dataset = SegmentationDataset(drawn[0], masks, 3, config, *NEUTRAL, reviewed=reviewed)
    heavy = 0
    for epoch in range(4):
        for index in range(len(dataset)):
            item = dataset[epoch, index]
            expected = torch.where((item["masks"] == 2) & (index != 0), 4.0, 1.0)
            assert torch.equal(item["weights"], expected)
            heavy += int((expected > 1).sum())
    assert heavy > 100
    assert "weights" not in make(drawn, tiny)[0, 0]


def test_unusable_masks_stop_it_before_training(drawn: Drawn, tiny: SegmentConfig) -> None:
    photos, folder = drawn
    for photo in photos:
        with Image.open(photo.image) as image:
            save_mask(folder / f"{photo.id}.png", np.zeros(image.size[::-1], dtype=np.uint8))
    with pytest.raises(ValueError, match="only background"):
        make(drawn, tiny)
