"""The convolutional patch embedding; the way through the blocks is in test_weights.py."""

import pytest
import torch

from cti.method.vit import conv_stem
from tiny import tiny_model


@pytest.mark.parametrize("patch_size", [2, 8, 16])
def test_a_stem_has_the_patch_grid(patch_size: int) -> None:
    images = torch.randn(2, 3, 2 * patch_size, 3 * patch_size)
    assert conv_stem(32, patch_size)(images).shape == (2, 32, 2, 3)


def test_a_patch_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ValueError, match="14 is no power of 2"):
        conv_stem(32, 14)


def test_a_network_with_a_stem_sees_beyond_its_patches() -> None:
    images = torch.randn(1, 3, 32, 32)
    changed = images.clone()
    changed[..., 8, :8] += 1  # the row below the first patch
    for stem, reaches in (("patch", False), ("conv", True)):
        proj = tiny_model(stem=stem).backbone.patch_embed.proj
        first, other = (proj(x)[..., 0, 0] for x in (images, changed))
        assert torch.equal(first, other) is not reaches
