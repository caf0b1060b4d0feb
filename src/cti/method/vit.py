"""A plain vision transformer whose blocks also hand out their queries and keys.

timm keeps the modules and the pre-trained weights; what is ours is the way through them: fused attention never
shows its matrix, so the few rows of it that the method looks at are recomputed from queries and keys.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from cti.method.attend import attend

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""Queries, keys, values, each (B, heads, T, d), and a bias of the keys that broadcasts to (B, heads, T, T) or None ->
`softmax(q k^T / sqrt(d) + bias) v`, (B, heads, T, d)."""


def run_block(
    block: Any, tokens: Tensor, attend: Attend = attend, key_bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """One pre-norm transformer block.

    Args:
        block: timm's `Block`.
        tokens: (B, T, D).
        attend: How attention is computed: as is quickest, or in the open for whoever wants its matrix.
        key_bias: (T,) added to the attention logits of each key; None = nothing.

    Returns:
        The block's output (B, T, D), its queries and its keys (B, heads, T, d).
    """
    attention = block.attn
    B, T, _ = tokens.shape
    qkv = attention.qkv(block.norm1(tokens)).reshape(B, T, 3, attention.num_heads, attention.head_dim)
    # Taken apart first and turned then: the gradient is put together in one copy instead of two.
    queries, keys, values = (part.transpose(1, 2) for part in qkv.unbind(2))  # each (B, heads, T, d)
    queries, keys = attention.q_norm(queries), attention.k_norm(keys)
    bias = None if key_bias is None else key_bias.to(queries.dtype)[None, None, None]
    mixed = attend(queries, keys, values, bias).transpose(1, 2).flatten(2)  # (B, T, D)
    tokens = tokens + block.drop_path1(block.ls1(attention.proj(mixed)))
    tokens = tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))
    return tokens, queries, keys


def middle_block(depth: int) -> int:
    """The 0-based block at whose output patches are least smeared and yet know what they show (docs/results.md)."""
    return max(3 * depth // 4 - 1, 0)


class PlainViT(nn.Module):
    """Patch embedding, position embedding, blocks and final norm of a timm `VisionTransformer`.

    Parameters keep timm's names, but `pos_embed` holds the patches only; the pre-trained CLS token and its position
    are in `initial_cls` for whoever makes tokens of their own from them.

    Args:
        vit: timm's model; its position grid must be square.

    Raises:
        ValueError: if `vit` is not a plain ViT (register tokens, pre-norm, gated or rotary attention).
    """

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        _check_plain(vit)
        self.patch_embed = vit.patch_embed
        self.blocks = vit.blocks
        self.norm = vit.norm
        self.embed_dim: int = vit.embed_dim
        patch_h, patch_w = vit.patch_embed.patch_size
        assert patch_h == patch_w
        self.patch_size: int = patch_h
        self.has_layer_scale = not isinstance(vit.blocks[0].ls1, nn.Identity)
        metadata: dict[str, Any] = vars(vit).get("pretrained_cfg", {})
        self.mean: tuple[float, ...] = tuple(metadata.get("mean", IMAGENET_DEFAULT_MEAN))
        self.std: tuple[float, ...] = tuple(metadata.get("std", IMAGENET_DEFAULT_STD))

        num_patches = vit.patch_embed.num_patches
        assert vit.pos_embed is not None
        assert vit.cls_token is not None
        positions = vit.pos_embed.detach()  # (1, [1 +] N, D)
        self.pos_embed = nn.Parameter(positions[:, -num_patches:].clone())  # (1, N, D)
        has_cls_position = positions.shape[1] == num_patches + 1
        cls_position = positions[:, :1] if has_cls_position else torch.zeros_like(positions[:, :1])
        self.initial_cls = (vit.cls_token.detach().clone(), cls_position.clone())  # each (1, 1, D)

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Patch tokens with their positions.

        Args:
            images: (B, 3, H, W), normalised; H and W multiples of the patch.

        Returns:
            Tokens (B, N, D) and the patch grid (h, w).

        Raises:
            ValueError: if H or W is not a multiple of the patch.
        """
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"Images of {height} x {width} px do not divide into patches of {self.patch_size} px; "
                "resize both sides to a multiple of it."
            )
        patches = self.patch_embed.proj(images)  # (B, D, h, w)
        h, w = patches.shape[-2:]
        return patches.flatten(2).transpose(1, 2) + self.positions((h, w)), (h, w)

    def freeze(self, num_blocks: int, setting: str) -> None:
        """Keep the weights of the first blocks and of all that comes before them; where these are all, the norm's too.

        Args:
            num_blocks: 0 freezes nothing.
            setting: Name of the setting, for the message.

        Raises:
            ValueError: if there are fewer blocks.
        """
        if num_blocks > len(self.blocks):
            raise ValueError(
                f"{setting} is {num_blocks}, but the backbone has {len(self.blocks)} blocks; give at most that."
            )
        if num_blocks == 0:
            return
        # Everything before the last frozen block, so that the backward pass ends there.
        self.patch_embed.requires_grad_(False)
        self.pos_embed.requires_grad_(False)
        for block in self.blocks[:num_blocks]:
            block.requires_grad_(False)
            block.drop_path1 = block.drop_path2 = nn.Identity()  # noise to which nothing could adapt
        self.norm.requires_grad_(num_blocks < len(self.blocks))

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embedding resized to the patch grid (h, w): (1, h*w, D)."""
        _, num_patches, D = self.pos_embed.shape
        side = int(num_patches**0.5)
        if grid == (side, side):
            return self.pos_embed
        square = self.pos_embed.transpose(1, 2).reshape(1, D, side, side)
        # Not timm's helper: that one antialiases and casts to float32.
        resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False, antialias=False)
        return resized.flatten(2).transpose(1, 2)


def conv_stem(embed_dim: int, patch_size: int) -> nn.Sequential:
    """Patch embedding by 3x3 convolutions of stride 2 instead of one large strided one.

    A ViT's own patch embedding has to learn edges and textures from scratch, for every place in the patch anew; a few
    convolutions learn them from a fraction of the images (Xiao et al., "Early Convolutions Help Transformers See
    Better", 2021).

    Args:
        embed_dim: D.
        patch_size: Side of a patch in pixels, a power of two.

    Returns:
        Images (B, 3, H, W) -> patch embeddings (B, D, H / patch, W / patch).

    Raises:
        ValueError: if the patch is not a power of two.
    """
    if patch_size < 2 or patch_size & (patch_size - 1):
        raise ValueError(f"model.stem conv halves the image again and again; patch_size {patch_size} is no power of 2.")
    stages = patch_size.bit_length() - 1
    widths = [3, *(max(16, embed_dim >> (stages - 1 - stage)) for stage in range(stages))]
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        # GroupNorm, for the step's batch mixes views and passes.
        convolution = nn.Conv2d(width_in, width_out, kernel_size=3, stride=2, padding=1, bias=False)
        layers += [convolution, nn.GroupNorm(1, width_out), nn.GELU()]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], embed_dim, kernel_size=1))


def _check_plain(vit: VisionTransformer) -> None:
    reasons = {
        "it has register tokens": vit.num_prefix_tokens != 1,
        "it has no CLS token": vit.cls_token is None,
        "it normalises before the blocks": not isinstance(vit.norm_pre, nn.Identity),
        "its patches are embedded by another network": not isinstance(vit.patch_embed, PatchEmbed),
        "its patch embedding is normalised": not isinstance(getattr(vit.patch_embed, "norm", None), nn.Identity),
        "its position grid is not square": int(vit.patch_embed.num_patches**0.5) ** 2 != vit.patch_embed.num_patches,
        "its attention is not the standard one": not all(
            isinstance(block, Block)
            and isinstance(block.attn.norm, nn.Identity)
            and getattr(block.attn, "gate", None) is None
            for block in vit.blocks
        ),
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if found:
        raise ValueError(
            f"This backbone is not a plain ViT: {', '.join(found)}. Choose one such as deit_small_patch16_224, "
            "vit_small_patch16_224 or vit_small_patch14_dinov2."
        )
