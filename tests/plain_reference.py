"""The method written as plainly as possible: what the fast code is compared with, in tests and in the benchmark.

Four separate passes through every block, every attention matrix kept, every map refined by a matrix product.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cti.config import MethodConfig
from cti.method import CTI


@dataclass
class PlainOutput:
    class_logits: Tensor  # (B, C)
    patch_logits: Tensor  # (B, C)
    patch_maps: Tensor  # (B, K, h, w)
    class_tokens: list[Tensor]  # (B, K, D) per block
    attention: list[Tensor]  # (B, T, T) per block, heads averaged


def plain_pass(model: CTI, images: Tensor, infuse: Tensor | None = None) -> PlainOutput:
    patches, (h, w) = model.backbone.embed(images)
    tokens = torch.cat([model.class_tokens().repeat(len(images), 1, 1), patches], dim=1)
    K, C = model.num_class_tokens, len(model.classes)
    class_tokens, attention = [], []
    for index, block in enumerate(model.backbone.blocks):
        if infuse is not None and index == model.infusion_index + 1:
            first = K - infuse.shape[1]
            mixed = (tokens[:, first:K] + infuse) / 2
            tokens = torch.cat([tokens[:, :first], mixed, tokens[:, K:]], dim=1)
        B, T, D = tokens.shape
        heads = block.attn.num_heads
        qkv = block.attn.qkv(block.norm1(tokens)).reshape(B, T, 3, heads, D // heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        weights = (q @ k.transpose(-1, -2) * (D // heads) ** -0.5).softmax(dim=-1)  # (B, heads, T, T)
        attention.append(weights.mean(dim=1))
        mixed = block.attn.proj((weights @ v).transpose(1, 2).reshape(B, T, D))
        tokens = tokens + block.drop_path1(block.ls1(mixed))
        tokens = tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))
        class_tokens.append(tokens[:, :K])
    ends = tokens[:, K:]
    if model.final_norm:
        ends = model.backbone.norm(ends)
    scores = model.patch_head(ends.transpose(1, 2).reshape(len(images), -1, h, w))
    return PlainOutput(
        tokens[:, K - C : K].mean(dim=2), scores[:, -C:].mean(dim=(2, 3)), scores.relu(), class_tokens, attention
    )


def class_to_patch(model: CTI, out: PlainOutput, blocks: range) -> Tensor:
    K, (h, w) = model.num_class_tokens, out.patch_maps.shape[-2:]
    return sum(out.attention[block] for block in blocks)[:, :K, K:].reshape(-1, K, h, w)


def patch_affinity(model: CTI, out: PlainOutput, blocks: range) -> Tensor:
    K = model.num_class_tokens
    return sum(out.attention[block] for block in blocks)[:, K:, K:]


def refine(affinity: Tensor, maps: Tensor) -> Tensor:
    B, c, h, w = maps.shape
    return (affinity @ maps.reshape(B, c, h * w).transpose(1, 2)).transpose(1, 2).reshape(B, c, h, w)


def max_norm(maps: Tensor) -> Tensor:
    result = torch.zeros_like(maps)
    for b in range(maps.shape[0]):
        for c in range(maps.shape[1]):
            x = F.relu(maps[b, c])
            result[b, c] = F.relu(x - x.min() - 1e-5) / (x.max() - x.min() + 1e-5)
    return result


def plain_step(
    model: CTI, method: MethodConfig, batch: dict[str, Tensor], bank_means: Tensor, full: Tensor
) -> dict[str, Tensor]:
    """The losses, with `bank_means` (C, D) and `full` (C,) given as they are after this batch was appended."""
    images, images_pos, labels = batch["images"], batch["images_pos"], batch["labels"]
    C, L, i = len(model.classes), model.depth, model.infusion_index
    after = range(i + 1, L)
    last = range(L - min(method.attention_blocks, L), L)
    plain, pos = plain_pass(model, images), plain_pass(model, images_pos)
    losses = {}
    losses["classification"] = sum(
        F.multilabel_soft_margin_loss(logits, labels)
        for logits in (plain.class_logits, plain.patch_logits, pos.class_logits, pos.patch_logits)
    )

    background = model.config.background
    if background != "none":
        attended = class_to_patch(model, plain, last)[:, -C:]
        maps = plain.patch_maps[:, 1:]
        fused = attended * (maps.detach() if method.detach_patch_maps_in_background else maps)
        rows = []
        for b in range(len(images)):
            tagged = labels[b].nonzero().flatten()
            rows.append(fused[b, tagged].max(dim=0, keepdim=True).values)
        bg = plain.patch_maps[:, :1]
        if background == "token":
            bg = bg * class_to_patch(model, plain, last)[:, :1]
        affinity = patch_affinity(model, plain, after)
        foreground = max_norm(refine(affinity, torch.stack(rows)))
        losses["background"] = ((1 - foreground) - max_norm(refine(affinity, bg))).abs().mean()

    intra = plain_pass(model, images, infuse=pos.class_tokens[i])
    losses["intra"] = (max_norm(plain.patch_maps) - max_norm(intra.patch_maps)).abs().mean()

    per_class = method.gate == "per_class"
    ready = torch.zeros_like(labels, dtype=torch.bool)
    for b in range(len(images)):
        for c in range(C):
            ready[b, c] = labels[b, c] > 0 and bool(full[c] if per_class else full.all())
    if ready.any():
        tokens = plain.class_tokens[i][:, -C:].detach().clone()
        for b, c in ready.nonzero().tolist():
            tokens[b, c] = bank_means[c]
        cross = plain_pass(model, images, infuse=tokens)
        fused = max_norm(cross.patch_maps[:, -C:] * class_to_patch(model, cross, after)[:, -C:])
        distance = (max_norm(plain.patch_maps[:, -C:]) - fused).abs().mean(dim=(2, 3))
        counted = ready | (labels == 0) if per_class else torch.ones_like(ready)
        losses["cross"] = distance[counted].mean()
    weights = {"classification": 1.0, "background": method.background_weight,
               "intra": method.intra_weight, "cross": method.cross_weight}  # fmt: skip
    losses["loss"] = sum(weights[name] * loss for name, loss in losses.items())
    return losses
