"""Photos to analyse, sorted into batches that one forward pass can take."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

from cti.data.batches import parts

T = TypeVar("T")

MOST_PHOTOS = 8
"""Photos of a batch."""
_MOST_PIXELS = 8_000_000  # of a batch's photos: each has a map per class of the same size
_WINDOW = 64  # photos that are sorted at a time, so that a million need not be looked at first
_MOST_BYTES = 64_000_000  # of these photos, where they are in memory


def in_batches(
    photos: Iterable[T],
    size: Callable[[T], tuple[int, int]],
    seen_as: Callable[[tuple[int, int]], Hashable],
    held: Callable[[T], int] = lambda _: 0,
) -> Iterator[Sequence[T]]:
    """Batches of photos that are seen alike; their order is kept within batches only.

    Args:
        photos: Anything that stands for a photo; there may be many.
        size: (H, W) of a photo in pixels.
        seen_as: See `cti.predict.analyser.Analyser`.
        held: Bytes of a photo that are in memory until it has been handed on.
    """
    for window in _windows(photos, held):
        groups: dict[Hashable, list[T]] = defaultdict(list)
        largest: dict[Hashable, int] = defaultdict(int)
        for photo in window:
            height, width = size(photo)
            key = seen_as((height, width))
            groups[key].append(photo)
            largest[key] = max(largest[key], height * width)
        for key, members in groups.items():
            yield from parts(members, max(min(MOST_PHOTOS, _MOST_PIXELS // largest[key]), 1))


def _windows(photos: Iterable[T], held: Callable[[T], int]) -> Iterator[list[T]]:
    window: list[T] = []
    for photo in photos:
        window.append(photo)
        if len(window) == _WINDOW or sum(map(held, window)) >= _MOST_BYTES:
            yield window
            window = []
    if window:
        yield window
