"""The four losses of the method: pure functions of tensors.

Shapes: B images, C foreground classes, K channels with the background first, (h, w) patch grid. Computed in float32
(float64 if that comes in). Source: the paper's section 3 and docs/method.md, "The training step".
"""

import torch.nn.functional as F
from torch import Tensor

from cti.method.attention import full_precision, max_norm


def classification_loss(logits: Tensor, labels: Tensor, positive_weight: Tensor | None = None) -> Tensor:
    """Multi-label soft-margin loss, mean over images and classes.

    Args:
        logits: (B, C).
        labels: (B, C) multi-hot.
        positive_weight: (C,) weight of each class's positive tags; None = 1, as in the paper.
    """
    logits = full_precision(logits)
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), pos_weight=positive_weight)


def background_loss(foreground: Tensor, background: Tensor) -> Tensor:
    """What is not foreground should be background: mean |(1 - fg) - bg| of the max-normed maps.

    Args:
        foreground: (B, 1, h, w) refined map of the strongest tagged class, before `max_norm`.
        background: (B, 1, h, w) refined background map, before `max_norm`.
    """
    return (1 - max_norm(foreground) - max_norm(background)).abs().mean()


def intra_image_loss(patch_maps: Tensor, infused_patch_maps: Tensor) -> Tensor:
    """Tokens of another view of the same image should give the same maps: mean L1 distance, both sides learn.

    Args:
        patch_maps: (B, K, h, w) of the plain pass.
        infused_patch_maps: (B, K, h, w) of the pass that got the other view's tokens.
    """
    return (max_norm(patch_maps) - max_norm(infused_patch_maps)).abs().mean()


def cross_image_loss(
    patch_maps: Tensor, infused_fused_maps: Tensor, counted: Tensor | None = None, among: Tensor | None = None
) -> Tensor:
    """Tokens of other images of the same class should find the class here too: mean L1 distance.

    Args:
        patch_maps: (B, C, h, w) foreground patch maps of the plain pass.
        infused_fused_maps: (B, C, h, w) foreground fused maps of the pass that got the bank's tokens.
        counted: (B, C) 1 for the channels in the mean; None = all. No channel at all gives 0.
        among: What their sum is divided by, a scalar; None = their number. Several devices that average their losses
            give their mean number, for the mean over the channels of all.
    """
    distance = (max_norm(patch_maps) - max_norm(infused_fused_maps)).abs()
    if counted is None:
        return distance.mean()
    per_channel = distance.mean(dim=(-2, -1))  # (B, C)
    return (per_channel * counted).sum() / (counted.sum().clamp(min=1) if among is None else among)
