"""Scores of image-level predictions: average precision, and thresholds that turn scores into tags."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cti.evaluate.confusion import Scores, by_name, mean, number, ratio, to_numpy


@dataclass(frozen=True)
class TagScores:
    """How well tags are ranked over a set of photos.

    Args:
        classes: The C foreground classes.
        average_precision: (C,) non-interpolated average precision; NaN for a class without a positive photo.
    """

    classes: tuple[str, ...]
    average_precision: Scores

    @property
    def mean_average_precision(self) -> float:
        """Mean over the classes with a positive photo."""
        return float(mean(self.average_precision))

    @property
    def left_out(self) -> tuple[str, ...]:
        """Classes without a positive photo, which the mean leaves out."""
        return tuple(name for name, score in zip(self.classes, self.average_precision, strict=True) if np.isnan(score))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fractions; undefined ones are None."""
        return {
            "map": number(self.mean_average_precision),
            "average_precision": by_name(self.classes, self.average_precision),
            "left_out": list(self.left_out),
        }


def score_tags(scores: ArrayLike | Tensor, labels: ArrayLike | Tensor, classes: Sequence[str]) -> TagScores:
    """Average precision per class.

    AP = sum over the ranks where recall rises of (rise in recall) * precision; photos of equal score share a rank.

    Args:
        scores: (n, C), larger = more likely; logits or probabilities.
        labels: (n, C) multi-hot.
        classes: C class names.

    Raises:
        ValueError: if the shapes differ or a score is NaN.
    """
    values, truth = _check(scores, labels, len(classes))
    precisions = [_average_precision(values[:, index], truth[:, index]) for index in range(len(classes))]
    return TagScores(tuple(classes), np.array(precisions))


def f1_scores(scores: ArrayLike | Tensor, labels: ArrayLike | Tensor, thresholds: ArrayLike | Tensor) -> Scores:
    """F1 per class of the tags `scores > thresholds`, (C,); NaN where a class is neither true nor predicted.

    Args:
        scores: (n, C), larger = more likely.
        labels: (n, C) multi-hot.
        thresholds: (C,), or one number for all classes; in the units of `scores`.
    """
    values, truth = _check(scores, labels, to_numpy(scores).shape[-1])
    predicted = values > to_numpy(thresholds)
    return ratio(2 * (predicted & truth).sum(axis=0), predicted.sum(axis=0) + truth.sum(axis=0))


def choose_thresholds(scores: ArrayLike | Tensor, labels: ArrayLike | Tensor, default: float = 0.0) -> Scores:
    """The threshold per class with the highest F1 on these photos, (C,); it needs tags only, no masks.

    Between two neighbouring scores the threshold lies half-way. Choose on photos that were not trained on.

    Args:
        scores: (n, C), larger = more likely.
        labels: (n, C) multi-hot.
        default: Threshold of a class without a positive photo, in the units of `scores` (0 suits logits).
    """
    values, truth = _check(scores, labels, to_numpy(scores).shape[-1])
    chosen = np.full(values.shape[1], default)
    for index in np.flatnonzero(truth.any(axis=0)):
        hits, taken, ranked = _cumulated(values[:, index], truth[:, index])
        best = int(np.argmax(2 * hits / (taken + hits[-1])))
        following = ranked[best + 1] if best + 1 < ranked.size else ranked[best] - 2.0
        chosen[index] = (ranked[best] + following) / 2
    return chosen


def _average_precision(scores: Scores, truth: NDArray[np.bool_]) -> float:
    if not truth.any():
        return float("nan")
    hits, taken, _ = _cumulated(scores, truth)
    return float(np.sum(np.diff(hits, prepend=0) / hits[-1] * (hits / taken)))


def _cumulated(scores: Scores, truth: NDArray[np.bool_]) -> tuple[Scores, Scores, Scores]:
    """For each distinct score, highest first: positives and photos with that score or more, and the score."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_score = np.append(np.flatnonzero(np.diff(ranked)), ranked.size - 1)
    hits = truth[order].cumsum()[last_of_score]
    return hits.astype(np.float64), last_of_score + 1.0, ranked[last_of_score]


def _check(
    scores: ArrayLike | Tensor, labels: ArrayLike | Tensor, num_classes: int
) -> tuple[Scores, NDArray[np.bool_]]:
    values, truth = to_numpy(scores).astype(np.float64), to_numpy(labels).astype(bool)
    if values.ndim != 2 or values.shape != truth.shape or values.shape[1] != num_classes:
        raise ValueError(
            f"Tag scores of shape {values.shape} and labels of {truth.shape} do not fit {num_classes} classes; "
            f"both must be (photos, {num_classes})."
        )
    if np.isnan(values).any():
        raise ValueError(
            f"{int(np.isnan(values).any(axis=1).sum())} photos have NaN tag scores; the model has diverged."
        )
    return values, truth
