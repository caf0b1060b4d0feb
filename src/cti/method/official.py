"""The names of tensors in the CTI authors' checkpoints (their published VOC and COCO networks), and in ours."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cti.classes import COCO_CLASSES, VOC_CLASSES
from cti.config import ModelConfig

_NAMES = {
    "cls_token": "class_tokens.cls_token",
    "bg_token": "class_tokens.bg_token",
    "pos_embed_cls": "class_tokens.pos_embed",
    "pos_embed_pat": "backbone.pos_embed",
    "tokenizer.0.weight": "class_tokens.mlp.0.weight",
    "tokenizer.0.bias": "class_tokens.mlp.0.bias",
    "tokenizer.2.weight": "class_tokens.mlp.2.weight",
    "tokenizer.2.bias": "class_tokens.mlp.2.bias",
    "head.weight": "patch_head.weight",
    "head.bias": "patch_head.bias",
}
_UNUSED = ("pos_embed", "norm.weight", "norm.bias")  # in the checkpoints, but no part of the authors' network


def is_official(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the names of the authors' checkpoints."""
    return "bg_token" in state and "tokenizer.0.weight" in state


def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' tensors in the names of `cti.method.CTI`, without those that play no part."""
    return {_NAMES.get(name, f"backbone.{name}"): value for name, value in state.items() if name not in _UNUSED}


def to_timm_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' backbone in the names of timm's plain ViT; what the method adds to it is left out."""
    added = ("tokenizer.", "bg_token", "pos_embed_", "head.")
    backbone = {name: value for name, value in state.items() if not name.startswith(added)}
    return backbone | {"pos_embed": torch.cat([state["pos_embed_cls"][:, :1], state["pos_embed_pat"]], dim=1)}


def describe_official(
    state: Mapping[str, Tensor], source: str, classes: Sequence[str] | None = None
) -> tuple[Sequence[str], ModelConfig]:
    """The classes and the configuration of the network that a checkpoint of the authors' belongs to.

    Args:
        state: Tensors by name.
        source: Where they are from, for the error.
        classes: Class names; by default VOC's for 20 classes and COCO's for 80.

    Raises:
        ValueError: if the names are not the authors', or the classes do not fit their number.
    """
    if not is_official(state):
        raise ValueError(f"{source} has not the names of the CTI authors' checkpoints (bg_token, tokenizer.0.weight).")
    num_classes = state["head.weight"].shape[0] - 1
    names = classes or {len(VOC_CLASSES): VOC_CLASSES, len(COCO_CLASSES): COCO_CLASSES}.get(num_classes)
    if names is None or len(names) != num_classes:
        raise ValueError(f"{source} has {num_classes} classes; give their names, {num_classes} of them.")
    _, num_patches, dim = state["pos_embed_pat"].shape
    patch_size = state["patch_embed.proj.weight"].shape[-1]
    config = ModelConfig(
        backbone="vit",
        weights="none",
        image_size=int(num_patches**0.5) * patch_size,
        embed_dim=dim,
        depth=sum(name.endswith(".norm1.weight") for name in state),
        num_heads=dim // 64,  # as in every DeiT
        patch_size=patch_size,
        drop_path=0.0,
    )
    return names, config
