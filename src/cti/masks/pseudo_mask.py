"""From scores to indexed masks, and pictures of them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cti.classes import IGNORE_INDEX
from cti.config import MasksConfig
from cti.files import atomic_path
from cti.visualize import overlay


def argmax_mask(scores: NDArray[np.float32], class_indices: tuple[int, ...]) -> NDArray[np.uint8]:
    """Give every pixel its leading class; ties go to the background, then to the earlier class.

    Args:
        scores: (1+n, H, W), background first.
        class_indices: The n 0-based foreground classes of the other channels.

    Returns:
        (H, W) mask values: 0 background, class index + 1.
    """
    assert len(scores) == 1 + len(class_indices), f"{len(scores)} scores for {len(class_indices)} classes"
    values = np.array([0, *(index + 1 for index in class_indices)], dtype=np.uint8)
    return values[scores.argmax(axis=0)]


def pseudo_mask(scores: NDArray[np.float32], class_indices: tuple[int, ...], config: MasksConfig) -> NDArray[np.uint8]:
    """Label the pixels whose scores are confident.

    A pixel gets its class if that leads with at least `config.foreground`, the background if that leads and no class
    reaches `config.background`; the others are 255 (docs/method.md, "Pseudo-masks"). With `config.argmax` this is
    `argmax_mask`.

    Args:
        scores: (1+n, H, W) in [0, 1], background first.
        class_indices: The n 0-based foreground classes of the other channels.
        config: The rule's numbers.

    Returns:
        (H, W) mask values.
    """
    mask = argmax_mask(scores, class_indices)
    if config.argmax or not class_indices:
        return mask
    best = scores[1:].max(axis=0)
    confident = np.where(mask == 0, best < config.background, best >= config.foreground)
    mask[~confident] = IGNORE_INDEX
    return mask


def restore_erased(
    mask: NDArray[np.uint8], steps: Iterable[NDArray[np.float32]], class_indices: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Give back classes that refinement erased: a photo shows what it is tagged with, however small.

    A class without a pixel gets those in which it led after the last step that still had it.

    Args:
        mask: (H, W) the final mask.
        steps: Scores (1+n, H, W) before and after each step, in their order.
        class_indices: The n 0-based foreground classes.
    """
    lost = [index + 1 for index in class_indices if not (mask == index + 1).any()]
    if not lost:
        return mask
    restored = mask.copy()
    for scores in reversed(list(steps)):
        earlier = argmax_mask(scores, class_indices)
        for value in [value for value in lost if (earlier == value).any()]:
            restored[earlier == value] = value
            lost.remove(value)
    return restored


def save_preview(path: Path, image: Image.Image, *masks: NDArray[np.uint8]) -> None:
    """Write the photo and its overlays with each mask side by side, atomically."""
    pictures = [image, *(overlay(image, mask) for mask in masks)]
    with atomic_path(path) as temporary:
        Image.fromarray(np.concatenate([np.asarray(picture) for picture in pictures], axis=1)).save(temporary)
