"""Photos to analyse, sorted into batches that one forward pass can take."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from cti.data.batches import parts

T = TypeVar("T")

MOST_PHOTOS = 8
"""Photos of a batch."""
_MOST_PIXELS = 8_000_000  # of a batch's photos: each has a map per class of the same size
_WINDOW = 64  # photos that are sorted at a time, so that a million need not be looked at first


def in_batches(
    photos: Iterable[T], size: Callable[[T], tuple[int, int]], seen_as: Callable[[tuple[int, int]], Hashable]
) -> Iterator[Sequence[T]]:
    """Batches of photos that are seen alike; their order is kept within batches only.

    Args:
        photos: Anything that stands for a photo; there may be many.
        size: (H, W) of a photo in pixels.
        seen_as: See `cti.predict.analyser.Analyser`.
    """
    rest = iter(photos)
    while window := list(islice(rest, _WINDOW)):
        groups: dict[Hashable, list[T]] = defaultdict(list)
        largest: dict[Hashable, int] = defaultdict(int)
        for photo in window:
            height, width = size(photo)
            key = seen_as((height, width))
            groups[key].append(photo)
            largest[key] = max(largest[key], height * width)
        for key, members in groups.items():
            yield from parts(members, max(min(MOST_PHOTOS, _MOST_PIXELS // largest[key]), 1))
