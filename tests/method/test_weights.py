"""Backbones and the weights that go into them, and the plain ViT against timm's own."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from cti.config import Config, ModelConfig
from cti.method import CTI
from cti.method.vit import PlainViT, conv_stem, run_block
from cti.method.weights import (
    fit_to_weights,
    load_backbone_weights,
    named_backbone,
    read_state_dict,
    refuse_larger,
)
from tiny import CLASSES

SIZES: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}


def vit(**options: Any) -> VisionTransformer:
    """A small ViT of timm's, every parameter moved off its start so that no two of a kind are alike."""
    torch.manual_seed(0)
    made = VisionTransformer(**(SIZES | {"num_classes": 0} | options)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return made


def built(weights: Path | str | bool = False, **options: Any) -> CTI:
    settings = {"image_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2, "infusion_index": 0}
    return CTI(CLASSES, "vit", weights, **(settings | options))


@pytest.mark.parametrize("options", [{}, {"init_values": 1.0}, {"qk_norm": True}, {"qkv_bias": False}], ids=str)
def test_our_way_through_the_blocks_is_timms(options: dict[str, Any]) -> None:
    """Plain ones, with layer scale (DINOv2), and with normed queries and keys."""
    theirs = vit(**options)
    tokens = torch.randn(2, 17, 32)
    with torch.no_grad():
        expected = theirs.blocks(tokens)
        for block in PlainViT(theirs).blocks:
            tokens, queries, keys = run_block(block, tokens)
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)
    assert queries.shape == keys.shape == (2, 2, 17, 16)


def test_the_way_in_is_timms() -> None:
    theirs = vit()
    ours = PlainViT(theirs)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = theirs._pos_embed(theirs.patch_embed(images))
        tokens, grid = ours.embed(images)
    assert grid == (4, 4)
    torch.testing.assert_close(tokens, expected[:, 1:])
    cls, position = ours.initial_cls
    torch.testing.assert_close((cls + position).expand(2, -1, -1), expected[:, :1])
    before = {name: value.clone() for name, value in theirs.state_dict().items()}
    for own in (ours.pos_embed.data, cls, position):
        own.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in theirs.state_dict().items())  # copies were taken


def test_a_vit_without_a_position_for_its_cls_token() -> None:
    theirs = vit(no_embed_class=True)
    cls, position = PlainViT(theirs).initial_cls
    assert torch.equal(cls, theirs.cls_token)
    assert torch.equal(position, torch.zeros(1, 1, 32))
    assert torch.equal(PlainViT(theirs).pos_embed, theirs.pos_embed)


def test_layer_scale_asks_for_the_final_norm() -> None:
    assert PlainViT(vit(init_values=1.0)).has_layer_scale
    assert not PlainViT(vit()).has_layer_scale
    assert not built().final_norm
    assert built(final_norm="on").final_norm


def test_the_normalisation_is_the_backbones() -> None:
    theirs = vit()
    assert PlainViT(theirs).mean == (0.485, 0.456, 0.406)
    theirs.pretrained_cfg = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.1, 0.3)}
    assert (PlainViT(theirs).mean, PlainViT(theirs).std) == ((0.5, 0.4, 0.3), (0.2, 0.1, 0.3))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"reg_tokens": 2}, "it has register tokens"),
        ({"class_token": False, "global_pool": "avg"}, "it has no CLS token"),
        ({"pre_norm": True}, "it normalises before the blocks"),
        ({"img_size": (32, 40)}, "its position grid is not square"),
    ],
    ids=str,
)
def test_what_is_no_plain_vit_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"not a plain ViT: .*{reason}"):
        PlainViT(vit(**options))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda theirs: setattr(theirs.blocks[1].attn, "norm", nn.LayerNorm(32)), "its attention is not the standard"),
        (lambda theirs: setattr(theirs.blocks[1].attn, "gate", nn.Linear(32, 32)), "its attention is not the standard"),
        (lambda theirs: theirs.blocks.append(nn.Identity()), "its attention is not the standard"),
        (lambda theirs: setattr(theirs.patch_embed, "norm", nn.LayerNorm(32)), "its patch embedding is normalised"),
    ],
)
def test_a_part_that_would_be_passed_over_is_refused(change: Any, reason: str) -> None:
    theirs = vit()
    PlainViT(theirs)
    change(theirs)
    with pytest.raises(ValueError, match=reason):
        PlainViT(theirs)


def test_a_hybrid_is_refused() -> None:
    hybrid = timm.create_model("vit_tiny_r_s16_p8_224", pretrained=False)  # patches come from a small ResNet
    with pytest.raises(ValueError, match="not a plain ViT: its patches are embedded by another network"):
        PlainViT(hybrid)


def test_weights_come_in_whatever_they_are_wrapped_in(tmp_path: Path) -> None:
    """Heads are left out; a trainer's wrappers and `module.` are taken off."""
    theirs = vit(num_classes=7)
    state = {f"module.{name}": value for name, value in theirs.state_dict().items()}
    for number, content in enumerate((state, {"model": state}, {"state_dict": state, "epoch": 3})):
        torch.save(content, tmp_path / f"{number}.pth")
        model = built(tmp_path / f"{number}.pth")
        for name, value in model.backbone.blocks.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[f"blocks.{name}"]), name
        assert torch.equal(model.class_tokens.cls_token, theirs.cls_token)
        assert torch.equal(model.backbone.pos_embed, theirs.pos_embed[:, 1:])


def test_a_head_is_no_leftover(caplog: pytest.LogCaptureFixture) -> None:
    state = vit(num_classes=7).state_dict()
    load_backbone_weights(vit(), state | {"dist_token": torch.zeros(1, 1, 32)}, "theirs")
    assert not caplog.records
    load_backbone_weights(vit(), state | {"oddity": torch.zeros(1)}, "theirs")
    assert "1 tensors of theirs play no part: oddity" in caplog.text
    load_backbone_weights(vit(), state | {f"odd{letter}": torch.zeros(1) for letter in "fbdaec"}, "theirs")
    assert caplog.records[-1].message.endswith("play no part: odda, oddb, oddc, oddd, odde")


def test_positions_are_stretched_to_another_grid_but_not_the_cls_tokens() -> None:
    large, small = vit(img_size=64), vit()
    before = large.pos_embed.detach().clone()
    load_backbone_weights(large, small.state_dict(), "small")
    square = small.pos_embed[:, 1:].reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    stretched = F.interpolate(square, size=(8, 8), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    torch.testing.assert_close(large.pos_embed[:, 1:], stretched.reshape(1, 64, 32))
    torch.testing.assert_close(large.pos_embed[:, :1], small.pos_embed[:, :1])
    assert large.pos_embed.shape == before.shape
    load_backbone_weights(large, {name: value.half() for name, value in small.state_dict().items()}, "half")
    stretched = F.interpolate(square.half().float(), size=(8, 8), mode="bicubic", align_corners=False)
    torch.testing.assert_close(large.pos_embed[:, 1:], stretched.permute(0, 2, 3, 1).reshape(1, 64, 32))
    odd = small.state_dict() | {"pos_embed": torch.zeros(1, 16, 32)}  # one position of fifteen, which is no square
    with pytest.raises(ValueError, match=r"1 have another shape \(pos_embed \(1, 16, 32\) instead of \(1, 65, 32\)"):
        load_backbone_weights(large, odd, "odd")


@pytest.mark.parametrize(
    ("backbone", "taken"),
    [("deit_small_patch16_224", "deit_tiny_patch16_224"), ("vit_tiny_patch16_224", "vit_tiny_patch16_224")],
)
def test_a_file_says_which_backbone_it_is_of(tmp_path: Path, backbone: str, taken: str) -> None:
    """Another geometry is taken from the file; a name that differs in its training only stays as it was given."""
    file = tmp_path / "tiny.safetensors"
    norms = {f"blocks.{number}.norm1.weight": torch.ones(192) for number in range(12)}
    safetensors.torch.save_file({"patch_embed.proj.weight": torch.zeros(192, 3, 16, 16), **norms}, file)
    config = Config(model=ModelConfig(backbone=backbone, weights=str(file), image_size=230))
    model = fit_to_weights(config).model
    assert (model.backbone, model.image_size) == (taken, 224)


def test_a_file_of_another_network_names_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By width, depth, patch and layer scales; a network built from scratch and the hub's are not asked about."""
    caplog.set_level("INFO")
    norms = {f"blocks.{number}.norm1.weight": torch.ones(1) for number in range(12)}
    scale = {"blocks.0.ls1.gamma": torch.ones(1)}
    files = {
        "scaled": ({"patch_embed.proj.weight": torch.zeros(384, 3, 14, 14), **norms, **scale}, 14),
        "pth": ({"patch_embed.proj.weight": torch.zeros(768, 3, 16, 16), **norms}, 16),
        "narrow": ({"patch_embed.proj.weight": torch.zeros(100, 3, 16, 16), **norms}, None),
        "flat": ({"patch_embed.proj.weight": torch.zeros(192, 3, 16), **norms}, None),
        "nothing": (norms, None),
        "odd": ({"patch_embed.proj.weight": torch.zeros(192, 3, 15, 15), **norms}, None),
    }
    names = {"scaled": "vit_small_patch14_dinov2", "pth": "deit_base_patch16_224"}
    for kind, (state, patch) in files.items():
        path = tmp_path / f"{kind}.{'pth' if kind == 'pth' else 'safetensors'}"
        torch.save(state, path) if kind == "pth" else safetensors.torch.save_file(state, path)
        assert named_backbone(path) == (None if patch is None else (names[kind], patch))
        given = Config(model=ModelConfig(weights=str(path), image_size=5))
        fitted = fit_to_weights(given).model
        if patch is None:
            assert fitted == given.model
        else:  # one patch at least
            assert (fitted.backbone, fitted.image_size) == (names[kind], patch)
            assert (
                f"holds the weights of {names[kind]}, which is taken instead of {given.model.backbone}" in caplog.text
            )
            assert f"model.image_size 5 becomes {patch}, a multiple of the patch." in caplog.text
            caplog.clear()
            assert fit_to_weights(replace(given, model=fitted)).model == fitted
            assert not caplog.records  # it is as the file says
            own = replace(given, model=replace(given.model, backbone="vit"))
            assert fit_to_weights(own) is own
    for weights in ("none", "timm"):
        given = Config(model=ModelConfig(weights=weights))
        assert fit_to_weights(given) is given
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"cut\.safetensors could not be read as weights"):
        named_backbone(tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match="There is no weights file"):
        named_backbone(tmp_path / "gone.safetensors")


def test_a_network_that_a_file_cannot_fill_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "small"
    config = ModelConfig(backbone="vit", depth=2, embed_dim=32, num_heads=2)
    path.write_bytes(bytes(2 * 32**2))
    refuse_larger(config, path)
    path.write_bytes(bytes(2 * 32**2 - 1))
    with pytest.raises(ValueError, match="small is too small for 2 blocks of width 32"):
        refuse_larger(config, path)
    refuse_larger(replace(config, backbone="deit_small_patch16_224"), path)  # its size is not in the settings


def test_a_wrapped_file_may_hold_more_than_tensors(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2), "epoch": 3}, tmp_path / "mixed.pth")
    assert list(read_state_dict(tmp_path / "mixed.pth")) == ["weight"]


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state: dict[str, Tensor] = vit().state_dict()
    with pytest.raises(ValueError, match=r"theirs do not fit.*1 tensors are missing \(norm.bias, ...\)"):
        load_backbone_weights(vit(), {name: value for name, value in state.items() if name != "norm.bias"}, "theirs")
    with pytest.raises(ValueError, match=r"1 have another shape \(norm.bias \(5,\) instead of \(32,\)\)"):
        load_backbone_weights(vit(), state | {"norm.bias": torch.zeros(5)}, "theirs")
    with pytest.raises(ValueError, match=r"There is no weights file .*nowhere.pth"):
        read_state_dict(tmp_path / "nowhere.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match="holds no tensors by name"):
        read_state_dict(tmp_path / "empty.pth")
    (tmp_path / "broken.pth").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="could not be read as weights"):
        read_state_dict(tmp_path / "broken.pth")


@pytest.mark.parametrize(
    ("backbone", "sentence"),
    [
        ("deit_smal_patch16_224", "timm knows no backbone 'deit_smal_patch16_224'; near it: "),
        ("resnet18", "resnet18 is no plain ViT; choose one such as deit_small_patch16_224."),
        ("swin_tiny_patch4_window7_224", "swin_tiny_patch4_window7_224 is a SwinTransformer, not a plain ViT"),
    ],
)
def test_a_backbone_that_is_none(backbone: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        CTI(CLASSES, backbone, pretrained=False)


@pytest.mark.parametrize(("backbone", "nearest"), [("vit", 96), ("deit_tiny_patch16_224", 96)])
def test_a_crop_that_does_not_divide_into_patches(backbone: str, nearest: int) -> None:
    with pytest.raises(ValueError, match=f"model.image_size 100 is not a multiple of .*; use {nearest}"):
        CTI(CLASSES, backbone, pretrained=False, image_size=100)


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> nn.Module:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(ValueError, match=r"could not be had from the model hub \(OSError\): give a local file"):
        CTI(CLASSES, "deit_small_patch16_224")


def test_an_error_that_the_hub_has_no_part_in_is_not_blamed_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> nn.Module:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(timm, "create_model", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        CTI(CLASSES, "deit_small_patch16_224", pretrained=False)


def test_a_photo_smaller_than_a_patch_is_given_one() -> None:
    with pytest.raises(ValueError, match=r"model\.image_size 3 is not a multiple of .*; use 8"):
        built(image_size=3)


@pytest.mark.parametrize("backbone", ["vit", "deit_tiny_patch16_224"])
def test_stochastic_depth_grows_to_the_last_block(backbone: str) -> None:
    model = CTI(CLASSES, backbone, pretrained=False, image_size=32, drop_path=0.3)
    assert model.backbone.blocks[-1].drop_path1.drop_prob == pytest.approx(0.3)
    assert isinstance(model.backbone.blocks[0].drop_path1, nn.Identity)


def test_a_stem_of_convolutions() -> None:
    """Each halves the image and widens, up to D; norms that do not mix the photos of a batch."""
    layers = conv_stem(64, 8)
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels, layer.stride[0]) for layer in convolutions] == [
        (3, 16, 2), (16, 32, 2), (32, 64, 2), (64, 64, 1),
    ]  # fmt: skip
    assert sum(isinstance(layer, nn.GroupNorm) for layer in layers) == 3
    assert [layer.bias is None for layer in convolutions] == [True, True, True, False]  # before a norm it is idle
    narrow = [layer.out_channels for layer in conv_stem(32, 8) if isinstance(layer, nn.Conv2d)]
    assert narrow == [16, 16, 32, 32]  # never fewer than 16
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(layers(images)[:1], layers(images[:1]))
