"""How alike the tokens of different classes are; what CTI's figures of class tokens show, as a number."""

import numpy as np
from numpy.typing import ArrayLike


def token_similarity(tokens: ArrayLike) -> float:
    """Mean cosine of the tokens of each two classes in the same photo: the lower, the better they are told apart.

    Args:
        tokens: (n, T, D), one token per photo and class.

    Returns:
        From -1 to 1: 1 = all point the same way. NaN for fewer than two classes, or without a photo.
    """
    given = np.asarray(tokens, np.float64)
    photos, classes, _ = given.shape
    if classes < 2 or not photos:
        return float("nan")
    unit = given / np.maximum(np.linalg.norm(given, axis=-1, keepdims=True), 1e-12)
    # The sum over all pairs is the squared length of the sum; each token's own share is taken away again.
    pairs = (unit.sum(axis=1) ** 2).sum(axis=-1) - (unit**2).sum(axis=(1, 2))
    return float(pairs.mean() / (classes * (classes - 1)))
