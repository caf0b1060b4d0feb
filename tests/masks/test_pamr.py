import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cti.config import PamrConfig
from cti.masks.pamr import pamr, pamr_step, pixel_affinity

SMALL = PamrConfig(iterations=3, dilations=(1, 3), downscale=1)


def plain_pamr(image: np.ndarray, scores: np.ndarray, config: PamrConfig) -> np.ndarray:
    """The paper's formula, pixel by pixel."""
    _, height, width = image.shape
    steps = [(a * d, b * d) for d in config.dilations for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]

    def at(maps, y, x):
        return maps[:, min(max(y, 0), height - 1), min(max(x, 0), width - 1)]

    for _ in range(config.iterations):
        new = np.empty_like(scores)
        for y in range(height):
            for x in range(width):
                around = np.stack([at(image, y + dy, x + dx) for dy, dx in steps])
                deviation = np.concatenate([around, image[None, :, y, x]]).std(axis=0)
                contrast = (np.abs(around - image[:, y, x]) / (config.std_scale * deviation + 1e-6)).mean(axis=1)
                weight = np.exp(-contrast) / np.exp(-contrast).sum()
                new[:, y, x] = sum(w * at(scores, y + dy, x + dx) for w, (dy, dx) in zip(weight, steps, strict=True))
        scores = new
    return scores


def test_matches_the_formula_written_out():
    rng = np.random.default_rng(0)
    images, scores = rng.random((2, 3, 6, 7)), rng.random((2, 2, 6, 7))
    fast = pamr(torch.from_numpy(images), torch.from_numpy(scores), SMALL).numpy()
    for image, score, result in zip(images, scores, fast, strict=True):
        np.testing.assert_allclose(result, plain_pamr(image, score, SMALL), rtol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_weights_sum_to_one_and_scores_stay_in_their_range(seed, channels):
    generator = torch.Generator().manual_seed(seed)
    images, scores = torch.rand(1, 3, 9, 8, generator=generator), torch.rand(1, channels, 9, 8, generator=generator)
    torch.testing.assert_close(pixel_affinity(images, SMALL).sum(1), torch.ones(1, 9, 8))
    refined = pamr(images, scores, SMALL)
    assert refined.amin() >= scores.amin() - 1e-6
    assert refined.amax() <= scores.amax() + 1e-6


def test_flips_with_the_photo():
    generator = torch.Generator().manual_seed(0)
    images, scores = torch.rand(1, 3, 9, 8, generator=generator), torch.rand(1, 2, 9, 8, generator=generator)
    mirrored = pamr(images.flip(-1), scores.flip(-1), SMALL).flip(-1)
    torch.testing.assert_close(mirrored, pamr(images, scores, SMALL))


def test_a_flat_photo_averages_and_no_iterations_change_nothing():
    images, scores = torch.zeros(1, 3, 5, 5), torch.zeros(1, 1, 5, 5)
    scores[..., 2, 2] = 8
    config = PamrConfig(iterations=1, dilations=(1,), downscale=1)
    expected = torch.zeros(5, 5)
    expected[1:4, 1:4] = 1
    expected[2, 2] = 0  # a pixel is not its own neighbour
    torch.testing.assert_close(pamr(images, scores, config)[0, 0], expected)
    assert torch.equal(pamr(images, scores, dataclasses.replace(config, iterations=0)), scores)


@pytest.mark.parametrize("downscale", [1, 2])
def test_a_blurred_step_moves_to_the_edge_in_the_photo(downscale):
    image = np.zeros((24, 40, 3), dtype=np.uint8)
    image[:, 20:] = 200
    image += np.random.default_rng(0).integers(0, 10, image.shape, dtype=np.uint8)
    ramp = np.clip((np.arange(40) - 8) / 16, 0, 1).astype(np.float32)  # crosses 0.5 at 16, four pixels early
    scores = np.stack([np.full((24, 40), 0.5, dtype=np.float32), np.broadcast_to(ramp, (24, 40))])
    refined = pamr_step(image, scores, PamrConfig(downscale=downscale))
    np.testing.assert_allclose(refined[0], 0.5, rtol=1e-5)
    wrong_before = ((scores[1] > 0.5) != (np.arange(40) >= 20)).mean()
    wrong_after = ((refined[1] > 0.5) != (np.arange(40) >= 20)).mean()
    assert wrong_before > 0.05
    assert wrong_after < 0.02


@pytest.mark.parametrize("size", [(7, 9), (1, 8), (9, 3)])
def test_a_reduced_photo_is_refined_small_and_its_scores_are_stretched_back(size):
    generator = torch.Generator().manual_seed(0)
    images, scores = torch.rand(1, 3, *size, generator=generator), torch.rand(1, 2, *size, generator=generator)
    small = [max(1, round(side / 2)) for side in size]
    reduced = [torch.nn.functional.interpolate(x, small, mode="bilinear", antialias=True) for x in (images, scores)]
    refined = pamr(*reduced, SMALL)
    expected = torch.nn.functional.interpolate(refined, size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(pamr(images, scores, dataclasses.replace(SMALL, downscale=2)), expected)


def test_rounding_in_a_flat_photo_makes_no_number_undefined():
    """There the mean of squares may come out below the square of the mean."""
    images = torch.rand(500, 1, 1, 1, generator=torch.Generator().manual_seed(0)).expand(-1, 3, 4, 4)
    torch.testing.assert_close(pixel_affinity(images, SMALL), torch.full((500, 16, 4, 4), 1 / 16))
