"""Image-level tags: how often they occur, how a network scores them, which ones it predicts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from cti.config import RuntimeConfig, SeedsConfig
from cti.data import Photo
from cti.data.batches import Sight, load_batches, normalised, size_batches, split_large
from cti.data.datasets import multi_hot
from cti.data.windows import photo_windows
from cti.device import objects_of_all, own_share
from cti.evaluate.tags import TagScores, choose_thresholds, score_tags
from cti.method import CTI

ENOUGH_HELD_OUT = 20
"""Photos held out from which thresholds of tags are found that are kept."""
ENOUGH_OF_A_KIND = 3
"""Of these, with the tag and without it."""


def positive_weights(photos: Sequence[Photo], num_classes: int, power: float) -> Tensor | None:
    """(C,) weights (negatives / positives)^power of each class's positive tags; None for power 0."""
    if power == 0:
        return None
    positives = sum((multi_hot(photo.tags, num_classes) for photo in photos), torch.zeros(num_classes)).clamp(min=1)
    return ((len(photos) - positives).clamp(min=1) / positives) ** power


@torch.inference_mode()
def tag_logits(model: CTI, photos: Sequence[Photo], seeds: SeedsConfig, runtime: RuntimeConfig) -> NDArray[np.float32]:
    """Score the tags of photos, seen as for seeds.

    Args:
        model: The network; puts it into eval mode.
        photos: Photos.
        seeds: `long_side` and `window`.
        runtime: Photos per forward pass, and processes that load them.

    Returns:
        (n, C) in the order of the photos; of a photo that is seen window by window the highest of any window.
    """
    model.eval()
    logits: dict[str, NDArray[np.float32]] = {}
    whole, large = split_large(photos, seeds.long_side, seeds.window, model.patch_size)
    batches = size_batches(whole, seeds.long_side, model.patch_size, runtime.batch_size)
    for batch, images in load_batches(batches, model.mean, model.std, runtime):
        scores = model(images.to(model.patch_head.weight)).tag_logits.float().cpu().numpy()  # where and in what it is
        logits |= {photo.id: row for photo, row in zip(batch.photos, scores, strict=True)}
    for photo, seen in large:
        logits[photo.id] = window_tag_logits(model, photo.load(), seen).amax(dim=0).numpy()
    return np.array([logits[photo.id] for photo in photos], np.float32).reshape(len(photos), len(model.classes))


@torch.inference_mode()
def window_tag_logits(model: CTI, image: Image.Image, seen: Sight) -> Tensor:
    """Score the tags of each window of a photo: (windows, C), in the order of `photo_windows`.

    Args:
        model: In eval mode.
        image: RGB.
        seen: Its size and windows.
    """
    rows: list[list[float]] = []  # no tensors: small ones kept between large ones would keep the memory of these
    for window in photo_windows(image, seen.size, seen.window, model.patch_size):
        pixels = normalised(window.image, model.mean, model.std)
        rows.append(model(pixels[None].to(model.device)).tag_logits[0].float().tolist())
    return torch.tensor(rows)


def certain_thresholds(scores: Tensor, photos: Sequence[Photo], classes: Sequence[str]) -> dict[str, float]:
    """Class -> the score above which its tag is predicted, for the best F1; of classes that enough photos tell about.

    Args:
        scores: (n, C), larger = more likely.
        photos: n photos not trained on.
        classes: C class names.
    """
    labels = labels_of(photos, len(classes))
    told = (labels.sum(dim=0) >= ENOUGH_OF_A_KIND) & ((1 - labels).sum(dim=0) >= ENOUGH_OF_A_KIND)
    if len(photos) < ENOUGH_HELD_OUT:
        return {}
    chosen = choose_thresholds(scores, labels)
    return {name: float(chosen[index]) for index, name in enumerate(classes) if told[index]}


def labels_of(photos: Sequence[Photo], num_classes: int) -> Tensor:
    """The tags of photos, (n, C) multi-hot."""
    return torch.stack([multi_hot(photo.tags, num_classes) for photo in photos])


def predicted_tags(logits: ArrayLike, classes: Sequence[str], thresholds: Mapping[str, float]) -> list[tuple[int, ...]]:
    """The classes of each photo whose logit exceeds its threshold; none is an answer too.

    Args:
        logits: (n, C).
        classes: The C class names.
        thresholds: Class -> logit above which its tag is predicted; 0 for classes that are not named.

    Returns:
        0-based class indices, per photo.
    """
    limits = np.array([thresholds.get(name, 0.0) for name in classes], np.float32)
    return [tuple(int(index) for index in row.nonzero()[0]) for row in np.asarray(logits) > limits]


def with_predicted_tags(
    model: CTI, photos: Sequence[Photo], thresholds: Mapping[str, float], seeds: SeedsConfig, runtime: RuntimeConfig
) -> list[Photo]:
    """The photos with the tags that the network predicts in place of their own; see `tag_logits`."""
    if not photos:
        return []
    tags = predicted_tags(tag_logits(model, photos, seeds, runtime), model.classes, thresholds)
    return [replace(photo, tags=found) for photo, found in zip(photos, tags, strict=True)]


def score_held_out(model: CTI, photos: Sequence[Photo], seeds: SeedsConfig, runtime: RuntimeConfig) -> TagScores | None:
    """Score the tags of photos not trained on, and choose the best threshold per class; None without photos.

    Processes that train together share the photos out, and all must call it.
    """
    if not photos:
        return None
    labels = labels_of(photos, len(model.classes))
    logits = np.empty(labels.shape, np.float32)
    shares = objects_of_all(tag_logits(model, own_share(photos), seeds, runtime))
    for rank, share in enumerate(shares):
        logits[rank :: len(shares)] = share
    return score_tags(logits, labels, model.classes)
