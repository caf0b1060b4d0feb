"""Backbones and the weights that go into them, and the plain ViT against timm's own."""

import re
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
from cti.method.weights import fit_to_weights, load_backbone_weights, read_state_dict
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


def test_positions_are_stretched_to_another_grid_but_not_the_cls_tokens() -> None:
    large, small = vit(img_size=64), vit()
    before = large.pos_embed.detach().clone()
    load_backbone_weights(large, small.state_dict(), "small")
    square = small.pos_embed[:, 1:].reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    stretched = F.interpolate(square, size=(8, 8), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    torch.testing.assert_close(large.pos_embed[:, 1:], stretched.reshape(1, 64, 32))
    torch.testing.assert_close(large.pos_embed[:, :1], small.pos_embed[:, :1])
    assert large.pos_embed.shape == before.shape


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
    narrow = [layer.out_channels for layer in conv_stem(32, 8) if isinstance(layer, nn.Conv2d)]
    assert narrow == [16, 16, 32, 32]  # never fewer than 16
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(layers(images)[:1], layers(images[:1]))
