"""Which kernel computes attention in training: torch's fused one, or products in the open, some images at a time.

In float32 the fused kernel is the quickest here. In bfloat16 on a processor that multiplies it quickly, products run
near the full rate and the fused kernel at a tenth of it, so the open one is measured against it once per
size and kept in a file of this machine: a resumed run must not choose anew.
"""

import contextlib
import json
import math
import os
import platform
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cti.files import write_json

FUSED = 0
CHOICES = (FUSED, 1, 8, 64)
"""Images that the open kernel takes at a time; 0 = the fused kernel."""
_ROUNDS = 3


def attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    """`softmax(q k^T / sqrt(d) + bias) v` by the kernel that is quickest for this size, type and device.

    Args:
        queries: (B, heads, T, d).
        keys: (B, heads, T, d).
        values: (B, heads, T, d).
        bias: (1, 1, 1, T) of the keys, not trained; None = nothing.

    Returns:
        (B, heads, T, d).
    """
    images = FUSED
    if queries.dtype == torch.bfloat16 and queries.device.type == "cpu" and torch.is_grad_enabled():
        images = chosen(tuple(queries.shape), torch.get_num_threads())
    if images == FUSED:
        return F.scaled_dot_product_attention(queries, keys, values, bias)
    mixed: Tensor = OpenAttention.apply(queries, keys, values, bias, images)
    return mixed


class OpenAttention(torch.autograd.Function):
    """Attention in the open, some images at a time so that their matrices stay near the processor.

    The matrix is computed again in the backward pass instead of being kept.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, images: int) -> Tensor:
        """See `attend`; `images` are taken at a time."""
        ctx.save_for_backward(queries, keys, values)
        ctx.bias, ctx.images = bias, images
        mixed = torch.empty_like(values)
        with torch.autocast(queries.device.type, enabled=False):
            for part in _parts(len(queries), images):
                mixed[part] = _matrix(queries[part], keys[part], bias) @ values[part]
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys and values; softmax: dz = p * (dp - sum(p * dp))."""
        (gradient,) = gradients
        queries, keys, values = ctx.saved_tensors
        results = [torch.empty_like(each) for each in (queries, keys, values)]
        scale = queries.shape[-1] ** -0.5
        with torch.autocast(queries.device.type, enabled=False):
            for part in _parts(len(queries), ctx.images):
                matrix = _matrix(queries[part], keys[part], ctx.bias)
                results[2][part] = matrix.transpose(-2, -1) @ gradient[part]
                inner = gradient[part] @ values[part].transpose(-2, -1)
                inner = torch._softmax_backward_data(inner, matrix, -1, matrix.dtype)
                results[0][part] = (inner @ keys[part]) * scale
                results[1][part] = (inner.transpose(-2, -1) @ queries[part]) * scale
        return *results, None, None


def _matrix(queries: Tensor, keys: Tensor, bias: Tensor | None) -> Tensor:
    logits = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    return (logits if bias is None else logits + bias).softmax(dim=-1)


def _parts(count: int, images: int) -> list[slice]:
    return [slice(start, start + images) for start in range(0, count, images)]


@lru_cache(maxsize=256)
def chosen(shape: tuple[int, ...], threads: int) -> int:
    """The quickest of `CHOICES` for bfloat16 of this shape on this machine, measured once and written down.

    Args:
        shape: (B, heads, T, d).
        threads: Threads that torch computes with.
    """
    path = _cache_folder() / "attention.json"
    key = f"{platform.node()} torch {torch.__version__} {threads} threads {'x'.join(map(str, shape))}"
    known = _read(path)
    if known.get(key) in CHOICES:
        return known[key]
    seconds = {images: _seconds(shape, images) for images in CHOICES if images <= shape[0]}
    best = min(seconds, key=lambda images: seconds[images])
    with contextlib.suppress(OSError):  # no home to write to: it holds for this process
        write_json(path, {**_read(path), key: best})
    return best


def _seconds(shape: tuple[int, ...], images: int) -> float:
    """Seconds of a forward and a backward pass: the quickest of some rounds."""
    inputs = [torch.ones(shape, dtype=torch.bfloat16).requires_grad_() for _ in range(3)]
    kernel: Callable[..., Tensor] = (
        F.scaled_dot_product_attention if images == FUSED else lambda *args: OpenAttention.apply(*args, None, images)
    )
    best = math.inf
    with torch.enable_grad():
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            kernel(*inputs).sum().backward()
            best = min(best, time.perf_counter() - start)
    return best


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cti"


def _read(path: Path) -> dict[str, int]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
