"""Pixel-adaptive mask refinement (Araslanov & Roth, "Single-Stage Semantic Segmentation from Image Labels", 2020).

Each pixel's scores become a mean of its neighbours' scores, weighted by how alike the pixels look, again and again.
Nothing is learned. Written from section 3.3 of the paper; the contrast is divided by `std_scale` times the local
standard deviation, so that flat regions do not mix over a weak edge that is strong for them.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cti.config import PamrConfig

DIRECTIONS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))


def pamr_step(image: NDArray[np.uint8], scores: NDArray[np.float32], config: PamrConfig) -> NDArray[np.float32]:
    """Refine one photo's scores; `pamr` with arrays instead of batches.

    Args:
        image: (H, W, 3) RGB.
        scores: (1+n, H, W) in [0, 1].
        config: Numbers of the step.

    Returns:
        (1+n, H, W) in [0, 1].
    """
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    return pamr(pixels, torch.from_numpy(np.array(scores))[None], config)[0].numpy()


@torch.no_grad()
def pamr(images: Tensor, scores: Tensor, config: PamrConfig) -> Tensor:
    """Refine scores by the look of their surroundings.

    Args:
        images: (B, 3, H, W) floating point, any linear range (the local standard deviation normalises it).
        scores: (B, K, H, W) floating point, any range.
        config: Numbers of the step.

    Returns:
        (B, K, H, W) within the range of `scores`; every channel on its own, so a constant one stays as it is.
    """
    size = scores.shape[-2:]
    if config.downscale > 1:
        small = [max(1, round(side / config.downscale)) for side in size]
        images = F.interpolate(images, size=small, mode="bilinear", antialias=True)
        scores = F.interpolate(scores, size=small, mode="bilinear", antialias=True)
    weights = pixel_affinity(images, config)
    for _ in range(config.iterations):
        total = torch.zeros_like(scores)
        for number, neighbour in enumerate(_neighbours(scores, config.dilations)):
            total.addcmul_(weights[:, number, None], neighbour)
        scores = total
    if config.downscale > 1:
        scores = F.interpolate(scores, size=size, mode="bilinear")
    return scores


def pixel_affinity(images: Tensor, config: PamrConfig) -> Tensor:
    """Weights of every pixel's neighbours: softmax of minus the contrast in units of the local deviation.

    Args:
        images: (B, 3, H, W).
        config: `dilations` and `std_scale`.

    Returns:
        (B, 8 * dilations, H, W), summing to 1 over axis 1.
    """
    mean = images.clone()  # the pixel itself counts once in its surroundings
    square = images.square()
    count = 1
    for neighbour in _neighbours(images, config.dilations):
        mean += neighbour
        square.addcmul_(neighbour, neighbour)
        count += 1
    mean /= count
    deviation = (square / count - mean.square()).clamp_min_(0).sqrt_()
    # The mean over channels of the normalised contrast; the small number keeps flat surroundings at 0 / small = 0.
    scale = -1 / ((config.std_scale * deviation + 1e-6) * images.shape[1])
    contrasts = [((neighbour - images).abs_() * scale).sum(1) for neighbour in _neighbours(images, config.dilations)]
    return torch.stack(contrasts, dim=1).softmax(dim=1)


def _neighbours(maps: Tensor, dilations: tuple[int, ...]) -> Iterator[Tensor]:
    """Yield (B, C, H, W) views of `maps` shifted in eight directions by each distance; edges repeat."""
    height, width = maps.shape[-2:]
    reach = max(dilations)
    padded = F.pad(maps, (reach, reach, reach, reach), mode="replicate")
    for distance in dilations:
        for dy, dx in DIRECTIONS:
            top, left = reach + dy * distance, reach + dx * distance
            yield padded[..., top : top + height, left : left + width]
