"""A split drawn by seed, for data sets without lists."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EarlierSplit:
    """A split that stays: its photos are where they were, and only new ones are drawn.

    Args:
        train: Ids of photos trained on.
        held_out: Ids of photos held out.
    """

    train: frozenset[str] = frozenset()
    held_out: frozenset[str] = frozenset()


def split_by_seed(
    ids: Iterable[str], fraction: float, seed: int, earlier: EarlierSplit | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split photo ids into those to train on and those held out.

    Args:
        ids: Photo ids, in any order: the split does not depend on it.
        fraction: Share held out, 0 <= fraction < 1; at least one photo where it is above 0, never all.
        seed: Seed of the draw.
        earlier: An earlier split of some of the photos; as many of the others are drawn as the share asks for.

    Returns:
        (train, held out), both sorted.
    """
    earlier = earlier or EarlierSplit()
    photos = sorted(ids)
    wanted = min(max(round(fraction * len(photos)), int(fraction > 0)), len(photos) - 1) if photos else 0
    stay = earlier.held_out.intersection(photos)
    new = [photo for photo in photos if photo not in earlier.train and photo not in stay]
    drawn = np.random.default_rng(seed).permutation(len(new))[: max(wanted - len(stay), 0)]
    held_out = stay.union(new[index] for index in drawn)
    return tuple(photo for photo in photos if photo not in held_out), tuple(sorted(held_out))
