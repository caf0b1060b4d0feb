"""Whole photos as batches of one size, aspect kept: what a network sees of them when nothing is drawn at random."""

import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as transforms

from cti.config import RuntimeConfig
from cti.data.photos import Photo

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_TOKENS = 6000
"""Most patches of a photo at once: attention of 6,000 tokens is 144 MB a head in float32."""
AUTO_WINDOW = 512
"""Side in pixels of the windows of photos of more patches, where nothing else is asked for."""


@dataclass(frozen=True)
class SizeBatch:
    """Photos that are seen at one size.

    Args:
        photos: The photos.
        sizes: Own (H, W) of each in pixels.
        size: Common (H, W) at which they are seen, multiples of the patch.
    """

    photos: tuple[Photo, ...]
    sizes: tuple[tuple[int, int], ...]
    size: tuple[int, int]


def fit_to_patches(size: tuple[int, int], patch_size: int, scale: float = 1.0) -> tuple[int, int]:
    """The size (H, W) times `scale`, each side at the nearest multiple of the patch, at least one patch.

    More than `MAX_TOKENS` patches are not fitted: the size is then reduced, which is said once.
    """
    rows, columns = nearest_grid(size, patch_size, scale)
    if rows * columns > MAX_TOKENS:
        _say_reduced()
        factor = math.sqrt(MAX_TOKENS / (rows * columns))
        rows, columns = max(int(rows * factor), 1), max(int(columns * factor), 1)
        columns = min(columns, MAX_TOKENS // min(rows, MAX_TOKENS))  # where the other side is one patch already
        rows = min(rows, MAX_TOKENS // columns)
    return rows * patch_size, columns * patch_size


def nearest_grid(size: tuple[int, int], patch_size: int, scale: float = 1.0) -> tuple[int, int]:
    """Patches (rows, columns) that come nearest to the size (H, W) times `scale`, at least one."""
    return max(round(size[0] * scale / patch_size), 1), max(round(size[1] * scale / patch_size), 1)


@cache
def _say_reduced() -> None:
    logger.warning(
        "Photos of more than %d patches are reduced before the network sees them, because the memory of attention "
        "grows with the square of their number; set seeds.long_side to choose the size yourself, or seeds.window to "
        "see them window by window.",
        MAX_TOKENS,
    )


def seen_size(size: tuple[int, int], long_side: int, patch_size: int) -> tuple[int, int]:
    """The size (H, W) at which a photo of `size` is seen: its longest side brought to `long_side` (0 = own size)."""
    return fit_to_patches(size, patch_size, long_side / max(size) if long_side else 1.0)


@dataclass(frozen=True)
class Sight:
    """How a photo is seen.

    Args:
        size: (H, W) to which it is resized, multiples of the patch.
        window: Side in pixels, a multiple of the patch, of the windows in which it is then seen; 0 = whole.
    """

    size: tuple[int, int]
    window: int = 0

    def at_most(self, patches: int, patch_size: int) -> "Sight":
        """The same windows on a photo that is reduced until it has at most so many patches."""
        rows, columns = (side // patch_size for side in self.size)
        if rows * columns <= patches:
            return self
        factor = math.sqrt(patches / (rows * columns))
        return Sight((max(int(rows * factor), 1) * patch_size, max(int(columns * factor), 1) * patch_size), self.window)


def sight(size: tuple[int, int], long_side: int, window: int, patch_size: int) -> Sight:
    """How a photo of `size` (H, W) is seen.

    Args:
        size: In pixels.
        long_side: Its longest side is brought to so many pixels; 0 = own size.
        window: Larger photos are seen window by window of about this side, of at most `MAX_TOKENS` patches. 0 = always
            whole, and reduced to `MAX_TOKENS` patches; -1 = whole up to so many patches, beyond in windows of
            `AUTO_WINDOW` pixels.
        patch_size: Side of a patch in pixels.
    """
    scale = long_side / max(size) if long_side else 1.0
    rows, columns = nearest_grid(size, patch_size, scale)
    side = min(max((AUTO_WINDOW if window == -1 else window) // patch_size, 1), math.isqrt(MAX_TOKENS))
    whole = rows * columns <= MAX_TOKENS if window == -1 else max(rows, columns) <= side
    if window == 0 or whole:
        return Sight(fit_to_patches(size, patch_size, scale))
    return Sight((rows * patch_size, columns * patch_size), side * patch_size)


def split_large(
    photos: Sequence[Photo], long_side: int, window: int, patch_size: int
) -> tuple[list[Photo], list[tuple[Photo, Sight]]]:
    """Photos that are seen whole, and those that are seen window by window; only the headers of files are read."""
    if window == 0:
        return list(photos), []
    whole: list[Photo] = []
    large: list[tuple[Photo, Sight]] = []
    for photo in photos:
        seen = sight(photo.size(), long_side, window, patch_size)
        if seen.window:
            large.append((photo, seen))
        else:
            whole.append(photo)
    return whole, large


def size_batches(photos: Sequence[Photo], long_side: int, patch_size: int, batch_size: int) -> list[SizeBatch]:
    """Sort photos into batches of one size.

    Args:
        photos: Photos; only the headers of their files are read.
        long_side: Longest side in pixels at which they are seen; 0 = own size.
        patch_size: Sides are multiples of it.
        batch_size: Most photos of a batch.
    """
    groups: dict[tuple[int, int], list[tuple[Photo, tuple[int, int]]]] = defaultdict(list)
    for photo in photos:
        own = photo.size()
        groups[seen_size(own, long_side, patch_size)].append((photo, own))
    return [
        SizeBatch(tuple(photo for photo, _ in part), tuple(own for _, own in part), size)
        for size, members in groups.items()
        for part in parts(members, photos_at_once(size, patch_size, batch_size))
    ]


def photos_at_once(size: tuple[int, int], patch_size: int, batch_size: int) -> int:
    """Photos per batch, so that their attention needs no more memory than one photo of `MAX_TOKENS` patches."""
    tokens = (size[0] // patch_size) * (size[1] // patch_size)
    return max(min(batch_size, MAX_TOKENS**2 // tokens**2), 1)


def parts(members: Sequence[T], count: int) -> Iterator[Sequence[T]]:
    """A sequence in parts of `count`; the last may be shorter."""
    for start in range(0, len(members), count):
        yield members[start : start + count]


def network_input(image: Image.Image, size: tuple[int, int], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """A photo as a network takes it: resized (bicubic), scaled to [0, 1], normalised.

    Args:
        image: RGB.
        size: (H, W).
        mean: Per channel, of values in [0, 1].
        std: Likewise.

    Returns:
        (3, H, W) float32.
    """
    return normalised(image.resize(size[::-1], Image.Resampling.BICUBIC), mean, std)


def normalised(image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """An RGB image as (3, H, W) float32, scaled to [0, 1] and normalised."""
    scaled = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return transforms.normalize(scaled, list(mean), list(std))


class _Inputs(Dataset[Tensor]):
    """Batches as tensors (B, 3, H, W)."""

    def __init__(self, batches: Sequence[SizeBatch], mean: Sequence[float], std: Sequence[float]) -> None:
        self.batches, self.mean, self.std = batches, mean, std

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Tensor:
        batch = self.batches[index]
        return torch.stack([network_input(photo.load(), batch.size, self.mean, self.std) for photo in batch.photos])


def load_batches(
    batches: Sequence[SizeBatch], mean: Sequence[float], std: Sequence[float], runtime: RuntimeConfig, title: str = ""
) -> Iterator[tuple[SizeBatch, Tensor]]:
    """Load batches one after the other, ahead of who asks for them.

    Args:
        batches: From `size_batches`.
        mean: See `network_input`.
        std: See `network_input`.
        runtime: `workers`, the processes that load.
        title: Word before a progress bar; no bar if empty.

    Yields:
        Each batch and its photos, (B, 3, H, W) float32, normalised.
    """
    workers = 0 if len(batches) <= 2 else 1 if runtime.workers == -1 else runtime.workers
    loader = DataLoader(
        _Inputs(batches, mean, std),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
    )
    pairs = zip(batches, loader, strict=True)
    yield from track(pairs, title, total=len(batches), console=Console(stderr=True), disable=not batches or not title)
