"""Plain references beside that of the package, `cti.method.reference`."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from cti.classes import IGNORE_INDEX
from cti.config import PamrConfig
from cti.data.batches import fit_to_patches
from cti.evaluate.confusion import Counts
from cti.masks.affinity_labels import Offset
from cti.masks.pamr import DIRECTIONS
from cti.method import CTI
from cti.method.reference import class_to_patch, max_norm, patch_affinity, plain_pass, refine
from cti.segment.dataset import normalise, to_tensor
from cti.segment.networks import Segmenter, ViTSegmenter


@torch.no_grad()
def plain_seed_cams(model: CTI, image: Tensor, class_indices: Sequence[int]) -> Tensor:
    """The method's maps of one image written plainly: two passes, every attention matrix held, every channel refined.

    Args:
        model: In eval mode, with a background token.
        image: (3, H, W), normalised.
        class_indices: 0-based foreground classes.

    Returns:
        (len(class_indices), H, W) in [0, 1].
    """
    H, W = image.shape[-2:]
    resized = F.interpolate(image[None], fit_to_patches((H, W), model.patch_size), mode="bilinear", antialias=True)
    total = torch.zeros(())
    for mirrored in (False, True):
        out = plain_pass(model, resized.flip(-1) if mirrored else resized)
        fused = out.patch_maps * class_to_patch(model, out, model.all_blocks)
        refined = refine(patch_affinity(model, out, model.all_blocks), fused)  # (1, K, h, w)
        maps = F.interpolate(refined, size=(H, W), mode="bilinear", align_corners=False)
        total = total + (maps.flip(-1) if mirrored else maps)
    return max_norm(total[:, [index + 1 for index in class_indices]])[0]


def plain_pamr(image: NDArray[np.uint8], scores: NDArray[np.float32], config: PamrConfig) -> NDArray[np.float32]:
    """`cti.masks.pamr.pamr_step` in the way of its paper's code: neighbours by convolution, all of them held.

    Args:
        image: (H, W, 3) RGB.
        scores: (1+n, H, W) in [0, 1].
        config: Numbers of the step.

    Returns:
        (1+n, H, W) in [0, 1].
    """
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    values = torch.from_numpy(np.array(scores))
    size = values.shape[-2:]
    if config.downscale > 1:
        small = [max(1, round(side / config.downscale)) for side in size]
        pixels, values = (
            F.interpolate(maps[None], size=small, mode="bilinear", antialias=True)[0] for maps in (pixels, values)
        )
    around = _neighbours(pixels, config.dilations)  # (3, P, h, w)
    deviation = torch.cat([around, pixels[:, None]], dim=1).std(dim=1, keepdim=True, unbiased=False)
    contrast = (around - pixels[:, None]).abs() / (config.std_scale * deviation + 1e-6)
    weights = (-contrast.mean(dim=0)).softmax(dim=0)  # (P, h, w)
    for _ in range(config.iterations):
        values = (_neighbours(values, config.dilations) * weights).sum(dim=1)
    if config.downscale > 1:
        values = F.interpolate(values[None], size=size, mode="bilinear")[0]
    return values.numpy()


def _neighbours(maps: Tensor, dilations: tuple[int, ...]) -> Tensor:
    """(c, 8 * dilations, H, W) of maps (c, H, W); edges repeat."""
    kernel = torch.zeros(len(DIRECTIONS), 1, 3, 3)
    for number, (dy, dx) in enumerate(DIRECTIONS):
        kernel[number, 0, 1 + dy, 1 + dx] = 1
    return torch.cat(
        [
            F.conv2d(F.pad(maps[:, None], (distance,) * 4, mode="replicate"), kernel, dilation=distance)
            for distance in dilations
        ],
        dim=1,
    )


def plain_walk(
    affinity: NDArray[np.float32], offsets: tuple[Offset, ...], beta: float, scores: NDArray[np.float32], steps: int
) -> NDArray[np.float32]:
    """`cti.masks.random_walk` as PSA and IRNet write it: a dense matrix, squared until it holds all steps.

    Args:
        affinity: (o, h, w) in [0, 1].
        offsets: The o offsets (dy, dx).
        beta: Power of the affinities.
        scores: (c, h, w).
        steps: Number of steps, a power of two.
    """
    _, height, width = affinity.shape
    points = np.arange(height * width).reshape(height, width)
    matrix = np.eye(height * width, dtype=np.float32)
    for (dy, dx), values in zip(offsets, affinity, strict=True):
        rows, columns = slice(0, max(0, height - dy)), slice(max(0, -dx), max(0, width - max(0, dx)))
        source = points[rows, columns].ravel()
        partner = source + dy * width + dx
        matrix[source, partner] = matrix[partner, source] = values[rows, columns].ravel() ** beta
    power = torch.from_numpy(matrix / matrix.sum(axis=1, keepdims=True))
    for _ in range(steps.bit_length() - 1):
        power = power @ power
    return (power @ torch.from_numpy(scores.reshape(len(scores), -1)).T).T.reshape(scores.shape).numpy()


def plain_blocks(network: ViTSegmenter) -> None:
    """Make a segmenter run timm's own blocks, with attention as a matrix product, a softmax and a matrix product."""

    def padded(images: Tensor) -> tuple[Tensor, None]:
        patches, grid = network.encoder.embed(images)
        tokens = torch.cat([network.cls_token.expand(len(images), -1, -1), patches], dim=1)
        for block in network.encoder.blocks:
            tokens = block(tokens)
        features = network.encoder.norm(tokens)[:, 1:].transpose(1, 2).unflatten(2, grid)
        return network.decoder(features, images), None

    for block in network.encoder.blocks:
        block.attn.fused_attn = False
    network.padded = padded


@torch.no_grad()
def plain_probabilities(network: Segmenter, image: Image.Image) -> Tensor:
    """Class probabilities (1 + C, H, W) of a photo, at whole patches, and its mirror image, one after the other."""
    width, height = (round(side / network.patch) * network.patch for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    images = normalise(to_tensor(resized), network.mean, network.std)[None]
    there = network(images).softmax(dim=1)
    back = network(images.flip(-1)).softmax(dim=1)
    return F.interpolate((there + back.flip(-1)) / 2, image.size[::-1], mode="bilinear", align_corners=False)[0]


def sweep_by_loop(
    photos: Iterable[tuple[NDArray[np.float32], tuple[int, ...], NDArray[np.uint8]]],
    classes: Sequence[str],
    thresholds: ArrayLike,
) -> Counts:
    """The plain loop that `ThresholdSweep` must equal: confusion matrices at each, one argmax over [t, CAMs].

    Args:
        photos: (cams (n, H, W) float32 in [0, 1], class indices, mask (H, W) uint8) of each photo, in memory.
        classes: The C foreground classes.
        thresholds: (T,) background scores; compared in float32.

    Returns:
        (T, K, K) int64, true class first, background included.
    """
    num_values = len(classes) + 1
    limits = np.asarray(thresholds, np.float64)
    counts: Counts = np.zeros((limits.size, num_values, num_values), np.int64)
    for cams, class_indices, mask in photos:
        values = np.array([0, *(index + 1 for index in class_indices)])
        labelled = mask != IGNORE_INDEX
        true = mask[labelled].astype(np.int64)
        stack = np.concatenate([np.empty((1, *mask.shape), np.float32), cams])
        for index, threshold in enumerate(limits):
            stack[0] = threshold
            predicted = values[stack.argmax(axis=0)][labelled]
            pairs = np.bincount(true * num_values + predicted, minlength=num_values**2)
            counts[index] += pairs.reshape(num_values, num_values)
    return counts
