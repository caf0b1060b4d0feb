"""A pass for inference: attention is computed in the open, once, and summed over blocks as it goes by.

In training only a few rows of few passes are looked at, so attention stays fused and those rows are recomputed from
queries and keys. Maps of photos need all of it in every block, and computing it again would cost more than it spares.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from cti.method.attention import attention_matrix, full_precision
from cti.method.network import CTI, CTIOutput
from cti.method.vit import run_block


@dataclass(frozen=True)
class SummedOutput(CTIOutput):
    """What CTI says about a batch, with the attention of some sets of blocks summed up; `attention` is empty.

    Args:
        summed: Blocks -> (B, T, T) attention, heads averaged, summed over them.
    """

    summed: dict[range, Tensor] = field(default_factory=dict)

    def class_to_patch(self, blocks: range) -> Tensor:
        """Class-to-patch attention summed over `blocks`, heads averaged: (B, K, h, w)."""
        num_tokens = self.class_tokens[0].shape[1]
        return self._attention_of(blocks)[:, :num_tokens, num_tokens:].unflatten(-1, self.patch_maps.shape[-2:])

    def refine(self, maps: Tensor, blocks: range) -> Tensor:
        """Patch affinity summed over `blocks`, times maps: (B, c, h, w) -> (B, c, h, w)."""
        num_tokens = self.class_tokens[0].shape[1]
        affinity = self._attention_of(blocks)[:, num_tokens:, num_tokens:]  # (B, N, N)
        with torch.autocast(maps.device.type, enabled=False):
            refined = affinity @ full_precision(maps).flatten(2).transpose(1, 2)  # (B, N, c)
        return refined.transpose(1, 2).unflatten(-1, maps.shape[-2:])

    def _attention_of(self, blocks: range) -> Tensor:
        if blocks not in self.summed:
            known = ", ".join(map(str, self.summed))
            raise ValueError(f"The attention of {known} was summed, not that of {blocks}.")
        return self.summed[blocks]


@torch.inference_mode()
def summed_forward(model: CTI, images: Tensor, *sets: range) -> SummedOutput:
    """A plain pass that keeps the summed attention of sets of blocks: one (T, T) matrix an image and set.

    Args:
        model: In eval mode.
        images: (B, 3, H, W), normalised; H and W multiples of the patch.
        sets: Sets of blocks whose attention is summed.
    """
    start = model.embed(images)
    B, T, _ = start.tokens.shape
    summed = {blocks: start.tokens.new_zeros(B, T, T) for blocks in sets}
    tokens, class_tokens, early = start.tokens, [], None
    for index, block in enumerate(model.backbone.blocks):
        sums = [total for blocks, total in summed.items() if index in blocks]
        attend = partial(open_attention, sums=sums) if sums else F.scaled_dot_product_attention
        tokens, _, _ = run_block(block, tokens, attend, start.key_bias)
        class_tokens.append(tokens[:, : model.num_class_tokens].clone())  # a view would keep the patch tokens too
        if index == model.early_block:
            early = tokens[:, model.num_class_tokens :]
    heads, located = model.heads(tokens, start.grid, early), model.located(tokens, early, start.grid)
    return SummedOutput(*heads, tuple(class_tokens), (), located, summed)


def open_attention(
    queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, sums: Sequence[Tensor]
) -> Tensor:
    """`softmax(q k^T / sqrt(d) + bias) v`, its matrix added to each of `sums`; not differentiable.

    Args:
        queries: (B, heads, T, d).
        keys: (B, heads, T, d).
        values: (B, heads, T, d).
        bias: (1, 1, 1, T) of the keys; None = 0.
        sums: (B, T, T) each; get the matrix, averaged over heads, in full precision.

    Returns:
        (B, heads, T, d).
    """
    mixed = torch.empty_like(values)
    key_bias = None if bias is None else bias.flatten()
    with torch.autocast(queries.device.type, enabled=False):
        for image in range(len(queries)):  # one at a time: its heads * T * T numbers stay near the processor
            attention = attention_matrix(queries[image], keys[image], key_bias)  # (heads, T, T)
            for total in sums:
                total[image] += attention.mean(dim=0)
            mixed[image] = attention.to(values.dtype) @ values[image]
    return mixed
