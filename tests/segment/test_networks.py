import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.vision_transformer import VisionTransformer

from cti.config import SegmentConfig, TrainConfig
from cti.method.vit import PlainViT
from cti.segment import networks
from cti.segment.networks import (
    LinearDecoder,
    MLPDecoder,
    UpsampleDecoder,
    ViTSegmenter,
    build_segmenter,
    describe,
    start_from,
)
from cti.segment.step import SegmentationStep

KINDS = ("vit-linear", "vit-upsample")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(32, 32), (33, 41), (7, 5), (64, 24)])
def test_logits_have_the_size_of_the_image(tiny: SegmentConfig, kind: str, size: tuple[int, int]) -> None:
    network = build_segmenter(replace(tiny, network=kind), num_classes=3)
    assert network(torch.randn(2, 3, *size)).shape == (2, 4, *size)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_a_padded_image_gives_what_the_image_padded_by_hand_gives(height: int, width: int) -> None:
    torch.manual_seed(0)
    config = SegmentConfig(backbone="vit", weights="none", embed_dim=16, depth=1, num_heads=1, patch_size=8)
    network = build_segmenter(config, 2).eval()
    image = torch.randn(1, 3, height, width)
    by_hand = F.pad(image, (0, -width % 8, 0, -height % 8))
    with torch.no_grad():
        torch.testing.assert_close(network(image), network(by_hand)[..., :height, :width])


def test_the_features_are_timms(tiny: SegmentConfig) -> None:
    torch.manual_seed(0)
    vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0).eval()
    vit.pretrained_cfg = {}
    images = torch.randn(2, 3, 32, 32)
    tokens = vit.forward_features(images)[:, 1:]
    network = ViTSegmenter(PlainViT(vit), LinearDecoder(32, 4)).eval()
    expected = network.decoder(tokens.transpose(1, 2).reshape(2, 32, 4, 4), images)
    torch.testing.assert_close(network.padded(images)[0], expected)


def test_the_up_sampling_decoder_sees_what_the_patches_blur(tiny: SegmentConfig) -> None:
    network = build_segmenter(tiny, 2)
    torch.nn.init.zeros_(network.encoder.patch_embed.proj.weight)  # a backbone that sees nothing
    images = torch.randn(1, 3, 32, 32)
    assert not torch.allclose(network(images), network(images.flip(-1)))


@pytest.mark.parametrize(("patch", "cells"), [(4, 2), (8, 2), (14, 4), (16, 4), (32, 8)])
def test_the_decoder_makes_cells_of_about_four_pixels(patch: int, cells: int) -> None:
    config = SegmentConfig(
        backbone="vit", weights="none", embed_dim=16, depth=1, num_heads=1, patch_size=patch, crop_size=patch * 3
    )
    images = torch.randn(1, 3, patch * 3, patch * 3)
    assert build_segmenter(config, 2).padded(images)[0].shape == (1, 3, 3 * cells, 3 * cells)


def test_each_level_of_the_decoder_has_half_the_channels_of_the_one_before() -> None:
    decoder = UpsampleDecoder(width=16, patch=64, num_outputs=3)
    widths = [next(level.parameters()).shape[0] for level in decoder.levels]
    assert widths == [128, 64, 32, 32]  # and no fewer than 32


def test_frozen_blocks_get_no_gradient_and_the_rest_does(tiny: SegmentConfig) -> None:
    network = build_segmenter(replace(tiny, frozen_blocks=1), 2)
    network(torch.randn(1, 3, 32, 32)).square().mean().backward()
    frozen = {name for name, p in network.named_parameters() if p.grad is None}
    assert {name.split(".")[1] for name in frozen if name.startswith("encoder")} == {
        "patch_embed",
        "pos_embed",
        "blocks",
    }
    assert all(
        name.startswith(("encoder.patch_embed", "encoder.pos_embed", "encoder.blocks.0", "cls")) for name in frozen
    )
    assert describe(network, tiny).trained_parameters < describe(network, tiny).parameters


def test_more_frozen_blocks_than_there_are(tiny: SegmentConfig) -> None:
    with pytest.raises(ValueError, match="frozen_blocks is 3, but the backbone has 2 blocks"):
        build_segmenter(replace(tiny, frozen_blocks=3), 2)


def test_recomputing_changes_nothing(tiny: SegmentConfig) -> None:
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        network = build_segmenter(tiny, 2, recompute=recompute)
        network(torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)).square().mean().backward()
        gradients.append([p.grad for p in network.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


@pytest.mark.parametrize("frozen", [0, 1])
def test_every_trained_parameter_is_in_one_group(tiny: SegmentConfig, frozen: int) -> None:
    network = build_segmenter(replace(tiny, frozen_blocks=frozen), 2)
    groups = SegmentationStep(network).parameter_groups(TrainConfig(lr=1e-3, new_lr_factor=10, weight_decay=0.1))
    in_groups = [id(p) for group in groups for p in group["params"]]
    assert sorted(in_groups) == sorted(id(p) for p in network.parameters() if p.requires_grad)
    rate = {id(p): group["peak_lr"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {rate[id(p)] for p in network.decoder.parameters()} == {1e-2}
    assert {rate[id(p)] for p in network.encoder.parameters() if p.requires_grad} == {1e-3}
    if not frozen:
        assert decay[id(network.cls_token)] == decay[id(network.encoder.pos_embed)] == 0
        assert rate[id(network.cls_token)] == 1e-3


def test_the_statistics_of_imagenet_are_timms() -> None:
    assert networks.IMAGENET_MEAN == IMAGENET_DEFAULT_MEAN
    assert networks.IMAGENET_STD == IMAGENET_DEFAULT_STD


def test_an_smp_network_has_the_same_interface() -> None:
    pytest.importorskip("segmentation_models_pytorch")
    config = SegmentConfig(network="smp:DeepLabV3Plus:resnet18", weights="none")
    network = build_segmenter(config, 3)
    assert network(torch.randn(2, 3, 50, 37)).shape == (2, 4, 50, 37)
    assert describe(network, config).backbone == "resnet18"
    groups = SegmentationStep(network).parameter_groups(TrainConfig(lr=1e-3, new_lr_factor=10))
    new = {id(p) for group in groups if group["peak_lr"] == 1e-2 for p in group["params"]}
    assert new == {id(p) for n, p in network.named_parameters() if not n.startswith("network.encoder.")}


def test_smp_weights_come_from_a_file(tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    encoder = smp.encoders.get_encoder("resnet18", weights=None)
    torch.save(encoder.state_dict(), tmp_path / "resnet18.pth")
    config = SegmentConfig(network="smp:Unet:resnet18", weights=str(tmp_path / "resnet18.pth"))
    loaded = build_segmenter(config, 1).network.encoder.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize("network", ["smp:NoSuchNet:resnet18", "smp:DeepLabV3Plus:nosuchencoder"])
def test_an_unknown_smp_network(network: str) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    with pytest.raises(ValueError, match=f"Cannot build {network}"):
        build_segmenter(SegmentConfig(network=network, weights="none"), 3)


def test_without_smp_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ValueError, match=r'pip install "cti\[smp\]"'):
        build_segmenter(SegmentConfig(network="smp:DeepLabV3Plus:resnet101"), 3)


@pytest.mark.parametrize("network", ["deeplab", "smp:Unet", "vit"])
def test_an_unknown_network(network: str) -> None:
    with pytest.raises(ValueError, match="vit-upsample, vit-linear or smp:ARCHITECTURE:ENCODER"):
        SegmentConfig(network=network)


@pytest.mark.data
def test_pretrained_weights_fit_any_crop(distilled_weights: Path) -> None:
    config = SegmentConfig(backbone="vit_small_patch14_dinov2", weights=str(distilled_weights), crop_size=100)
    network = build_segmenter(config, 2).eval()
    assert network.encoder.pos_embed.shape[1] == 8 * 8  # 100 pixels are padded to 8 patches of 14
    assert network(torch.randn(1, 3, 60, 75)).shape == (1, 3, 60, 75)


def test_a_segmenter_starts_from_another_vit(tiny: SegmentConfig) -> None:
    other = build_segmenter(replace(tiny, crop_size=2 * tiny.crop_size), 3)
    assert isinstance(other, ViTSegmenter)
    network = build_segmenter(tiny, 2)
    assert isinstance(network, ViTSegmenter)
    start_from(network, other.encoder, other.cls_token + 1)
    images = torch.randn(1, 3, tiny.crop_size, tiny.crop_size)
    torch.testing.assert_close(network.encoder.embed(images)[0], other.encoder.embed(images)[0])
    torch.testing.assert_close(network.encoder.blocks.state_dict(), other.encoder.blocks.state_dict())
    torch.testing.assert_close(network.cls_token, other.cls_token + 1)


def test_a_vit_of_another_geometry_is_refused(tiny: SegmentConfig) -> None:
    other = build_segmenter(replace(tiny, embed_dim=2 * tiny.embed_dim), 2)
    assert isinstance(other, ViTSegmenter)
    with pytest.raises(ValueError, match="not of one geometry"):
        start_from(build_segmenter(tiny, 2), other.encoder, other.cls_token)


def test_the_decoders_are_those_of_the_docs() -> None:
    """Weights in use, and what is written about sizes and rates, depend on it."""
    decoder = MLPDecoder(6, 3)
    assert [type(layer).__name__ for layer in decoder.layers] == ["Dropout", "Linear", "GELU", "Dropout", "Linear"]
    assert [layer.p for layer in decoder.layers if isinstance(layer, torch.nn.Dropout)] == [0.2, 0.2]
    assert decoder.layers[1].out_features == 256
    assert not any(parameter.requires_grad for parameter in decoder.tag_head.parameters())
    assert not decoder.tags(torch.randn(1, 5, 6)).any()  # says nothing before it is fitted
    decoder.eval()
    torch.nn.init.constant_(decoder.layers[4].bias[:1], 100.0)
    logs = decoder(torch.zeros(1, 6, 2, 2), torch.zeros(1, 3, 8, 8))
    torch.testing.assert_close(logs.amin(), torch.tensor(1e-7).log())  # no label is impossible
    torch.testing.assert_close(logs.amax(), torch.tensor(0.0))

    widths = {name: tuple(value.shape[:2]) for name, value in UpsampleDecoder(64, 16, 3).named_parameters()}
    assert widths["reduce.weight"] == (128, 64)
    assert [widths[f"levels.{level}.0.weight"] for level in (0, 1)] == [(128, 128), (64, 128)]
    assert [widths[f"stem.{layer}.0.weight"] for layer in (0, 1)] == [(32, 3), (32, 32)]
    assert (widths["fuse.0.weight"], widths["classify.weight"]) == ((64, 96), (3, 64))
    assert len(UpsampleDecoder(64, 4, 3).levels) == 1
    assert UpsampleDecoder(64, 128, 3).levels[-1][0].out_channels == 32  # never fewer
    norms = [layer for layer in UpsampleDecoder(64, 16, 3).modules() if isinstance(layer, torch.nn.GroupNorm)]
    assert {norm.num_groups for norm in norms} == {8}
    strides = [layer.stride for layer in UpsampleDecoder(64, 16, 3).stem.modules() if hasattr(layer, "stride")]
    assert strides == [(2, 2), (2, 2)]


def test_the_mlp_sees_standardised_features() -> None:
    decoder = MLPDecoder(4, 2).eval()
    decoder.mean.copy_(torch.tensor([1.0, -1.0, 0.0, 2.0]))
    decoder.std.copy_(torch.tensor([2.0, 0.5, 1.0, 4.0]))
    patches = torch.randn(3, 4)
    torch.testing.assert_close(decoder.classify(patches), decoder.layers((patches - decoder.mean) / decoder.std))
    images = torch.zeros(1, 3, 6, 10)
    grid = torch.randn(1, 4, 3, 5)
    probabilities = decoder.classify(grid.movedim(1, -1)).softmax(dim=-1).movedim(-1, 1)
    expected = F.interpolate(probabilities, size=(6, 10), mode="bilinear", align_corners=False)
    torch.testing.assert_close(decoder(grid, images).exp(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("recompute", [False, True])
def test_activations_are_recomputed_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch, recompute: bool) -> None:
    """Only where there is a backward pass; nothing else changes."""
    config = SegmentConfig(
        network="vit-linear", backbone="vit", weights="none", embed_dim=16, depth=3, num_heads=1, patch_size=8,
        drop_path=0.0,
    )  # fmt: skip
    network, calls = build_segmenter(config, 2, recompute), list[int]()
    original = networks.checkpoint
    monkeypatch.setattr(networks, "checkpoint", lambda *given, **more: (calls.append(1), original(*given, **more))[1])
    images = torch.randn(1, 3, 16, 16)
    logits = network(images)
    assert len(calls) == 3 * recompute
    with torch.no_grad():
        torch.testing.assert_close(network(images), logits)
    assert len(calls) == 3 * recompute
