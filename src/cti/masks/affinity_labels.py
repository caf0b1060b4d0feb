"""Which pixels a seed is sure of, and which pairs of grid points therefore belong together.

The rule of confident foreground, confident background and unsure pixels, and pairs within a radius, follow PSA
(Ahn & Kwak 2018) and IRNet (Ahn, Cho & Kwak 2019); the threshold-free variant is this project's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cti.classes import IGNORE_INDEX
from cti.config import AffinityConfig, MasksConfig
from cti.masks.crf import crf_step

Offset = tuple[int, int]


def confident_labels(scores: NDArray[np.float32], config: AffinityConfig) -> NDArray[np.uint8]:
    """Label the pixels whose scores are confident.

    Args:
        scores: (1+n, H, W) in [0, 1].
        config: `foreground` and `background`.

    Returns:
        (H, W): the best class (k = the k-th of the photo's n classes) from `foreground` up, 0 = background where no
        class reaches `background`, 255 = ignored.
    """
    if len(scores) == 1:
        return np.zeros(scores.shape[1:], dtype=np.uint8)
    best = scores[1:].max(axis=0)
    labels = np.full(best.shape, IGNORE_INDEX, dtype=np.uint8)
    foreground = best >= config.foreground
    labels[foreground] = scores[1:].argmax(axis=0)[foreground] + 1
    labels[best < config.background] = 0
    return labels


def confident_labels_crf(
    image: NDArray[np.uint8], scores: NDArray[np.float32], config: MasksConfig
) -> NDArray[np.uint8]:
    """`confident_labels` as IRNet finds them: from two dense CRFs, against a high and against a low background.

    Args:
        image: (H, W, 3) RGB.
        scores: (1+n, H, W) in [0, 1].
        config: The backgrounds are `affinity.foreground` and `affinity.background`; the CRF's numbers are `crf`.

    Returns:
        (H, W): a class where it wins against the high background, background where that wins even when low, else 255.
    """
    if len(scores) == 1:
        return np.zeros(scores.shape[1:], dtype=np.uint8)
    winners = [
        crf_step(image, np.concatenate([np.full_like(scores[:1], level), scores[1:]]), config.crf).argmax(axis=0)
        for level in (config.affinity.foreground, config.affinity.background)
    ]
    labels = winners[0].astype(np.uint8)
    labels[(winners[0] == 0) & (winners[1] != 0)] = IGNORE_INDEX
    return labels


def grid_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Size of the grid over an image of `size` (H, W): one point per started block of stride x stride pixels."""
    return -(-size[0] // stride), -(-size[1] // stride)


def to_grid(labels: NDArray[np.uint8], stride: int) -> NDArray[np.uint8]:
    """Labels (H, W) at the middle pixel of each block of the grid, (h, w)."""
    height, width = labels.shape
    rows, columns = grid_size((height, width), stride)
    middle = stride // 2
    return labels[
        np.minimum(np.arange(rows) * stride + middle, height - 1)[:, None],
        np.minimum(np.arange(columns) * stride + middle, width - 1)[None],
    ]


@lru_cache
def pair_offsets(radius: int) -> tuple[Offset, ...]:
    """The (dy, dx) from a grid point to its partners closer than `radius`, each unordered pair once (34 for 5)."""
    span = range(-radius, radius + 1)
    return tuple(
        (dy, dx) for dy in range(radius) for dx in span if 0 < dy * dy + dx * dx < radius * radius and (dy or dx > 0)
    )


@lru_cache
def straight_path(dy: int, dx: int) -> tuple[Offset, ...]:
    """Grid points on the straight line from (0, 0) to (dy, dx), both ends included."""
    length = max(abs(dy), abs(dx))
    return tuple((round(dy * step / length), round(dx * step / length)) for step in range(length + 1))


def partners(maps: Tensor, offsets: Iterable[Offset], value: float) -> list[Tensor]:
    """`maps` (..., h, w) as seen from every point's partner at each offset; `value` where that lies outside."""
    offsets = tuple(offsets)
    height, width = maps.shape[-2:]
    reach = max(max(abs(dy), abs(dx)) for dy, dx in offsets)
    padded = F.pad(maps, (reach, reach, reach, reach), value=value)
    return [padded[..., reach + dy : reach + dy + height, reach + dx : reach + dx + width] for dy, dx in offsets]


@dataclass(frozen=True)
class PairLabels:
    """What is known of each pair (o offsets from every grid point), (o, h, w) bool each.

    Args:
        background: Both are confident background.
        foreground: Both are confident and of the same class.
        different: Both are confident and of different classes, background included.
    """

    background: Tensor
    foreground: Tensor
    different: Tensor


def pair_labels(labels: NDArray[np.uint8], radius: int) -> PairLabels:
    """Compare confident labels (h, w) with those of each point's partners within `radius`."""
    here = torch.from_numpy(labels.astype(np.int64))
    there = torch.stack(partners(here, pair_offsets(radius), IGNORE_INDEX))
    known = (here != IGNORE_INDEX) & (there != IGNORE_INDEX)
    same = known & (here == there)
    return PairLabels(same & (here == 0), same & (here > 0), known & (here != there))
