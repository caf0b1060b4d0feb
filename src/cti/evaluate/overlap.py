"""How much the CAMs of different classes of one photo lie on top of each other; what infusion claims to lower."""

from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from cti.evaluate.confusion import to_numpy


def cam_overlap(cams: ArrayLike | Tensor) -> float:
    """Overlap between the CAMs of one photo: mean over pairs of classes of sum(min) / sum(max), the soft IoU.

    Args:
        cams: (n, H, W), 0 or more.

    Returns:
        A fraction: 0 = disjoint (or both empty), 1 = equal. NaN for fewer than two maps.
    """
    maps = to_numpy(cams)
    if maps.shape[0] < 2:
        return float("nan")
    pairs = []
    for first, second in combinations(maps.reshape(maps.shape[0], -1), 2):
        union = float(np.maximum(first, second).sum(dtype=np.float64))
        pairs.append(float(np.minimum(first, second).sum(dtype=np.float64)) / union if union else 0.0)
    return float(np.mean(pairs))
