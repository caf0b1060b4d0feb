"""A split drawn by seed, for data sets without lists."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

_NONE = -1  # stands for the classes of a photo that shows none


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
    ids: Iterable[str],
    fraction: float,
    seed: int,
    earlier: EarlierSplit | None = None,
    tags: Mapping[str, Collection[int]] | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split photo ids into those to train on and those held out.

    Args:
        ids: Photo ids, in any order: the split does not depend on it.
        fraction: Share held out, 0 <= fraction < 1; at least one photo where it is above 0, never all.
        seed: Seed of the draw.
        earlier: An earlier split of some of the photos; as many of the others are drawn as the share asks for.
        tags: Id -> class indices. Each class with two photos or more is then held out at least once, even if more
            photos are held out for that than the share asks for, and so is a photo without any class; no class loses
            its last photo to train on.

    Returns:
        (train, held out), both sorted.
    """
    earlier = earlier or EarlierSplit()
    photos = sorted(ids)
    wanted = min(max(round(fraction * len(photos)), int(fraction > 0)), len(photos) - 1)
    kinds = {photo: set(tags[photo]) or {_NONE} for photo in photos} if tags else {photo: set() for photo in photos}
    held_out = set(earlier.held_out.intersection(photos))
    shown = Counter(kind for photo in held_out for kind in kinds[photo])  # by those held out
    left = Counter(kind for photo in photos if photo not in held_out for kind in kinds[photo])

    def hold_out(candidates: Iterable[str]) -> None:
        """Hold out the first that is not the last of its kind to train on."""
        for photo in candidates:
            if all(left[kind] > 1 for kind in kinds[photo]):
                held_out.add(photo)
                shown.update(kinds[photo])
                left.subtract(kinds[photo])
                return

    new = [photo for photo in photos if photo not in earlier.train and photo not in held_out]
    order = [new[index] for index in np.random.default_rng(seed).permutation(len(new))]
    if fraction > 0:
        for kind in sorted(left, key=lambda kind: (left[kind], kind)):  # rare ones choose first
            if not shown[kind]:
                hold_out(photo for photo in order if kind in kinds[photo])
    for photo in order:
        if len(held_out) < wanted and photo not in held_out:
            hold_out([photo])
    return tuple(photo for photo in photos if photo not in held_out), tuple(sorted(held_out))
