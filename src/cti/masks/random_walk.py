"""Scores walk between grid points that belong together (PSA, Ahn & Kwak 2018; IRNet, Ahn, Cho & Kwak 2019).

The transition matrix is the affinities to the power beta, with every row divided by its sum. It is sparse (69 partners
a row at radius 5), so the walk is repeated sparse application: squaring it, as PSA does, makes it dense.
"""

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from cti.masks.affinity_labels import Offset


def transition_matrix(affinity: NDArray[np.float32], offsets: tuple[Offset, ...], beta: float) -> Any:
    """Build the walk's matrix.

    Args:
        affinity: (o, h, w) in [0, 1]: of each grid point with its partner at each offset.
        offsets: The o offsets (dy, dx), each unordered pair once.
        beta: Power of the affinities.

    Returns:
        (h*w, h*w) CSR matrix; symmetric affinities to the power beta with 1 on the diagonal, rows divided by
        their sums. Pairs that leave the grid do not occur.
    """
    _, height, width = affinity.shape
    num_points = height * width
    points = np.arange(num_points, dtype=np.int32).reshape(height, width)
    sources, partners, weights = [], [], []
    for (dy, dx), values in zip(offsets, affinity, strict=True):
        assert dy >= 0, "pairs are listed downwards"
        rows, columns = slice(0, max(0, height - dy)), slice(max(0, -dx), max(0, width - max(0, dx)))
        sources.append(points[rows, columns].ravel())
        partners.append(sources[-1] + dy * width + dx)
        weights.append(values[rows, columns].ravel() ** beta)
    source, partner, weight = (np.concatenate(parts) for parts in (sources, partners, weights))
    linked = weight > 1e-6  # what is lost in 256 steps is below a thousandth; what is saved is most of the matrix
    source, partner, weight = source[linked], partner[linked], weight[linked]
    upper = scipy.sparse.coo_matrix((weight, (source, partner)), shape=(num_points, num_points)).tocsr()
    both = upper + upper.T + scipy.sparse.identity(num_points, dtype=np.float32, format="csr")
    sums = np.asarray(both.sum(axis=1)).ravel()
    return (scipy.sparse.diags(1 / sums) @ both).tocsr()


def random_walk(transition: Any, scores: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
    """Let scores walk.

    Args:
        transition: (h*w, h*w) matrix whose rows sum to 1.
        scores: (c, h, w), any range.
        steps: Number of steps.

    Returns:
        (c, h, w): `transition`^steps applied to each channel; within the channel's range.
    """
    walked = scores.copy()
    for channel in walked:
        if channel.min() == channel.max():  # a constant stays what it is: rows sum to 1
            continue
        values = channel.ravel()  # one vector at a time: SciPy's product with several is several times slower
        for _ in range(steps):
            values = transition @ values
        channel[:] = values.reshape(channel.shape)
    return walked
