"""Class tokens that together attract as much attention as one."""

import pytest
import torch

from cti.method import CTI
from cti.method.summed import summed_forward
from cti.method.vit import run_block

IMAGES = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0)).double()


def model(classes: int, background: str = "token", **options: str) -> CTI:
    torch.manual_seed(1)
    names = [f"c{index}" for index in range(classes)]
    sizes = {"image_size": 32, "embed_dim": 32, "depth": 4, "num_heads": 2, "infusion_index": 1}
    return CTI(names, "vit", False, background=background, **sizes, **options).double().eval()


@torch.no_grad()
def backbone_patches(network: CTI) -> torch.Tensor:
    """Patch tokens (B, N, D) of the backbone alone, with its own single CLS token."""
    patches, _ = network.backbone.embed(IMAGES)
    cls, position = network.backbone.initial_cls
    tokens = torch.cat([(cls + position).double().expand(len(IMAGES), -1, -1), patches], dim=1)
    for block in network.backbone.blocks:
        tokens, _, _ = run_block(block, tokens)
    return tokens[:, 1:]


@torch.no_grad()
def own_patches(network: CTI) -> torch.Tensor:
    return network.features(IMAGES).flatten(2).transpose(1, 2)


@pytest.mark.parametrize("background", ["token", "cam", "none"])
@pytest.mark.parametrize("classes", [1, 7])
def test_a_network_of_copies_starts_as_its_backbone(classes: int, background: str) -> None:
    network = model(classes, background, class_tokens="as_one")
    torch.testing.assert_close(own_patches(network), backbone_patches(network), rtol=1e-6, atol=1e-6)


def test_tokens_that_count_each_do_not() -> None:
    network = model(7, class_tokens="each")
    assert (own_patches(network) - backbone_patches(network)).abs().max() > 1e-4


def test_every_way_to_the_evidence_sees_the_same_attention() -> None:
    network = model(3, class_tokens="as_one")
    blocks = range(1, 4)
    with torch.no_grad():
        plain, summed = network(IMAGES), summed_forward(network, IMAGES, blocks)
    torch.testing.assert_close(plain.class_to_patch(blocks), summed.class_to_patch(blocks))
    torch.testing.assert_close(plain.refine(plain.patch_maps, blocks), summed.refine(plain.patch_maps, blocks))


def test_copies_learn_to_differ() -> None:
    network = model(3, class_tokens="as_one").train()
    network(IMAGES).class_logits[:, 1].sum().backward()
    gradient = network.class_tokens.mlp[2].weight.grad.unflatten(0, (4, -1))
    assert gradient[2].abs().max() > 10 * gradient[1].abs().max()
