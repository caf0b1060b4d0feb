"""The network: its tokens, its infusion, its features, and what it refuses."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cti.config import ModelConfig
from cti.method import network
from cti.method.attention import pool_scores
from cti.method.network import CTI
from cti.method.reference import plain_pass
from tiny import CLASSES, tiny_model


def run_plainly(model: CTI, images: torch.Tensor) -> torch.Tensor:
    """(B, N, D) patch tokens after the last block, by timm's own blocks."""
    patches, _ = model.backbone.embed(images)
    tokens = torch.cat([model.class_tokens().repeat(len(images), 1, 1), patches], dim=1)
    for block in model.backbone.blocks:
        tokens = block(tokens)
    return tokens[:, model.num_class_tokens :]


def test_a_network_is_pre_trained_unless_asked_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def build(config: ModelConfig, image_size: int) -> None:
        asked.append(config.weights)
        raise LookupError

    monkeypatch.setattr(network, "build_backbone", build)
    for options in ({}, {"pretrained": True}, {"pretrained": False}, {"pretrained": "own.pth"}):
        with pytest.raises(LookupError):
            CTI(CLASSES, **options)
    assert asked == ["timm", "timm", "none", "own.pth"]


@pytest.mark.parametrize("final_norm", ["off", "on"])
def test_features_are_the_patch_tokens_in_their_places(final_norm: str) -> None:
    """As the patch head sees them: row by row, not mirrored, after the final norm if there is one."""
    model = tiny_model(final_norm=final_norm).eval()
    with torch.no_grad():
        model.backbone.norm.weight.mul_(2).add_(0.3)
        images = torch.randn(2, 3, 32, 48)
        tokens = run_plainly(model, images)
        features = model.features(images)
        assert features.shape == (2, 32, 4, 6)
        for row, column in ((0, 0), (0, 5), (3, 0), (2, 4)):
            expected = tokens[:, row * 6 + column]
            if final_norm == "on":
                expected = F.layer_norm(
                    expected, (32,), model.backbone.norm.weight, model.backbone.norm.bias, model.backbone.norm.eps
                )
            torch.testing.assert_close(features[:, :, row, column], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.patch_head(features).relu(), model(images).patch_maps, rtol=1e-4, atol=1e-5)
        assert model(images).patch_maps.shape == (2, 4, 4, 6)


def test_patches_of_an_earlier_block_stand_beside_the_last_ones() -> None:
    model = tiny_model(patch_features="two", final_norm="off").eval()
    assert model.early_block == 1
    images = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        patches, _ = model.backbone.embed(images)
        tokens = torch.cat([model.class_tokens().repeat(2, 1, 1), patches], dim=1)
        for block in model.backbone.blocks[:2]:
            tokens = block(tokens)
        early = F.layer_norm(tokens[:, model.num_class_tokens :], (32,))
        features = model.features(images)
        assert features.shape == (2, 64, 4, 6)
        torch.testing.assert_close(features[:, :32].flatten(2).transpose(1, 2), early, rtol=1e-4, atol=1e-5)
        last = run_plainly(model, images)
        torch.testing.assert_close(features[:, 32:].flatten(2).transpose(1, 2), last, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.patch_head(features).relu(), model(images).patch_maps, rtol=1e-4, atol=1e-5)


def test_a_bright_corner_stands_out_in_its_corner() -> None:
    """A photo and its features are the same way up and not mirrored."""
    model = tiny_model().eval()
    images = torch.zeros(1, 3, 32, 48)
    changed = images.clone()
    changed[..., :8, 40:] = 3.0  # the patch in row 0, column 5
    with torch.no_grad():
        difference = (model.features(changed) - model.features(images)).norm(dim=1)[0]
    assert divmod(int(difference.argmax()), 6) == (0, 5)


def test_the_tokens_start_as_the_method_says() -> None:
    """Before training: the base token plus the MLP's, the background's own token first, and the CLS position each."""
    model = CTI(CLASSES, backbone="vit", pretrained=False, image_size=32, patch_size=8, embed_dim=32, depth=2,
                num_heads=2, infusion_index=0)  # fmt: skip
    tokens = model.class_tokens
    cls, position = model.backbone.initial_cls
    assert tokens.bg_token is not None
    torch.testing.assert_close(tokens.cls_token, cls)
    torch.testing.assert_close(tokens.pos_embed, position.expand(1, 4, 32))
    hidden = F.linear(cls, tokens.mlp[0].weight, tokens.mlp[0].bias).relu()
    from_mlp = F.linear(hidden, tokens.mlp[2].weight, tokens.mlp[2].bias).reshape(4, 32)
    assert tokens.mlp[0].weight.shape == (5 * 32, 32)
    for index, token in enumerate(tokens()[0]):
        base = tokens.bg_token if index == 0 else cls
        torch.testing.assert_close(token, (from_mlp[index] + base + position)[0, 0])
    assert 0 < tokens.bg_token.std() < 0.04
    before = cls.clone()
    tokens.cls_token.data.add_(1)
    assert torch.equal(cls, before)  # the base token is a copy, which learns alone
    for weight in (tokens.mlp[0].weight, tokens.mlp[2].weight, model.patch_head.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not model.patch_head.bias.any()


def test_what_is_fitted_starts_at_nothing() -> None:
    model = CTI(CLASSES, backbone="vit", pretrained=False, image_size=32, embed_dim=32, depth=3, num_heads=2,
                infusion_index=0, patch_features="two")  # fmt: skip
    assert not model.tag_head.weight.any()
    assert not model.tag_head.bias.any()
    assert not model.locator.fitted
    assert not model.normality.fitted
    assert not any(parameter.requires_grad for parameter in model.tag_head.parameters())


@pytest.mark.parametrize(("infused", "first"), [(3, 1), (4, 0)])
def test_infusion_averages_and_leaves_the_rest(infused: int, first: int) -> None:
    model = tiny_model().eval()
    start = model.first_blocks(torch.randn(2, 3, 32, 32))
    given = torch.randn(2, infused, 32)
    mixed = model.infuse(start, given)
    torch.testing.assert_close(mixed.tokens[:, first:4], (start.tokens[:, first:4] + given) / 2)
    assert torch.equal(mixed.tokens[:, :first], start.tokens[:, :first])
    assert torch.equal(mixed.tokens[:, 4:], start.tokens[:, 4:])
    with pytest.raises(ValueError, match=r"infuse has 2 class tokens; give 3 \(foreground\) or 4 \(all\)"):
        model.infuse(start, given[:, :2])


@pytest.mark.parametrize("infusion_index", [0, 1])
def test_passes_run_together_are_passes_run_alone(infusion_index: int) -> None:
    model = tiny_model(infusion_index=infusion_index).double().eval()
    images = torch.randn(2, 3, 32, 48, dtype=torch.float64)
    given = torch.randn(2, 4, 32, dtype=torch.float64)
    with torch.no_grad():
        start = model.first_blocks(images)
        together = model.last_blocks([start, model.infuse(start, given)])
        for out, plain in zip(together, (plain_pass(model, images), plain_pass(model, images, given)), strict=True):
            for actual, expected in (
                (out.class_logits, plain.class_logits),
                (out.patch_logits, plain.patch_logits),
                (out.patch_maps, plain.patch_maps),
                (torch.stack(out.class_tokens), torch.stack(plain.class_tokens)),
                (out.tag_logits, (plain.class_logits + plain.patch_logits) / 2),
            ):
                torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


def test_what_is_given_has_the_tokens_own_precision() -> None:
    model = tiny_model(class_tokens="as_one").eval()
    start = model.first_blocks(torch.randn(1, 3, 32, 32))
    assert model.infuse(start, torch.randn(1, 3, 32, dtype=torch.float64)).tokens.dtype == torch.float32
    bias = model.key_bias(torch.zeros(1, 20, 32, device="meta"))
    assert bias is not None
    assert bias.device.type == "meta"  # it lies where the tokens do


@pytest.mark.parametrize("recompute", [False, True])
def test_activations_are_computed_again_only_where_gradients_are_wanted(
    monkeypatch: pytest.MonkeyPatch, recompute: bool
) -> None:
    model, again = tiny_model(), []
    model.recompute = recompute

    def watched(function: Any, *given: Any, use_reentrant: bool, **more: Any) -> Any:
        again.append(use_reentrant)
        return function(*given, **more)

    monkeypatch.setattr(network, "checkpoint", watched)
    model(torch.randn(1, 3, 32, 32))
    assert again == ([False] * 3 if recompute else [])
    again.clear()
    with torch.no_grad():
        model(torch.randn(1, 3, 32, 32))
    assert not again


def test_positions_are_stretched_with_the_photo() -> None:
    model = tiny_model()
    square = model.backbone.pos_embed.reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    expected = F.interpolate(square, size=(2, 8), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    torch.testing.assert_close(model.backbone.positions((2, 8)), expected.reshape(1, 16, 32))
    assert model.backbone.positions((4, 4)) is model.backbone.pos_embed


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="leaves no block to infuse into: the backbone has 3 blocks, so at most 1"):
        tiny_model(infusion_index=2)
    with pytest.raises(ValueError, match="31 x 32 px do not divide into patches of 8 px"):
        tiny_model()(torch.zeros(1, 3, 31, 32))


def test_what_it_says_of_itself() -> None:
    model = tiny_model(background="cam")
    assert model.device == torch.device("cpu")
    assert (model.has_background, tiny_model(background="none").has_background) == (True, False)
    assert (model.num_class_tokens, model.patch_head.out_channels) == (3, 4)
    assert (model.all_blocks, model.infused_blocks) == (range(3), range(1, 3))
    middle = {depth: tiny_model(depth=depth).middle_blocks for depth in (3, 4, 6, 12)}
    assert middle == {3: range(1, 2), 4: range(2, 3), 6: range(3, 4), 12: range(6, 9)}
    assert not any(parameter.requires_grad for parameter in model.backbone.norm.parameters())


@pytest.mark.parametrize("kind", ["mean", "topk", "lse"])
def test_patch_scores_are_pooled_as_asked(kind: str) -> None:
    model = tiny_model(pooling=kind).eval()
    images = torch.randn(2, 3, 64, 64)
    out = model(images)
    scores = model.patch_head(model.features(images))[:, -len(CLASSES) :].flatten(2).tolist()
    for photo, rows in zip(out.patch_logits.tolist(), scores, strict=True):
        for found, patches in zip(photo, rows, strict=True):
            highest = sorted(patches)[-2:]  # 3 % of 64 patches
            expected = {
                "mean": sum(patches) / 64,
                "topk": sum(highest) / 2,
                "lse": math.log(sum(math.exp(score) for score in patches) / 64),
            }
            assert found == pytest.approx(expected[kind], abs=1e-4)


def test_pooling_of_small_things_lets_one_patch_speak() -> None:
    scores = torch.full((1, 1, 10, 10), -1.0)
    scores[..., 4, 7] = 9
    pooled = {kind: float(pool_scores(scores, kind)) for kind in ("mean", "topk", "lse")}
    assert pooled["mean"] < 0 < pooled["topk"] < pooled["lse"] < 9
    one, fifty = torch.arange(4.0).view(1, 1, 2, 2), torch.arange(50.0).view(1, 1, 5, 10)
    assert pool_scores(one, "topk").item() == 3  # at least one patch
    assert pool_scores(fifty, "topk").item() == 48.5  # 1.5 patches are two
