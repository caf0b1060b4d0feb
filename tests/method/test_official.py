"""Checkpoints in the authors' names: as a whole network, and as the backbone of another one."""

import pytest
import torch
from torch import Tensor, nn

from cti.method import CTI
from cti.method.official import is_official, to_our_names, to_timm_names
from cti.method.weights import load_backbone_weights, read_state_dict
from tiny import CLASSES, tiny_model


def theirs(model: CTI) -> dict[str, Tensor]:
    """A model's tensors in the authors' names, written down by hand."""
    tokens, backbone = model.class_tokens, model.backbone
    assert tokens.bg_token is not None
    state = {
        "cls_token": tokens.cls_token,
        "bg_token": tokens.bg_token,
        "pos_embed_cls": tokens.pos_embed,
        "pos_embed_pat": backbone.pos_embed,
        "tokenizer.0.weight": tokens.mlp[0].weight,
        "tokenizer.0.bias": tokens.mlp[0].bias,
        "tokenizer.2.weight": tokens.mlp[2].weight,
        "tokenizer.2.bias": tokens.mlp[2].bias,
        "head.weight": model.patch_head.weight,
        "head.bias": model.patch_head.bias,
        "pos_embed": torch.zeros(1, 17, 64),
        "norm.weight": torch.ones(64),
        "norm.bias": torch.zeros(64),
        **{f"blocks.{name}": value for name, value in backbone.blocks.state_dict().items()},
        **{f"patch_embed.{name}": value for name, value in backbone.patch_embed.state_dict().items()},
    }
    return {name: value.detach().clone() for name, value in state.items()}


@pytest.fixture
def model() -> CTI:
    return tiny_model(embed_dim=64, num_heads=1, infusion_index=1, depth=5).eval()


def test_a_network_comes_in_whole(model: CTI, tmp_path) -> None:
    state = theirs(model)
    assert is_official(state)
    assert not is_official(model.state_dict())
    torch.save({"model": state}, tmp_path / "theirs.pth")
    for source in (state, tmp_path / "theirs.pth", str(tmp_path / "theirs.pth")):
        back = CTI.from_official(source, CLASSES)
        assert (back.config.image_size, back.config.patch_size, back.depth) == (32, 8, 5)
        assert back.backbone.blocks[0].attn.num_heads == 1  # of 64 channels
        assert back.infusion_index == 3  # the authors', whatever this one had
        assert isinstance(back.backbone.blocks[4].drop_path1, nn.Identity)  # it is not trained on
        for name, value in to_our_names(state).items():
            assert torch.equal(back.state_dict()[name], value), name
    precise = CTI.from_official({name: value.double() for name, value in state.items()}, CLASSES)
    assert precise.patch_head.weight.dtype == torch.float64


def test_what_does_not_fit_is_said(model: CTI) -> None:
    state = theirs(model)
    with pytest.raises(ValueError, match="the state dict has 3 classes; give their names, 3 of them"):
        CTI.from_official(state)
    with pytest.raises(ValueError, match="has 3 classes"):
        CTI.from_official(state, ("cat", "dog"))
    with pytest.raises(ValueError, match="has not the names of the CTI authors' checkpoints"):
        CTI.from_official(model.state_dict(), CLASSES)
    cut = {name: value for name, value in state.items() if name != "blocks.2.attn.qkv.bias"}
    with pytest.raises(ValueError, match=r"missing \['backbone.blocks.2.attn.qkv.bias'\], not used \['backbone.extra"):
        CTI.from_official(cut | {"extra": torch.ones(1)}, CLASSES)
    with pytest.raises(ValueError, match=r"missing \['backbone.blocks.2.attn.qkv.bias'\], not used \[\]"):
        CTI.from_official(cut, CLASSES)
    with pytest.raises(ValueError, match=r"missing \[\], not used \['backbone.extra'\]"):
        CTI.from_official(state | {"extra": torch.ones(1)}, CLASSES)
    for name in ("bg_token", "tokenizer.0.weight"):
        assert not is_official({key: value for key, value in state.items() if key != name})


def test_a_backbone_comes_out_for_timm(model: CTI, tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    """For other classes and another crop: the CLS position is the first class token's."""
    from timm.models.vision_transformer import VisionTransformer

    state = theirs(model)
    assert torch.equal(to_timm_names(state)["pos_embed"][:, 0], state["pos_embed_cls"][:, 0])
    assert torch.equal(to_timm_names(state)["pos_embed"][:, 1:], state["pos_embed_pat"])
    vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=64, depth=5, num_heads=1, num_classes=0)
    load_backbone_weights(vit, state, "theirs")
    assert not caplog.records  # nothing is left over
    for name, value in vit.state_dict().items():
        assert torch.equal(value, to_timm_names(state)[name]), name
    torch.save(state, tmp_path / "theirs.pth")
    other = CTI(("a", "b"), "vit", tmp_path / "theirs.pth", image_size=48, patch_size=8, embed_dim=64, depth=5,
                num_heads=1)  # fmt: skip
    assert torch.equal(other.backbone.blocks[4].attn.qkv.weight, state["blocks.4.attn.qkv.weight"])
    assert other.backbone.pos_embed.shape == (1, 36, 64)
    assert torch.equal(other.class_tokens.cls_token, read_state_dict(tmp_path / "theirs.pth")["cls_token"])
