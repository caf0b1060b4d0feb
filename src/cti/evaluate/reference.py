"""The plain loop over thresholds that `ThresholdSweep` must equal; for tests and the benchmark only."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cti.classes import IGNORE_INDEX
from cti.evaluate.confusion import Counts


def sweep_by_loop(
    photos: Iterable[tuple[NDArray[np.float32], tuple[int, ...], NDArray[np.uint8]]],
    classes: Sequence[str],
    thresholds: ArrayLike,
) -> Counts:
    """Confusion matrices at each threshold, one argmax over [t, CAMs] per photo and threshold.

    Args:
        photos: (cams (n, H, W) float32 in [0, 1], class indices, mask (H, W) uint8) of each photo, in memory.
        classes: The C foreground classes.
        thresholds: (T,) background scores; compared in float32.

    Returns:
        (T, K, K) int64, true class first, background included.
    """
    num_values = len(classes) + 1
    limits = np.asarray(thresholds, np.float64)
    counts: Counts = np.zeros((limits.size, num_values, num_values), np.int64)
    for cams, class_indices, mask in photos:
        values = np.array([0, *(index + 1 for index in class_indices)])
        labelled = mask != IGNORE_INDEX
        true = mask[labelled].astype(np.int64)
        stack = np.concatenate([np.empty((1, *mask.shape), np.float32), cams])
        for index, threshold in enumerate(limits):
            stack[0] = threshold
            predicted = values[stack.argmax(axis=0)][labelled]
            pairs = np.bincount(true * num_values + predicted, minlength=num_values**2)
            counts[index] += pairs.reshape(num_values, num_values)
    return counts
