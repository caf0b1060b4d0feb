"""Image-level tags: how often they occur, how a network scores them, which ones it predicts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cti.config import RuntimeConfig
from cti.data import Photo
from cti.data.batches import load_batches, size_batches
from cti.data.datasets import multi_hot
from cti.device import objects_of_all, own_share
from cti.evaluate.tags import TagScores, score_tags
from cti.method import CTI


def positive_weights(photos: Sequence[Photo], num_classes: int, power: float) -> Tensor | None:
    """(C,) weights (negatives / positives)^power of each class's positive tags; None for power 0."""
    if power == 0:
        return None
    positives = sum((multi_hot(photo.tags, num_classes) for photo in photos), torch.zeros(num_classes)).clamp(min=1)
    return ((len(photos) - positives).clamp(min=1) / positives) ** power


@torch.inference_mode()
def tag_logits(model: CTI, photos: Sequence[Photo], long_side: int, runtime: RuntimeConfig) -> NDArray[np.float32]:
    """Score the tags of whole photos.

    Args:
        model: The network; puts it into eval mode.
        photos: Photos.
        long_side: Longest side in pixels at which they are seen, aspect kept, as for seeds; 0 = own size.
        runtime: Photos per forward pass, and processes that load them.

    Returns:
        (n, C) mean of class and patch logits, in the order of the photos.
    """
    model.eval()
    logits: dict[str, NDArray[np.float32]] = {}
    batches = size_batches(photos, long_side, model.patch_size, runtime.batch_size)
    for batch, images in load_batches(batches, model.mean, model.std, runtime):
        scores = model(images.to(model.patch_head.weight)).tag_logits.float().cpu().numpy()  # where and in what it is
        logits |= {photo.id: row for photo, row in zip(batch.photos, scores, strict=True)}
    return np.array([logits[photo.id] for photo in photos], np.float32).reshape(len(photos), len(model.classes))


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
    model: CTI, photos: Sequence[Photo], thresholds: Mapping[str, float], long_side: int, runtime: RuntimeConfig
) -> list[Photo]:
    """The photos with the tags that the network predicts in place of their own; see `tag_logits`."""
    if not photos:
        return []
    tags = predicted_tags(tag_logits(model, photos, long_side, runtime), model.classes, thresholds)
    return [replace(photo, tags=found) for photo, found in zip(photos, tags, strict=True)]


def score_held_out(model: CTI, photos: Sequence[Photo], long_side: int, runtime: RuntimeConfig) -> TagScores | None:
    """Score the tags of photos not trained on, and choose the best threshold per class; None without photos.

    Processes that train together share the photos out, and all must call it.
    """
    if not photos:
        return None
    labels = labels_of(photos, len(model.classes))
    logits = np.empty(labels.shape, np.float32)
    shares = objects_of_all(tag_logits(model, own_share(photos), long_side, runtime))
    for rank, share in enumerate(shares):
        logits[rank :: len(shares)] = share
    return score_tags(logits, labels, model.classes)
