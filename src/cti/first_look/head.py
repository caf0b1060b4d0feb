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

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
FOLDS = 5
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


def fit_head(pooled: Tensor, labels: Tensor, penalty: float, positive_weight: Tensor | None = None) -> LinearHead:
    """Fit a linear head by the classification loss of the method, with a squared penalty.

    Args:
        pooled: (n, D) mean patch features of the photos. The mean of a linear head's logits over patches is its logit
            of the mean feature, so nothing else of the patches is needed.
        labels: (n, C) multi-hot.
        penalty: Weight of the squared weights (of standardised features) in the loss.
        positive_weight: (C,) weight of each class's positive tags; None = 1.

    Returns:
        The head; logits of patches and of pooled features alike.
    """
    features, targets = pooled.double(), labels.double()
    mean, std = features.mean(dim=0), features.std(dim=0, correction=0).clamp(min=1e-6)
    standard = (features - mean) / std
    weight = torch.zeros(features.shape[1], targets.shape[1], dtype=torch.float64, requires_grad=True)
    share = targets.mean(dim=0).clamp(1e-3, 1 - 1e-3)
    bias = share.logit().requires_grad_()
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.binary_cross_entropy_with_logits(
            standard @ weight + bias,
            targets,
            pos_weight=None if positive_weight is None else positive_weight.double(),
        )
        value = value + penalty * weight.square().sum() / targets.shape[1]
        value.backward()
        return value

    optimiser.step(loss)
    folded = weight.detach() / std[:, None]
    return LinearHead(folded.float(), (bias.detach() - mean @ folded).float())


def choose_head(
    pooled: Tensor, labels: Tensor, classes: Sequence[str], positive_weight: Tensor | None = None
) -> tuple[LinearHead, HeadChoice, Tensor]:
    """Fit a head with the penalty that predicts the tags of other photos best; no mask is used.

    Args:
        pooled: (n, D) mean patch features of the photos.
        labels: (n, C) multi-hot.
        classes: The C class names.
        positive_weight: See `fit_head`.

    Returns:
        The head; how it was chosen; and (n, C) logits of the photos in cross-validation, each by a head that has not
        seen it.
    """
    logits = {penalty: _across_folds(pooled, labels, penalty, positive_weight) for penalty in PENALTIES}
    scores = {
        penalty: score_tags(predicted, labels, classes).mean_average_precision for penalty, predicted in logits.items()
    }
    best = max(PENALTIES, key=lambda penalty: scores[penalty] or 0.0)
    choice = HeadChoice(best, {f"{penalty:g}": score for penalty, score in scores.items()})
    return fit_head(pooled, labels, best, positive_weight), choice, logits[best]


def _across_folds(pooled: Tensor, labels: Tensor, penalty: float, positive_weight: Tensor | None) -> Tensor:
    """Logits (n, C) of photos, each by a head that has not seen it."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(pooled)))
    logits = torch.zeros_like(labels)
    for fold in order.chunk(min(FOLDS, len(order))):
        others = torch.ones(len(pooled), dtype=torch.bool)
        others[fold] = False
        if others.any():
            logits[fold] = fit_head(pooled[others], labels[others], penalty, positive_weight)(pooled[fold])
    return logits


def fit_background(features: Tensor, foreground: Tensor, ridge: float = 1e-3) -> tuple[Tensor, Tensor]:
    """A linear background channel by least squares: high where the photo's own classes are low.

    Args:
        features: (P, D) features of patches.
        foreground: (P,) in [0, 1], how strongly the strongest tagged class of the photo is there; 0 in photos
            without a tag.
        ridge: Share of the mean squared feature that is added to the diagonal.

    Returns:
        Weight (D,) and bias () of a channel that approximates `1 - foreground`.
    """
    x, y = features.double(), 1 - foreground.double()
    mean, level = x.mean(dim=0), y.mean()
    centred = x - mean
    gram = centred.T @ centred / len(x)
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, centred.T @ (y - level) / len(x))
    return weight.float(), (level - mean @ weight).float()
