"""The convolutional patch embedding; the way through the blocks is in test_weights.py."""

import pytest
import torch
from torch import nn

from cti.method.vit import conv_stem, middle_block
from tiny import tiny_model


@pytest.mark.parametrize("patch_size", [2, 8, 16])
def test_a_stem_has_the_patch_grid(patch_size: int) -> None:
    images = torch.randn(2, 3, 2 * patch_size, 3 * patch_size)
    assert conv_stem(32, patch_size)(images).shape == (2, 32, 2, 3)


@pytest.mark.parametrize("patch_size", [1, 14])
def test_a_patch_that_cannot_be_halved_is_refused(patch_size: int) -> None:
    with pytest.raises(ValueError, match=f"{patch_size} is no power of 2"):
        conv_stem(32, patch_size)


def test_the_middle_block_ends_three_quarters_of_the_way() -> None:
    assert [middle_block(depth) for depth in (1, 2, 3, 4, 12, 24)] == [0, 0, 1, 2, 8, 17]


def test_a_network_with_a_stem_sees_beyond_its_patches() -> None:
    images = torch.randn(1, 3, 32, 32)
    changed = images.clone()
    changed[..., 8, :8] += 1  # the row below the first patch
    for stem, reaches in (("patch", False), ("conv", True)):
        proj = tiny_model(stem=stem).backbone.patch_embed.proj
        first, other = (proj(x)[..., 0, 0] for x in (images, changed))
        assert torch.equal(first, other) is not reaches


@pytest.mark.parametrize("frozen", [0, 1, 2, 3])
def test_frozen_blocks_neither_learn_nor_drop_paths(frozen: int) -> None:
    """All that comes before them is frozen, too; the last norm only where nothing before it learns."""
    backbone = tiny_model(drop_path=0.5).backbone
    backbone.freeze(frozen, "train.frozen_blocks")
    for number, block in enumerate(backbone.blocks):
        assert all(parameter.requires_grad is (number >= frozen) for parameter in block.parameters())
        for path in (block.drop_path1, block.drop_path2):
            assert isinstance(path, nn.Identity) is (number < frozen or number == 0)  # the first block's rate is 0
    before = [backbone.pos_embed, *backbone.patch_embed.parameters()]
    assert all(parameter.requires_grad is (frozen == 0) for parameter in before)
    if frozen:
        assert all(parameter.requires_grad is (frozen < 3) for parameter in backbone.norm.parameters())
    with pytest.raises(ValueError, match=r"train\.frozen_blocks is 4, but the backbone has 3 blocks"):
        backbone.freeze(4, "train.frozen_blocks")
