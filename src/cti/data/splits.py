"""A split drawn by seed, for data sets without lists."""

from collections.abc import Iterable

import numpy as np


def split_by_seed(ids: Iterable[str], fraction: float, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split photo ids into those to train on and those held out.

    Args:
        ids: Photo ids, in any order: the split does not depend on it.
        fraction: Share held out, 0 <= fraction < 1; at least one photo where it is above 0, never all.
        seed: Seed of the draw.

    Returns:
        (train, held out), both sorted.
    """
    photos = sorted(ids)
    held_out = min(max(round(fraction * len(photos)), int(fraction > 0)), len(photos) - 1) if photos else 0
    drawn = np.random.default_rng(seed).permutation(len(photos))[:held_out]
    chosen = {photos[index] for index in drawn}
    return tuple(photo for photo in photos if photo not in chosen), tuple(sorted(chosen))
