"""What the affinity head sees of a photo: the frozen network's features, the right way round."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cti.masks.features import FeatureCache, backbone_features
from tiny import tiny_model


@pytest.mark.parametrize("final_norm", ["on", "off"])
def test_they_are_the_networks_of_the_normalised_photo(final_norm: str) -> None:
    model = tiny_model(final_norm=final_norm).eval()
    with torch.no_grad():
        model.backbone.norm.weight.mul_(2).add_(0.3)
    image = np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8)
    found = backbone_features(model)(image)
    mean, std = torch.tensor(model.mean)[:, None, None], torch.tensor(model.std)[:, None, None]
    pixels = (torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std
    with torch.no_grad():
        patches, grid = model.backbone.embed(pixels[None])
        tokens = torch.cat([model.class_tokens(), patches], dim=1)
        for block in model.backbone.blocks:
            tokens = block(tokens)
        tokens = model.backbone.norm(tokens) if final_norm == "on" else tokens
    assert grid == (5, 7)
    expected = tokens[0, model.num_class_tokens :].T.reshape(32, 5, 7)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, expected.flip(-1), atol=0.1)


def test_photos_are_reduced_to_the_longest_side() -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    assert backbone_features(tiny_model().eval(), long_side=48)(image).shape == (32, 4, 6)
    assert backbone_features(tiny_model().eval())(image).shape == (32, 8, 12)


def test_what_is_kept_has_half_precision_and_no_infinity(tmp_path: Path) -> None:
    values = torch.tensor([1e6, -1e6, 1 / 3]).reshape(3, 1, 1)
    cache = FeatureCache(lambda image: values, tmp_path)
    image = np.zeros((8, 8, 3), np.uint8)
    expected = [65504.0, -65504.0, float(np.float16(1 / 3))]
    assert cache(image).flatten().tolist() == expected  # fresh
    assert cache(image).flatten().tolist() == expected  # kept
    assert cache(image).dtype == torch.float32


def test_photos_of_the_same_bytes_and_another_shape_are_other_photos(tmp_path: Path) -> None:
    cache = FeatureCache(lambda image: torch.full((1, 1, 1), float(len(image))), tmp_path)
    assert [float(cache(np.zeros((rows, 12 // rows, 3), np.uint8))) for rows in (3, 4, 3)] == [3, 4, 3]
