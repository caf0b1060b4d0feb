"""The method, written as plainly as possible: read this first.

Four separate passes through every block, every attention matrix held, every map refined by a matrix product, nothing
shared and nothing fast. `cti.method.step` computes the same in half the time; the tests hold one against the other, the
benchmark times both.

Source: Yoon et al., "Class Tokens Infusion for Weakly Supervised Semantic Segmentation", CVPR 2024, section 3, and
docs/method.md. Shapes: B images; C foreground classes; K = C+1 class tokens, the background first; N = h*w patches;
T = K+N tokens of width D; L blocks; i the infusion index.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cti.config import MethodConfig
from cti.method.network import CTI


@dataclass(frozen=True)
class PlainOutput:
    """What one pass leaves behind.

    Args:
        class_logits: (B, C).
        patch_logits: (B, C).
        patch_maps: (B, K, h, w).
        class_tokens: (B, K, D) at the output of each block.
        attention: (B, T, T) of each block, averaged over heads.
    """

    class_logits: Tensor
    patch_logits: Tensor
    patch_maps: Tensor
    class_tokens: list[Tensor]
    attention: list[Tensor]


def plain_step(
    model: CTI, method: MethodConfig, batch: dict[str, Tensor], bank_means: Tensor, full: Tensor
) -> dict[str, Tensor]:
    """The losses of one batch: what training makes small.

    Args:
        model: The network.
        method: Weights and switches; all losses are computed, whatever `start_epoch` says.
        batch: `images` and `images_pos` (B, 3, H, W), two views of each photo; `labels` (B, C) multi-hot.
        bank_means: (C, D) mean token of each class in the bank, this batch's own tokens included.
        full: (C,) bool, classes of whose tokens the bank has enough.

    Returns:
        Scalars: `classification`, `background`, `intra`, `cross` and their weighted sum `loss`.
    """
    labels = batch["labels"]
    C, L, i = len(model.classes), model.depth, model.infusion_index
    last = range(max(L - method.attention_blocks, 0), L)  # these blocks say where classes are
    after = range(i + 1, L)  # these see infused tokens
    losses = {}

    # Passes 1 and 2: both views as they are. Class tokens and patches alike must know the photo's tags.
    view1 = plain_pass(model, batch["images"])
    view2 = plain_pass(model, batch["images_pos"])
    losses["classification"] = (
        F.multilabel_soft_margin_loss(view1.class_logits, labels)
        + F.multilabel_soft_margin_loss(view1.patch_logits, labels)
        + F.multilabel_soft_margin_loss(view2.class_logits, labels)
        + F.multilabel_soft_margin_loss(view2.patch_logits, labels)
    )

    # The background token has no tag to learn from. It learns that it is where no tagged class is.
    if model.has_background:
        attended = class_to_patch(model, view1, last)
        patch_maps = view1.patch_maps[:, -C:]
        if method.detach_patch_maps_in_background:  # COCO: the attention alone learns
            patch_maps = patch_maps.detach()
        fused = patch_maps * attended[:, -C:]
        strongest = (fused * labels[:, :, None, None]).max(dim=1, keepdim=True).values  # of the tagged classes
        background = view1.patch_maps[:, :1]
        if model.config.background == "token":
            background = background * attended[:, :1]
        affinity = patch_affinity(model, view1, after)
        foreground, background = max_norm(refine(affinity, strongest)), max_norm(refine(affinity, background))
        losses["background"] = ((1 - foreground) - background).abs().mean()

    # Pass 3, intra-image infusion: view 1 once more, with view 2's tokens averaged into its own. The same objects are
    # in both views, so the maps should stay the same.
    tokens = view2.class_tokens[i].detach() if method.intra_detach else view2.class_tokens[i]
    intra = plain_pass(model, batch["images"], infuse=tokens)
    losses["intra"] = (max_norm(view1.patch_maps) - max_norm(intra.patch_maps)).abs().mean()

    # Pass 4, cross-image infusion: a tagged class gets what other photos of the class say it looks like, the others
    # keep their own token. The tokens are given, not learned: no gradient.
    per_class = method.gate == "per_class"
    ready = (labels > 0) & (full if per_class else full.all())  # (B, C)
    if ready.any() or full.all():
        tokens = view1.class_tokens[i][:, -C:].detach()
        if method.cross_source == "bank":
            tokens = torch.where(ready[:, :, None], bank_means, tokens)
        cross = plain_pass(model, batch["images"], infuse=tokens)
        fused = cross.patch_maps[:, -C:] * class_to_patch(model, cross, after)[:, -C:]
        distance = (max_norm(view1.patch_maps[:, -C:]) - max_norm(fused)).abs().mean(dim=(2, 3))  # (B, C)
        if per_class:  # a tagged class that waits for its tokens does not count
            distance = distance[ready | (labels == 0)]
        losses["cross"] = distance.mean()

    weights = {"classification": 1.0, "background": method.background_weight,
               "intra": method.intra_weight, "cross": method.cross_weight}  # fmt: skip
    losses["loss"] = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
    return losses


def plain_pass(model: CTI, images: Tensor, infuse: Tensor | None = None) -> PlainOutput:
    """One pass of images through the whole network.

    Args:
        model: The network.
        images: (B, 3, H, W), normalised.
        infuse: Class tokens for the input of block i+1: (B, C, D) for the foreground or (B, K, D) for all.
    """
    patches, (h, w) = model.backbone.embed(images)
    B, K, C = len(images), model.num_class_tokens, len(model.classes)
    tokens = torch.cat([model.class_tokens().repeat(B, 1, 1), patches], dim=1)  # (B, T, D)
    class_tokens, attention = [], []
    for index, block in enumerate(model.backbone.blocks):
        if infuse is not None and index == model.infusion_index + 1:
            first = K - infuse.shape[1]  # with C tokens the background keeps its own
            mixed = (tokens[:, first:K] + infuse) / 2
            tokens = torch.cat([tokens[:, :first], mixed, tokens[:, K:]], dim=1)
        tokens, matrix = _block(block, tokens)
        class_tokens.append(tokens[:, :K])
        attention.append(matrix)
        if index == model.early_block:
            early = F.layer_norm(tokens[:, K:], tokens.shape[2:])
    # A class is in the photo as far as the mean of its token says so, and as far as the mean of its map does.
    ends = model.backbone.norm(tokens[:, K:]) if model.final_norm else tokens[:, K:]
    if model.early_block is not None:  # not the paper's: patches of an earlier block beside them
        ends = torch.cat([early, ends], dim=2)
    scores = model.patch_head(ends.transpose(1, 2).reshape(B, -1, h, w))  # (B, K, h, w)
    class_logits, patch_logits = tokens[:, K - C : K].mean(dim=2), scores[:, -C:].mean(dim=(2, 3))
    return PlainOutput(class_logits, patch_logits, scores.relu(), class_tokens, attention)


def _block(block: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """A transformer block as in any textbook; also returns its attention matrix, averaged over heads (B, T, T)."""
    B, T, D = tokens.shape
    heads = block.attn.num_heads
    qkv = block.attn.qkv(block.norm1(tokens)).reshape(B, T, 3, heads, D // heads).permute(2, 0, 3, 1, 4)
    queries, keys, values = qkv.unbind(0)  # each (B, heads, T, D / heads)
    weights = (queries @ keys.transpose(-1, -2) * (D // heads) ** -0.5).softmax(dim=-1)  # (B, heads, T, T)
    mixed = block.attn.proj((weights @ values).transpose(1, 2).reshape(B, T, D))
    tokens = tokens + block.drop_path1(block.ls1(mixed))
    tokens = tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))
    return tokens, weights.mean(dim=1)


def class_to_patch(model: CTI, out: PlainOutput, blocks: range) -> Tensor:
    """Where each class token looks: (B, K, h, w), its attention to the patches, summed over blocks."""
    K, (h, w) = model.num_class_tokens, out.patch_maps.shape[-2:]
    return torch.stack([out.attention[block] for block in blocks]).sum(dim=0)[:, :K, K:].reshape(-1, K, h, w)


def patch_affinity(model: CTI, out: PlainOutput, blocks: range) -> Tensor:
    """Which patches belong together: (B, N, N), attention between patches, summed over blocks."""
    K = model.num_class_tokens
    return torch.stack([out.attention[block] for block in blocks]).sum(dim=0)[:, K:, K:]


def refine(affinity: Tensor, maps: Tensor) -> Tensor:
    """Spread maps (B, c, h, w) over the patches that belong together."""
    B, c, h, w = maps.shape
    return (affinity @ maps.reshape(B, c, h * w).transpose(1, 2)).transpose(1, 2).reshape(B, c, h, w)


def max_norm(maps: Tensor) -> Tensor:
    """Bring every map of (B, c, h, w) to [0, 1], one after the other."""
    result = torch.zeros_like(maps)
    for b in range(maps.shape[0]):
        for c in range(maps.shape[1]):
            x = F.relu(maps[b, c])
            result[b, c] = F.relu(x - x.min() - 1e-5) / (x.max() - x.min() + 1e-5)
    return result
