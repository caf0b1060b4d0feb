"""From class activation maps to the one label of each pixel."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cti.evaluate.confusion import to_numpy


def check_cams(
    cams: ArrayLike | Tensor, class_indices: tuple[int, ...], num_foreground: int
) -> tuple[NDArray[np.float32], tuple[int, ...]]:
    """Return maps as contiguous float32 and class indices as plain integers, or say what is wrong with them.

    Raises:
        ValueError: if `cams` is not (n, H, W) with one map per class index, or an index is repeated or not one of
            the `num_foreground` classes.
    """
    maps = np.ascontiguousarray(to_numpy(cams), dtype=np.float32)
    indices = tuple(int(index) for index in class_indices)
    if maps.ndim != 3 or maps.shape[0] != len(indices):
        raise ValueError(
            f"CAMs of shape {maps.shape} do not fit {len(indices)} classes; give (n, H, W), one per class."
        )
    if len(set(indices)) != len(indices):
        raise ValueError(f"The class indices {indices} name a class twice; give one map per class.")
    if indices and not 0 <= min(indices) <= max(indices) < num_foreground:
        raise ValueError(f"The class indices {indices} do not fit {num_foreground} classes; they count from 0.")
    return maps, indices


def strongest(maps: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The highest CAM of each pixel and its position in the stack, (n, H, W) -> (H*W,) twice; ties go to the first."""
    num_maps, height, width = maps.shape
    flat = maps.reshape(num_maps, height * width)
    best = flat[0] if num_maps else np.zeros(height * width, np.float32)
    winner = np.zeros(height * width, np.uint8)
    for index in range(1, num_maps):
        np.copyto(winner, np.uint8(index), where=flat[index] > best)
        best = np.maximum(best, flat[index])
    return best, winner


def label_pixels(
    cams: ArrayLike | Tensor, class_indices: tuple[int, ...], background: float | ArrayLike | Tensor
) -> NDArray[np.uint8]:
    """Label each pixel by argmax over [background score, CAMs]; ties go to the background, then to the first class.

    Args:
        cams: (n, H, W) in [0, 1]; compared in float32.
        class_indices: 0-based foreground classes of the n maps.
        background: One background score for all pixels, or the background's own CAM, (H, W).

    Returns:
        (H, W) mask values: 0 = background, class index + 1.
    """
    maps, indices = check_cams(cams, class_indices, 254)
    best, winner = strongest(maps)
    score = np.asarray(to_numpy(background), dtype=np.float32)
    values = np.array([index + 1 for index in indices] or [0], np.uint8)
    return np.where(best > score.ravel(), values[winner], np.uint8(0)).reshape(maps.shape[1:])
