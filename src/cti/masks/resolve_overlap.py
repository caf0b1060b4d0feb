"""Which of a photo's classes a pixel is, where the maps of several lie on top of each other.

The affinity that makes a seed cover whole objects carries each class's map on to what lies beside it: where a rider
sits on a horse, both classes cover both, and which one leads is an accident. Another kind of map that was not carried
anywhere tells the two apart better. Not part of the paper.
"""

import numpy as np
from numpy.typing import NDArray

from cti.config import OverlapConfig

_TINY = 1e-4  # where no class has any evidence, none is preferred


def resolve_overlap(
    scores: NDArray[np.float32], evidence: NDArray[np.float32], config: OverlapConfig
) -> NDArray[np.float32]:
    """Weaken, pixel by pixel, the classes that have less evidence than the best one.

    Args:
        scores: (1+n, H, W) in [0, 1], background first.
        evidence: (n, H, W) in [0, 1], class activation maps of the kind that decides.
        config: How sharply.

    Returns:
        (1+n, H, W) in [0, 1]: class c times (evidence_c / best evidence)^power; the background as it was. So the class
        with most evidence keeps its score, and a photo with one class is left alone.
    """
    share = np.maximum(evidence, _TINY)
    share = share / share.max(axis=0, keepdims=True, initial=_TINY)
    return np.concatenate([scores[:1], scores[1:] * share**config.power])
