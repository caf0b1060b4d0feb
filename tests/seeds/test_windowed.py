"""Large photos window by window: when, where windows lie, how their maps are joined, what is normalised by what."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cti.config import RuntimeConfig, SeedsConfig
from cti.data import Photo
from cti.data.batches import AUTO_WINDOW, MAX_TOKENS, Sight, normalised, seen_size, sight, split_large
from cti.data.seed_file import read_seed
from cti.data.windows import Joined, Window, photo_windows
from cti.first_look import features as features_of
from cti.first_look.features import extract_features
from cti.method import CTI
from cti.predict.cti import CTIAnalyser
from cti.seeds import windowed
from cti.seeds.extract import extract_seeds
from cti.seeds.maps import batch_maps, scaled_maps
from cti.seeds.windowed import windowed_maps
from cti.train.tagging import tag_logits, window_tag_logits
from tiny import shaken, tiny_model

KINDS = ("refined", "fused", "patch", "spread", "located", "attention")


@pytest.fixture
def model() -> CTI:
    return tiny_model(patch_features="two").eval()


@pytest.fixture
def located() -> CTI:
    """A network whose densities are fitted, to anything."""
    model = tiny_model(patch_features="two").eval()
    assert model.locator is not None
    shaken(model)
    generator = torch.Generator().manual_seed(1)
    model.locator.means.copy_(torch.randn(model.locator.means.shape, generator=generator))
    model.locator.whiten.copy_(torch.eye(32).expand(4, -1, -1) * 0.5)
    assert model.locator.fitted
    return model


def noise_photo(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("patch", [8, 14, 16])
@pytest.mark.parametrize("size", [(375, 500), (480, 640), (224, 224), (3, 500), (600, 640)])
def test_ordinary_photos_are_seen_as_ever(size: tuple[int, int], patch: int) -> None:
    for long_side in (0, 336, 448):
        assert sight(size, long_side, -1, patch) == Sight(seen_size(size, long_side, patch))


def test_the_size_decides() -> None:
    assert sight((9000, 12000), 0, -1, 16) == Sight((8992, 12000), AUTO_WINDOW)
    assert sight((9000, 12000), 336, -1, 14) == Sight((252, 336))  # reduced, because somebody asked for it
    assert sight((9000, 12000), 0, 0, 16) == Sight(seen_size((9000, 12000), 0, 16))  # never by windows
    assert sight((100, 200), 0, 112, 16) == Sight((96, 192), 112)
    assert sight((100, 100), 0, 112, 16) == Sight((96, 96))
    rows, columns = (side // 16 for side in seen_size((9000, 12000), 0, 16))
    assert rows * columns <= MAX_TOKENS
    most = sight((9000, 12000), 0, 5000, 16).window // 16
    assert most**2 <= MAX_TOKENS < (most + 1) ** 2  # attention is bounded whatever is asked for


def test_windows_show_the_photo() -> None:
    image = noise_photo(40, 72)
    shown = np.zeros((40, 72, 3), np.uint8)
    sizes = set()
    for window in photo_windows(image, (40, 72), 24, 8):
        pixels = np.asarray(window.image)
        sizes.add(pixels.shape)
        shown[window.rows.start * 8 : window.rows.stop * 8, window.columns.start * 8 : window.columns.stop * 8] = pixels
    assert sizes == {(24, 24, 3)}
    assert (shown == np.asarray(image)).all()


def test_what_windows_agree_on_comes_out_as_it_is() -> None:
    truth = torch.arange(2 * 7 * 11, dtype=torch.float32).reshape(2, 7, 11)
    joined, image = Joined((7, 11)), Image.new("RGB", (1, 1))
    for top in (0, 2, 4):
        for left in (0, 4, 8):
            rows, columns = slice(top, top + 3), slice(left, left + 3 if left == 8 else left + 5)
            joined.add(Window(rows, columns, image), truth[:, rows, columns])
    torch.testing.assert_close(joined.maps(), truth)


def test_there_is_no_seam() -> None:
    """Two windows that disagree: what is said changes over the overlap step by step, not at once."""
    joined, image = Joined((1, 12)), Image.new("RGB", (1, 1))
    for start, value in ((0, 0.0), (4, 1.0)):
        joined.add(Window(slice(0, 1), slice(start, start + 8), image), torch.full((1, 1, 8), value))
    line = joined.maps()[0, 0]
    assert line[:4].tolist() == [0] * 4
    assert line[8:].tolist() == [1] * 4
    assert (line.diff() >= 0).all()
    assert line.diff().max() < 0.5


def test_one_window_is_the_whole_photo(located: CTI) -> None:
    image, config = noise_photo(32, 48), SeedsConfig(kinds=KINDS, scales=(1.0, 1.5), precision="32")
    pixels = normalised(image, located.mean, located.std)[None]
    whole = scaled_maps(located, pixels, [(0, 2)], config)
    joined = windowed_maps(located, image, Sight((32, 48), 48), (0, 2), config)
    for kind in KINDS:
        torch.testing.assert_close(joined[kind], whole[kind][0], rtol=1e-5, atol=1e-7)


def test_maps_are_joined_before_they_are_normalised(model: CTI) -> None:
    """Patch maps mean the same everywhere: a tent-weighted mean over all windows, by a plain loop over patches."""
    image, side = noise_photo(40, 64), 24
    found = windowed_maps(model, image, Sight((40, 64), side), (1,), SeedsConfig(kinds=("patch",), precision="32"))
    pixels = normalised(image, model.mean, model.std)
    sums, weights = np.zeros((2, 5, 8)), np.zeros((5, 8))
    for top in (0, 2):
        for left in (0, 1, 3, 5):
            part = pixels[:, top * 8 : top * 8 + 24, left * 8 : left * 8 + 24]
            maps = batch_maps(model, part[None], [[1]], ("patch",))["patch"][0].numpy()
            for y in range(3):
                for x in range(3):
                    weight = min(y + 1, 3 - y) * min(x + 1, 3 - x)
                    sums[:, top + y, left + x] += weight * maps[:, y, x]
                    weights[top + y, left + x] += weight
    np.testing.assert_allclose(found["patch"].numpy(), sums / weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["refined", "fused", "attention"])
def test_a_window_without_evidence_says_nothing(model: CTI, kind: str) -> None:
    image, seen = noise_photo(32, 96), Sight((32, 96), 32)
    config = SeedsConfig(kinds=(kind,), precision="32")
    logits = torch.full((5, 3), -20.0)
    logits[0] = -5.0  # unsure, but the surest there is
    for tags in ((0,), (0, 2)):
        maps = windowed_maps(model, image, seen, tags, config, logits)[kind]
        first = windowed_maps(model, image.crop((0, 0, 32, 32)), Sight((32, 32), 32), tags, config)[kind]
        torch.testing.assert_close(maps[: len(tags), :, :2], first[: len(tags), :, :2], rtol=1e-5, atol=1e-8)
        assert maps[: len(tags), :, 4:].max() < 1e-4 * maps[: len(tags)].max()
        assert maps[-1, :, 4:].max() > 1e-3 * maps[-1].max()  # the background is everywhere
        equal = windowed_maps(model, image, seen, tags, config, torch.zeros(5, 3))[kind]
        assert equal[: len(tags), :, 4:].max() > 1e-2 * equal[: len(tags)].max()


def test_sureness_is_asked_for_where_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of maps that attention multiplies, of a network without a background channel too; of others nobody asks."""
    model, image, seen = tiny_model(background="none").eval(), noise_photo(32, 64), Sight((32, 64), 32)
    kinds: tuple[Any, ...] = ("fused", "patch")
    maps = windowed_maps(model, image, seen, (0, 2), SeedsConfig(kinds=kinds, precision="32"))
    assert {kind: tuple(each.shape) for kind, each in maps.items()} == dict.fromkeys(kinds, (2, 4, 8))
    monkeypatch.setattr(windowed, "window_tag_logits", lambda *_: pytest.fail("it is not needed"))
    again = windowed_maps(model, image, seen, (0, 2), SeedsConfig(kinds=("patch",), precision="32"))
    torch.testing.assert_close(again["patch"], maps["patch"])


def test_what_any_window_finds_is_in_the_photo(model: CTI, tmp_path: Path) -> None:
    image = noise_photo(32, 96)
    image.save(tmp_path / "a.png")
    photo, config = Photo("a", tmp_path / "a.png", ()), SeedsConfig(window=32)
    scores = tag_logits(model, [photo], config, RuntimeConfig(workers=0))[0]
    with torch.inference_mode():
        alone = [
            model(normalised(window.image, model.mean, model.std)[None]).tag_logits[0]
            for window in photo_windows(image, (32, 96), 32, 8)
        ]
    np.testing.assert_allclose(scores, torch.stack(alone).amax(dim=0).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["refined", "located"])
def test_seeds_and_predictor_see_large_photos_alike(located: CTI, kind: str, tmp_path: Path) -> None:
    photos = []
    for name, size in (("small", (32, 40)), ("large", (72, 104))):
        noise_photo(*size).save(tmp_path / f"{name}.png")
        photos.append(Photo(name, tmp_path / f"{name}.png", (0, 2)))
    config = SeedsConfig(kinds=(kind,), window=48, precision="32")  # type: ignore[arg-type]
    assert [photo.id for photo, _ in split_large(photos, 0, 48, 8)[1]] == ["large"]
    extract_seeds(located, photos, config, tmp_path / "seeds", RuntimeConfig(workers=0))
    for photo in photos:
        seed = read_seed(tmp_path / "seeds" / f"{photo.id}.npz")
        height, width = photo.size()
        assert seed.maps.shape == (2, height // 8, width // 8)
        prediction = CTIAnalyser(located, seeds=config).analyse([photo.load()], [""])[0].predict(["disc", "star"])
        np.testing.assert_allclose(prediction.cams, seed.cams().numpy(), atol=2e-3)
        background = seed.background_cam()
        assert background is not None
        assert prediction.background_cam is not None
        np.testing.assert_allclose(prediction.background_cam, background.numpy(), atol=2e-3)
        assert np.asarray(prediction.cams).max() > 0.98  # one maximum for the whole photo


def test_memory_is_bounded_by_the_window(model: CTI, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    embed = model.embed

    def noted(images: Tensor) -> object:
        seen.append(images.shape[0] * images.shape[-2] * images.shape[-1] // 64)
        return embed(images)

    monkeypatch.setattr(model, "embed", noted)
    analyser = CTIAnalyser(model, seeds=replace(SeedsConfig(), window=32))
    analyser.analyse([noise_photo(100, 140)], [""])
    assert max(seen) <= 2 * 16  # a window and its mirror image
    assert len(window_tag_logits(model, noise_photo(100, 140), Sight((104, 144), 32))) == 6 * 8


def test_features_of_large_photos_are_joined(model: CTI, tmp_path: Path) -> None:
    """In their own patch grid, small photos as ever; a large one may be reduced to what can be kept of it."""
    photos = []
    for name, size in (("small", (32, 40)), ("large", (72, 104))):
        noise_photo(*size).save(tmp_path / f"{name}.png")
        photos.append(Photo(name, tmp_path / f"{name}.png", (0,)))
    runtime = RuntimeConfig(workers=0)
    plain = extract_features(model, photos[:1], SeedsConfig(window=0), runtime).maps[0]
    small, large = extract_features(model, photos, SeedsConfig(window=48), runtime).maps
    torch.testing.assert_close(small, plain, rtol=0, atol=0)
    assert large.shape == (9, 13, 64)
    with torch.inference_mode():
        corner = model.features(normalised(photos[1].load().crop((0, 0, 48, 48)), model.mean, model.std)[None])[0]
    torch.testing.assert_close(large[:2, :2].float(), corner.permute(1, 2, 0)[:2, :2], rtol=0.05, atol=0.05)
    assert Sight((72, 104), 48).at_most(100, 8) == Sight((64, 96), 48)
    assert Sight((72, 104), 48).at_most(117, 8) == Sight((72, 104), 48)


@pytest.mark.parametrize(
    ("of_a_photo", "of_all", "of_whole", "kept"), [(24, 1000, 1, 24), (1000, 48, 1, 24), (1000, 48, 96, 96)]
)
def test_large_photos_share_what_is_kept(
    model: CTI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_a_photo: int, of_all: int, of_whole: int, kept: int
) -> None:
    """Two photos of 8 x 12 patches; each has as many as one seen whole, even if these are more than its share."""
    monkeypatch.setattr(features_of, "MOST_OF_A_PHOTO", of_a_photo)
    monkeypatch.setattr(features_of, "MOST_OF_ALL", of_all)
    monkeypatch.setattr(features_of, "MAX_TOKENS", of_whole)
    photos = []
    for name in "ab":
        noise_photo(64, 96).save(tmp_path / f"{name}.png")
        photos.append(Photo(name, tmp_path / f"{name}.png", (0,)))
    maps = extract_features(model, photos, SeedsConfig(window=16), RuntimeConfig(workers=0)).maps
    assert [each.shape[0] * each.shape[1] for each in maps] == [kept, kept]
    assert features_of._half(torch.tensor([1e6, -1e6, 0.5])).tolist() == [65504, -65504, 0.5]


@pytest.mark.parametrize("size", [(48, 80), (56, 72), (16, 24)])
def test_windows_of_a_resized_photo_are_parts_of_it(size: tuple[int, int]) -> None:
    """Without a resized copy of the whole; a part looks beyond its edges, as the whole does."""
    image = noise_photo(50, 75)
    whole = np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC)).astype(int)
    for window in photo_windows(image, size, 16, 8):
        rows, columns = (slice(each.start * 8, each.stop * 8) for each in (window.rows, window.columns))
        assert np.abs(np.asarray(window.image) - whole[rows, columns]).max() <= 1
