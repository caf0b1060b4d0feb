"""Image-level tags: how often they occur, how well a network predicts them, from which score on they are predicted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from cti.data import Photo
from cti.data.datasets import TagDataset, multi_hot
from cti.evaluate.tags import TagScores, score_tags
from cti.method import CTI


def positive_weights(photos: Sequence[Photo], num_classes: int, power: float) -> Tensor | None:
    """(C,) weights (negatives / positives)^power of each class's positive tags; None for power 0."""
    if power == 0:
        return None
    positives = sum((multi_hot(photo.tags, num_classes) for photo in photos), torch.zeros(num_classes)).clamp(min=1)
    return ((len(photos) - positives).clamp(min=1) / positives) ** power


@torch.inference_mode()
def tag_logits(model: CTI, photos: Sequence[Photo], image_size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean of class and patch logits (n, C) of whole photos, and their tags (n, C) multi-hot.

    Puts the model into eval mode.
    """
    model.eval()
    device = model.device
    dataset = TagDataset(photos, len(model.classes), image_size, model.mean, model.std)
    logits, labels = [], []
    for batch in DataLoader(dataset, batch_size=32):
        out = model(batch["images"].to(device))
        logits.append(out.tag_logits.float().cpu())
        labels.append(batch["labels"])
    return torch.cat(logits).numpy(), torch.cat(labels).numpy()


def with_predicted_tags(model: CTI, photos: Sequence[Photo], thresholds: Mapping[str, float]) -> list[Photo]:
    """The photos with the tags that the network predicts in place of their own.

    A photo none of whose classes reaches its threshold gets the class that comes nearest.

    Args:
        model: The network; puts it into eval mode.
        photos: Photos.
        thresholds: Class -> logit from which its tag is predicted; 0 for classes that are not named.
    """
    scores, _ = tag_logits(model, photos, model.config.image_size)
    lead = scores - np.array([thresholds.get(name, 0.0) for name in model.classes], np.float32)
    chosen = (lead > 0) | ((lead == lead.max(axis=1, keepdims=True)) & (lead.max(axis=1, keepdims=True) <= 0))
    return [
        replace(photo, tags=tuple(int(index) for index in row.nonzero()[0]))
        for photo, row in zip(photos, chosen, strict=True)
    ]


def score_held_out(model: CTI, photos: Sequence[Photo], image_size: int) -> TagScores | None:
    """Score the tags of photos not trained on, and choose the best threshold per class; None without photos."""
    if not photos:
        return None
    return score_tags(*tag_logits(model, photos, image_size), model.classes)
