"""What attention and the patch head say about where a class is: pure functions of tensors.

Shapes: `B` images, `K` classes with the background first, `N = h*w` patches, `T = K+N` tokens. All of it is
computed in float32 (or float64 if that is what comes in), also under autocast: the 1e-5 in `max_norm`
vanishes in bfloat16. Source: docs/method.md, "Evidence".
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

EPS = 1e-5
_TOP = 0.03


class QueriesKeys(NamedTuple):
    """What one block's attention is made of: queries and keys (B, heads, T, d), and a bias of the keys (T,), if any."""

    queries: Tensor
    keys: Tensor
    key_bias: Tensor | None = None


def max_norm(maps: Tensor, ends: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Bring every map to [0, 1] by its own minimum and maximum.

    Args:
        maps: (..., H, W), any range; the last two axes are space.
        ends: Minimum and maximum (..., 1, 1) of their ReLU, where `maps` are only a part; None = found here.

    Returns:
        (..., H, W) in [0, 1): `relu(x - min - 1e-5) / (max - min + 1e-5)` of `x = relu(maps)`. A constant map gives 0.
    """
    maps = full_precision(maps).relu()
    low, high = ends or (maps.amin(dim=(-2, -1), keepdim=True), maps.amax(dim=(-2, -1), keepdim=True))
    return (maps - low - EPS).relu() / (high - low + EPS)


def pool_scores(scores: Tensor, kind: str) -> Tensor:
    """Scores of a photo (B, C) from those of its patches (B, C, h, w).

    Args:
        scores: Of any range.
        kind: `mean`; `topk`, the mean of the highest 3 % (at least one patch); `lse`, log of the mean of exponentials.
    """
    if kind == "mean":
        return scores.mean(dim=(-2, -1))
    patches = scores.flatten(2)
    N = patches.shape[-1]
    if kind == "topk":
        return patches.topk(max(round(_TOP * N), 1), dim=-1).values.mean(dim=-1)
    return patches.logsumexp(dim=-1) - math.log(N)


def full_precision(x: Tensor) -> Tensor:
    """Return half-precision tensors as float32; float32 and float64 pass through."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def class_to_patch(attention: QueriesKeys, num_class_tokens: int) -> Tensor:
    """Attention of one block from class tokens to patches, averaged over heads; only these rows are computed.

    Args:
        attention: Queries and keys of one block, class tokens first.
        num_class_tokens: K.

    Returns:
        (B, K, N): the patch columns of the class rows of `softmax(q k^T / sqrt(d))` over all T columns.
    """
    queries, keys, bias = attention
    with torch.autocast(queries.device.type, enabled=False):
        rows = attention_matrix(queries[:, :, :num_class_tokens], keys, bias)  # (B, heads, K, T)
        return rows.mean(dim=1)[..., num_class_tokens:]


def patch_affinity_times(attention: QueriesKeys, num_class_tokens: int, maps: Tensor) -> Tensor:
    """One block's patch affinity applied to maps: attention whose values are the maps.

    Args:
        attention: Queries and keys of one block, class tokens first.
        num_class_tokens: K.
        maps: (B, c, N).

    Returns:
        (B, c, N): for each patch the maps' values at all patches, weighted by its attention to them, averaged over
        heads. The class columns' share of the attention is left out and not re-normalised. No head-averaged (N, N)
        matrix is made.
    """
    queries, keys, bias = attention
    with torch.autocast(queries.device.type, enabled=False):
        rows = attention_matrix(queries[:, :, num_class_tokens:], keys, bias)  # (B, heads, N, T)
        rows = rows[..., num_class_tokens:]
        values = full_precision(maps).transpose(1, 2).unsqueeze(1)  # (B, 1, N, c)
        return (rows @ values).mean(dim=1).transpose(1, 2)


def attention_matrix(queries: Tensor, keys: Tensor, key_bias: Tensor | None = None) -> Tensor:
    """`softmax(q k^T / sqrt(d) + bias)`: (..., Q, T) from queries (..., Q, d), keys (..., T, d) and a bias (T,)."""
    logits = full_precision(queries) * queries.shape[-1] ** -0.5 @ full_precision(keys).transpose(-2, -1)
    return (logits if key_bias is None else logits + key_bias).softmax(dim=-1)
