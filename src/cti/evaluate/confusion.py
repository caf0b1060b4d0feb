"""The confusion matrix of a whole data set in int64, and the scores that are read off it.

Counts are `(..., K, K)` with the true class first and the predicted class second, `K = C+1`, background first. All
scores are fractions; NaN means "not defined here", never 0. Source: docs/method.md, "Seeds".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cti.classes import IGNORE_INDEX

Counts = NDArray[np.int64]
Scores = NDArray[np.float64]


def to_numpy(values: ArrayLike | Tensor) -> NDArray[Any]:
    """A NumPy array of `values`; tensors may lie on any device."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    tensor = values.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()  # NumPy has no bfloat16


def to_mask(values: ArrayLike | Tensor, name: str) -> NDArray[np.uint8]:
    """Mask values as uint8, whatever integer type they came in.

    Raises:
        ValueError: if they are not whole numbers from 0 to 255; `name` says which mask it was.
    """
    mask = to_numpy(values)
    if mask.dtype == np.uint8:
        return mask
    if mask.dtype.kind not in "iu":
        raise ValueError(f"The {name} is of type {mask.dtype}; give whole numbers (0 = background, 255 = ignored).")
    if mask.size and (mask.min() < 0 or mask.max() > 255):
        raise ValueError(f"The {name} has values from {mask.min()} to {mask.max()}; mask values are 0 to 255.")
    return mask.astype(np.uint8)


def class_areas(counts: Counts) -> Counts:
    """What IoU needs of counts (..., K, K): pixels of a class that are both, true, predicted, (..., 3, K)."""
    both = np.diagonal(counts, axis1=-2, axis2=-1)
    return np.stack([both, counts.sum(axis=-1), counts.sum(axis=-2)], axis=-2)


def iou_from_areas(areas: NDArray[Any]) -> Scores:
    """IoU per class from `class_areas` (..., 3, K), (..., K).

    A class that is neither true nor predicted has none (NaN); one that is predicted but absent has 0.
    """
    both, true, predicted = areas[..., 0, :], areas[..., 1, :], areas[..., 2, :]
    return ratio(both, true + predicted - both)


def mean(scores: Scores) -> Scores:
    """Mean over the classes whose score is defined, (..., K) -> (...); NaN if none is."""
    defined = ~np.isnan(scores)
    total = np.where(defined, scores, 0.0).sum(axis=-1)
    return ratio(total, defined.sum(axis=-1))


def ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Scores:
    """Quotient in float64, NaN where the denominator is 0."""
    quotient = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=quotient, where=np.asarray(denominator) != 0)


class Rates:
    """What is read off counts; NaN where it is not defined.

    Args:
        counts: (..., K, K), true class first.
    """

    def __init__(self, counts: Counts) -> None:
        self.counts = counts

    @property
    def iou(self) -> Scores:
        """IoU per class, (..., K); see `iou_from_areas`."""
        return iou_from_areas(class_areas(self.counts))

    @property
    def precision(self) -> Scores:
        """Share of the pixels predicted as a class that are of it, (..., K); NaN where it is never predicted."""
        both, _, predicted = np.moveaxis(class_areas(self.counts), -2, 0)
        return ratio(both, predicted)

    @property
    def recall(self) -> Scores:
        """Share of the pixels of a class that are predicted as it, (..., K); NaN where it never occurs."""
        both, true, _ = np.moveaxis(class_areas(self.counts), -2, 0)
        return ratio(both, true)

    @property
    def false_positive_rate(self) -> Scores:
        """Share of the pixels of *other* classes that are predicted as a class, (..., K); NaN where there are none."""
        both, true, predicted = np.moveaxis(class_areas(self.counts), -2, 0)
        return ratio(predicted - both, self.counts.sum(axis=(-2, -1))[..., None] - true)

    @property
    def accuracy(self) -> Scores:
        """Share of all labelled pixels that are right, (...)."""
        right = np.diagonal(self.counts, axis1=-2, axis2=-1).sum(axis=-1)
        return ratio(right, self.counts.sum(axis=(-2, -1)))


class ConfusionMatrix(Rates):
    """Pixel counts of true against predicted classes, gathered over a data set.

    Args:
        num_classes: Number K of classes, background included (at most 255).
        counts: (K, K) counts to start from, true class first; zeros if not given.
    """

    def __init__(self, num_classes: int, counts: Counts | None = None) -> None:
        if not 1 <= num_classes <= IGNORE_INDEX:
            raise ValueError(f"num_classes is {num_classes}; give 1 to {IGNORE_INDEX}, background included.")
        shape = (num_classes, num_classes)
        if counts is not None and counts.shape != shape:
            raise ValueError(f"counts are of shape {counts.shape}, but {num_classes} classes need {shape}.")
        self.num_classes = num_classes
        super().__init__(np.zeros(shape, np.int64) if counts is None else counts.astype(np.int64))

    def update(self, prediction: ArrayLike | Tensor, target: ArrayLike | Tensor) -> None:
        """Count one or more photos.

        Args:
            prediction: Predicted mask values 0..K-1, integers of any shape.
            target: True mask values of the same shape; pixels of 255 are not counted.

        Raises:
            ValueError: if the shapes differ, or a counted pixel has a value outside 0..K-1.
        """
        predicted, true = to_mask(prediction, "prediction"), to_mask(target, "target")
        if predicted.shape != true.shape:
            raise ValueError(f"The prediction is of shape {predicted.shape}, but the target of {true.shape}.")
        pairs = (true.ravel().astype(np.uint16) << 8) | predicted.ravel()
        counts = np.bincount(pairs, minlength=1 << 16).reshape(256, 256)
        counts[IGNORE_INDEX] = 0
        for name, totals in (("target", counts.sum(axis=1)), ("prediction", counts.sum(axis=0))):
            unknown = np.flatnonzero(totals[self.num_classes :]) + self.num_classes
            if unknown.size:
                raise ValueError(
                    f"The {name} has the value {unknown[0]}, but {self.num_classes} classes (background included) "
                    f"end at {self.num_classes - 1}; check that both were made with the same class list."
                )
        self.counts += counts[: self.num_classes, : self.num_classes]

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        """The matrix of both parts of a data set; use it to count in parallel."""
        return ConfusionMatrix(self.num_classes, self.counts + other.counts)

    @property
    def num_pixels(self) -> int:
        """Labelled pixels that were counted."""
        return int(self.counts.sum())

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that are true or predicted somewhere."""
        return float(mean(self.iou))


def number(value: float | Scores) -> float | None:
    """A float for JSON: None where the value is NaN, which JSON does not have."""
    return None if np.isnan(value) else float(value)


def by_name(names: Sequence[str], scores: Scores) -> dict[str, float | None]:
    """Scores (K,) by class name, for JSON."""
    return {name: number(score) for name, score in zip(names, scores, strict=True)}
