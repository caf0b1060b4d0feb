"""Scores of image-level predictions, and thresholds that turn them into tags."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cti.evaluate.confusion import Scores, by_name, mean, number, ratio, to_numpy
from cti.files import MANIFEST, from_json, read_manifest


@dataclass(frozen=True)
class TagScores:
    """How well tags are predicted, which no mask is needed for; fractions, None where a score is undefined.

    Args:
        mean_average_precision: Mean of `average_precision`.
        mean_auroc: Mean of `auroc`.
        mean_f1: Mean of `f1`.
        average_precision: Class -> non-interpolated average precision; None without a photo that has the class.
        auroc: Class -> area under the ROC curve: how often a photo with the class is above one without it; None unless
            there are both.
        f1: Class -> F1 at its threshold; None for a class that is neither true nor predicted.
        thresholds: Class -> score above which its tag is predicted, chosen for the best F1 on these very photos.
    """

    mean_average_precision: float | None
    mean_auroc: float | None
    mean_f1: float | None
    average_precision: dict[str, float | None]
    auroc: dict[str, float | None]
    f1: dict[str, float | None]
    thresholds: dict[str, float]

    @property
    def left_out(self) -> tuple[str, ...]:
        """Classes without a positive photo, which the mean average precision leaves out."""
        return tuple(name for name, score in self.average_precision.items() if score is None)


def score_tags(scores: ArrayLike | Tensor, labels: ArrayLike | Tensor, classes: Sequence[str]) -> TagScores:
    """Score image-level predictions, and choose a threshold per class.

    AP = sum over the ranks where recall rises of (rise in recall) * precision; photos of equal score share a rank.

    Args:
        scores: (n, C), larger = more likely; logits or probabilities.
        labels: (n, C) multi-hot.
        classes: C class names.

    Raises:
        ValueError: if the shapes differ or a score is NaN.
    """
    values, truth = _check(scores, labels, len(classes))
    columns = [(values[:, index], truth[:, index]) for index in range(len(classes))]
    precision = np.array([_average_precision(*column) for column in columns])
    auroc = np.array([_auroc(*column) for column in columns])
    thresholds = choose_thresholds(values, truth)
    f1 = f1_scores(values, truth, thresholds)
    return TagScores(
        mean_average_precision=number(mean(precision)),
        mean_auroc=number(mean(auroc)),
        mean_f1=number(mean(f1)),
        average_precision=by_name(classes, precision),
        auroc=by_name(classes, auroc),
        f1=by_name(classes, f1),
        thresholds=dict(zip(classes, thresholds.tolist(), strict=True)),
    )


def read_tags(folder: Path) -> TagScores | None:
    """Read the tag scores in the manifest of a finished stage; None if it has not finished or has none.

    Raises:
        ValueError: if they were written by another version.
    """
    manifest = read_manifest(folder)
    tags = manifest["result"].get("tags") if manifest else None
    return None if tags is None else from_json(TagScores, tags, folder / MANIFEST)


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
        best = int(np.argmax(hits / (taken + hits[-1])))  # F1 is twice that
        following = ranked[best + 1] if best + 1 < ranked.size else ranked[best] - 2.0
        chosen[index] = (ranked[best] + following) / 2
    return chosen


def limit_false_alarms(
    scores: ArrayLike | Tensor, labels: ArrayLike | Tensor, rate: float, default: float = 0.0
) -> Scores:
    """The lowest threshold per class that at most a share `rate` of the photos without the class exceeds, (C,).

    Args:
        scores: (n, C), larger = more likely, of photos that were not trained on.
        labels: (n, C) multi-hot.
        rate: From 0 to below 1.
        default: Threshold of a class that all photos have, in the units of `scores`.
    """
    values, truth = _check(scores, labels, to_numpy(scores).shape[-1])
    chosen = np.full(values.shape[1], default)
    for index in np.flatnonzero(~truth.all(axis=0)):
        without = np.sort(values[~truth[:, index], index])[::-1]
        chosen[index] = without[int(rate * without.size)]  # so many are above it, for a score must exceed it
    return chosen


def _average_precision(scores: Scores, truth: NDArray[np.bool_]) -> float:
    if not truth.any():
        return float("nan")
    hits, taken, _ = _cumulated(scores, truth)
    return float(np.sum(np.diff(hits, prepend=0) / hits[-1] * (hits / taken)))


def _auroc(scores: Scores, truth: NDArray[np.bool_]) -> float:
    """Trapezoids below the curve of hits over false alarms, so that equal scores count half."""
    hits, taken, _ = _cumulated(scores, truth)
    false_alarms = taken - hits
    if not (hits[-1] and false_alarms[-1]):
        return float("nan")
    heights = hits - np.diff(hits, prepend=0) / 2
    return float(np.sum(np.diff(false_alarms, prepend=0) * heights) / (hits[-1] * false_alarms[-1]))


def _cumulated(scores: Scores, truth: NDArray[np.bool_]) -> tuple[Scores, Scores, Scores]:
    """For each distinct score, highest first: positives and photos with that score or more, and the score."""
    order = np.argsort(-scores)
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
