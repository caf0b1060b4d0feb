"""What attention and the patch head say about where a class is: pure functions of tensors.

Shapes: `B` images, `K` classes with the background first, `N = h*w` patches, `T = K+N` tokens. All of it is
computed in float32 (or float64 if that is what comes in), also under autocast: the 1e-5 in `max_norm`
vanishes in bfloat16. Source: docs/method.md, "Evidence".
"""

import torch
from torch import Tensor

EPS = 1e-5


def max_norm(maps: Tensor) -> Tensor:
    """Bring every map to [0, 1] by its own minimum and maximum.

    Args:
        maps: (..., H, W), any range; the last two axes are space.

    Returns:
        (..., H, W) in [0, 1): `relu(x - min - 1e-5) / (max - min + 1e-5)` of `x = relu(maps)`. A constant map gives 0.
    """
    maps = maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps
    maps = maps.relu()
    low = maps.amin(dim=(-2, -1), keepdim=True)
    high = maps.amax(dim=(-2, -1), keepdim=True)
    return (maps - low - EPS).relu() / (high - low + EPS)
