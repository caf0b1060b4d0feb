"""Attention summed as it goes by, against attention recomputed from queries and keys."""

import pytest
import torch

from cti.method.summed import open_attention, summed_forward
from tiny import tiny_model


@pytest.mark.parametrize("patch_features", ["last", "two"])
@pytest.mark.parametrize("background", ["token", "cam", "none"])
@pytest.mark.parametrize("blocks", [range(3), range(1, 3)])
def test_agrees_with_recomputed_attention(background: str, blocks: range, patch_features: str) -> None:
    model = tiny_model(background=background, patch_features=patch_features).double().eval()
    images = torch.randn(2, 3, 32, 48, dtype=torch.float64)
    summed = summed_forward(model, images, blocks)
    with torch.no_grad():
        plain = model(images)
        maps = plain.fused_maps(blocks)
        for actual, expected in (
            (summed.class_logits, plain.class_logits),
            (summed.patch_logits, plain.patch_logits),
            (summed.patch_maps, plain.patch_maps),
            (torch.stack(summed.class_tokens), torch.stack(plain.class_tokens)),
            (summed.class_to_patch(blocks), plain.class_to_patch(blocks)),
            (summed.fused_maps(blocks), maps),
            (summed.refine(maps, blocks), plain.refine(maps, blocks)),
        ):
            torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_several_sets_of_blocks_are_summed_in_one_pass() -> None:
    model, images = tiny_model().eval(), torch.randn(1, 3, 32, 32)
    both = summed_forward(model, images, range(3), range(1, 2))
    for blocks in (range(3), range(1, 2)):
        alone = summed_forward(model, images, blocks)
        torch.testing.assert_close(both.class_to_patch(blocks), alone.class_to_patch(blocks))
        torch.testing.assert_close(both.refine(both.patch_maps, blocks), alone.refine(alone.patch_maps, blocks))


def test_other_blocks_than_the_summed_ones_cannot_be_asked_for() -> None:
    out = summed_forward(tiny_model().eval(), torch.randn(1, 3, 32, 32), range(2))
    with pytest.raises(ValueError, match=r"attention of range\(0, 2\) was summed"):
        out.class_to_patch(range(3))


def test_attention_is_float32_under_autocast() -> None:
    model = tiny_model().eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = summed_forward(model, images, model.all_blocks)
    exact = summed_forward(model, images, model.all_blocks)
    assert half.summed[model.all_blocks].dtype == half.patch_maps.dtype == torch.float32
    torch.testing.assert_close(half.summed[model.all_blocks], exact.summed[model.all_blocks], rtol=0.1, atol=0.01)
    blocks = model.all_blocks
    torch.testing.assert_close(half.refine(exact.patch_maps.bfloat16(), blocks), half.refine(exact.patch_maps, blocks),
                               rtol=0.02, atol=1e-3)  # fmt: skip


def test_a_matrix_is_summed_without_rounding() -> None:
    """Whatever autocast does with products around it."""
    queries, keys, values = torch.randn(3, 2, 2, 9, 4)
    bias = torch.linspace(-1, 1, 9)
    totals = [torch.zeros(2, 9, 9), torch.ones(2, 9, 9)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = open_attention(queries, keys, values, bias[None, None, None], totals)
    matrix = (queries @ keys.mT / 2 + bias).softmax(dim=-1)
    torch.testing.assert_close(mixed, matrix @ values)
    torch.testing.assert_close(totals[0], matrix.mean(dim=1))
    torch.testing.assert_close(totals[1], 1 + matrix.mean(dim=1))
