"""A linear head on frozen patch features, learned from tags: what training starts from and must not fall below.

Source: linear probing before fine-tuning (Kumar et al. 2022, "Fine-tuning can distort pretrained features and
underperform out-of-distribution"). Shapes: n photos, P patches in all, D features, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cti.evaluate.tags import score_tags

PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
TOLERANCE = 0.005  # of tag mAP: less is noise, and a larger penalty makes better maps
FOLDS = 5
BACKGROUND_BELOW = 0.25  # of the photo's maximum of the strongest tagged class
_STEPS = 100  # of L-BFGS; it stops by itself before


@dataclass(frozen=True)
class LinearHead:
    """Logits of patches: `features @ weight + bias`, the standardisation of the features folded in.

    Args:
        weight: (D, C).
        bias: (C,).
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Logits (..., C) of features (..., D)."""
        return features.float() @ self.weight + self.bias


@dataclass(frozen=True)
class HeadChoice:
    """How a head was chosen: by tags alone, in cross-validation over the photos it learns from.

    Args:
        penalty: Weight of the squared weights in the loss.
        tag_map: Mean average precision of the tags in cross-validation, by penalty; None where no class occurs.
    """

    penalty: float
    tag_map: dict[str, float | None]


def fit_head(pooled: Tensor, labels: Tensor, penalty: float, scale: Tensor | None = None) -> LinearHead:
    """Fit a linear head by the classification loss of the method, with a squared penalty.

    Args:
        pooled: (n, D) mean patch features of the photos. The mean of a linear head's logits over patches is its logit
            of the mean feature, so nothing else of the patches is needed.
        labels: (n, C) multi-hot.
        penalty: Weight of the squared weights (of standardised features) in the loss.
        scale: (D,) what features are divided by to standardise them; None = the standard deviation of `pooled`. That
            of patches makes better maps: a feature that varies within photos but hardly between them gets no say.

    Returns:
        The head; logits of patches and of pooled features alike.
    """
    features, targets = pooled.double(), labels.double()
    return _logistic_regression(features, targets, torch.ones_like(targets), penalty, scale)


def fit_background(features: Tensor, foreground: Tensor) -> LinearHead:
    """A linear background channel: a logistic regression of patches where the photo's own classes are low.

    Patches below `BACKGROUND_BELOW` are background, the others are not; both halves weigh the same.

    Args:
        features: (P, D) features of patches.
        foreground: (P,) in [0, 1], how strongly the strongest tagged class of the photo is there; 0 in photos
            without a tag.

    Returns:
        A head of one channel: the logit of the background.
    """
    targets = (foreground < BACKGROUND_BELOW).double()[:, None]
    share = targets.mean()
    weights = torch.where(targets > 0, 0.5 / share, 0.5 / (1 - share))
    return _logistic_regression(features.double(), targets, weights, penalty=1e-3)


def _logistic_regression(
    features: Tensor, targets: Tensor, weights: Tensor, penalty: float, scale: Tensor | None = None
) -> LinearHead:
    """Mean of weighted cross-entropies over rows and columns, and the penalty per column, minimised by L-BFGS."""
    mean = features.mean(dim=0)
    std = (features.std(dim=0, correction=0) if scale is None else scale.double()).clamp(min=1e-6)
    standard = (features - mean) / std
    weight = torch.zeros(features.shape[1], targets.shape[1], dtype=torch.float64, requires_grad=True)
    bias = targets.mean(dim=0).clamp(1e-3, 1 - 1e-3).logit().requires_grad_()
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.binary_cross_entropy_with_logits(standard @ weight + bias, targets, weights)
        value = value + penalty * weight.square().sum() / targets.shape[1]
        value.backward()
        return value

    optimiser.step(loss)
    folded = weight.detach() / std[:, None]
    return LinearHead(folded.float(), (bias.detach() - mean @ folded).float())


def choose_head(
    pooled: Tensor, labels: Tensor, classes: Sequence[str], scale: Tensor | None = None
) -> tuple[LinearHead, HeadChoice, Tensor]:
    """Fit a head with the largest penalty that predicts the tags of other photos well; no mask is used.

    Well is `TOLERANCE` below the best penalty or better.

    Args:
        pooled: (n, D) mean patch features of the photos.
        labels: (n, C) multi-hot.
        classes: The C class names.
        scale: See `fit_head`.

    Returns:
        The head; how it was chosen; and (n, C) logits of the photos in cross-validation, each by a head that has not
        seen it.
    """
    logits = {penalty: _across_folds(pooled, labels, penalty, scale) for penalty in PENALTIES}
    scores = {
        penalty: score_tags(predicted, labels, classes).mean_average_precision for penalty, predicted in logits.items()
    }
    needed = max(score or 0.0 for score in scores.values()) - TOLERANCE
    best = max(penalty for penalty in PENALTIES if (scores[penalty] or 0.0) >= needed)
    choice = HeadChoice(best, {f"{penalty:g}": score for penalty, score in scores.items()})
    return fit_head(pooled, labels, best, scale), choice, logits[best]


def _across_folds(pooled: Tensor, labels: Tensor, penalty: float, scale: Tensor | None) -> Tensor:
    """Logits (n, C) of photos, each by a head that has not seen it."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(pooled)))
    logits = torch.zeros_like(labels)
    for fold in order.chunk(FOLDS):
        others = torch.ones(len(pooled), dtype=torch.bool)
        others[fold] = False
        if others.any():
            logits[fold] = fit_head(pooled[others], labels[others], penalty, scale)(pooled[fold])
    return logits
