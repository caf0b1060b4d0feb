"""Scores of seeds at every background threshold, from one pass over the pixels.

A seed is scored by argmax over [t, CAMs]. Only two things about a pixel matter for every t: its highest CAM and whose
it is; it is foreground at exactly those thresholds that lie below that value. So pixels are counted once, by (class,
rank of the value among the thresholds, true class), and cumulated at the end. The counts equal those of the loop
over thresholds (`benchmarks/references.py`) bit for bit. Source: docs/method.md, "Seeds".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cti.classes import check_classes
from cti.evaluate.confusion import ConfusionMatrix, Counts, Rates, Scores, mean, to_mask, to_numpy
from cti.evaluate.labels import check_cams, strongest

MIN_GAP = 1 / 16384  # thresholds closer than this would need larger histograms than is sensible


@dataclass(frozen=True)
class ThresholdScore:
    """The score of a data set at one way of telling background from foreground.

    Args:
        threshold: Constant background score; None = the background's own CAM was the score.
        confusion: The confusion matrix, background first.
    """

    threshold: float | None
    confusion: ConfusionMatrix

    @property
    def miou(self) -> float:
        """Mean IoU, a fraction."""
        return self.confusion.miou


@dataclass(frozen=True)
class SweepResult:
    """Scores at every threshold; all fractions, background included, `K = C+1`.

    Args:
        classes: The C foreground classes.
        thresholds: (T,) background scores.
        counts: (T, K, K) confusion matrix at each threshold, true class first.
        free_counts: (K, K) confusion matrix with the background's own CAM as background score, if it was given.
        num_photos: Photos that were scored.
    """

    classes: tuple[str, ...]
    thresholds: Scores
    counts: Counts
    free_counts: Counts | None
    num_photos: int

    @cached_property
    def iou(self) -> Scores:
        """IoU per threshold and class, (T, K); NaN where a class is neither true nor predicted."""
        return Rates(self.counts).iou

    @cached_property
    def miou(self) -> Scores:
        """Mean IoU per threshold, (T,)."""
        return mean(self.iou)

    @cached_property
    def precision(self) -> Scores:
        """Mean over the predicted classes of their precision, (T,)."""
        return mean(Rates(self.counts).precision)

    @cached_property
    def recall(self) -> Scores:
        """Mean over the occurring classes of their recall, (T,)."""
        return mean(Rates(self.counts).recall)

    @property
    def best(self) -> ThresholdScore:
        """The threshold of the highest mIoU (the lowest such). It is chosen by true masks."""
        return self._score(int(np.argmax(self.miou)))

    def at(self, threshold: float) -> ThresholdScore:
        """The score at a threshold that was fixed without looking at masks.

        Raises:
            ValueError: if `threshold` is not one of the sweep's.
        """
        nearest = int(np.argmin(np.abs(self.thresholds - threshold)))
        if not np.isclose(self.thresholds[nearest], threshold, rtol=0, atol=1e-9):
            raise ValueError(
                f"Threshold {threshold} was not swept; the nearest is {self.thresholds[nearest]:.6g}. "
                "Give a swept one or pass it to ThresholdSweep(thresholds=...)."
            )
        return self._score(nearest)

    @property
    def threshold_free(self) -> ThresholdScore | None:
        """The score with the background's own CAM as background score, or None if there was none."""
        if self.free_counts is None:
            return None
        return ThresholdScore(None, ConfusionMatrix(len(self.classes) + 1, self.free_counts))

    def _score(self, index: int) -> ThresholdScore:
        matrix = ConfusionMatrix(len(self.classes) + 1, self.counts[index])
        return ThresholdScore(float(self.thresholds[index]), matrix)


class ThresholdSweep:
    """Scores class activation maps against true masks at all thresholds at once.

    Args:
        classes: The C foreground classes.
        thresholds: (T,) background scores in [0, 1], rising, at least 1/16384 apart.
    """

    def __init__(self, classes: Sequence[str], thresholds: ArrayLike | None = None) -> None:
        self.classes = check_classes(tuple(classes))
        self.thresholds: Scores = np.linspace(0, 1, 101) if thresholds is None else np.asarray(thresholds, np.float64)
        gaps = np.diff(self.thresholds)
        if self.thresholds.ndim != 1 or not self.thresholds.size or not (gaps >= MIN_GAP).all():
            raise ValueError("Thresholds must rise in steps of at least 1/16384.")
        if not (self.thresholds[0] >= 0 and self.thresholds[-1] <= 1):
            raise ValueError(
                f"Thresholds run from {self.thresholds[0]} to {self.thresholds[-1]}; CAMs lie in [0, 1], so must they."
            )
        # [0, 1] is cut into cells no wider than the smallest gap, so that a cell holds one threshold at most: the cell
        # of a value and one comparison give its exact rank. A power of two makes the product with it exact.
        limits = self.thresholds.astype(np.float32)
        self._cells = 1 << int(np.ceil(-np.log2(gaps.min(initial=1.0) / 2)))
        cell_of_limit = (limits * np.float32(self._cells)).astype(np.intp)
        assert np.unique(cell_of_limit).size == limits.size
        self._limit_of_cell = np.full(self._cells + 1, np.inf, np.float32)
        self._limit_of_cell[cell_of_limit] = limits
        # Rank of a value: how many thresholds lie below it. Entry 2c: values of cell c up to its limit; 2c+1: beyond.
        below = np.searchsorted(cell_of_limit, np.arange(self._cells + 1))
        self._rank = np.stack([below, below + np.isfinite(self._limit_of_cell)], axis=1).ravel()
        num_values = len(self.classes) + 1
        self._foreground: Counts = np.zeros((len(self.classes), self._rank.size, num_values), np.int64)
        self._true: Counts = np.zeros(num_values, np.int64)
        self._free: Counts | None = None
        self.num_photos = 0

    def update(
        self,
        cams: ArrayLike | Tensor,
        class_indices: tuple[int, ...],
        mask: ArrayLike | Tensor,
        background: ArrayLike | Tensor | None = None,
    ) -> None:
        """Count one photo.

        Args:
            cams: (n, H, W) in [0, 1]; compared in float32. n may be 0: all background.
            class_indices: 0-based foreground classes of the n maps.
            mask: (H, W) true mask values; pixels of 255 are not counted.
            background: (H, W) the background's own CAM, for the threshold-free score: for all photos or for none.

        Raises:
            ValueError: if shapes differ, a CAM is NaN or outside [0, 1], or the mask has a value beyond the classes.
        """
        maps, indices = check_cams(cams, class_indices, len(self.classes))
        true = to_mask(mask, "mask")
        if true.shape != maps.shape[1:]:
            raise ValueError(f"The mask is of shape {true.shape}, but the CAMs are of {maps.shape[1:]}.")
        if self.num_photos and (background is None) != (self._free is None):
            raise ValueError("Some photos come with a background CAM and some without; give it for all or for none.")
        num_values = len(self.classes) + 1
        true = true.ravel() + np.uint8(1)  # 255 wraps around to 0: the column of ignored pixels
        if true.max(initial=0) > num_values:
            raise ValueError(
                f"The mask has the value {true.max() - 1}, but {num_values - 1} classes end at {num_values - 1}."
            )
        best, winner = strongest(maps)
        _check_range(best, "A CAM")

        index = (best * np.float32(self._cells)).astype(np.int32)
        above = best > self._limit_of_cell.take(index)
        index *= 2
        index += above
        if len(indices) > 1:
            index += winner * np.int32(self._rank.size)
        if background is not None:
            free = _check_background(background, maps.shape[1:])
            index *= 2
            index += best > free
        index *= num_values + 1
        index += true
        shape = (max(len(indices), 1), self._rank.size, 1 if background is None else 2, num_values + 1)
        counts = np.bincount(index, minlength=int(np.prod(shape))).reshape(shape)[..., 1:]

        self._true += counts.sum(axis=(0, 1, 2))
        self._foreground[list(indices)] += counts.sum(axis=2)[: len(indices)]
        if background is not None:
            self._free = np.zeros((num_values, num_values), np.int64) if self._free is None else self._free
            self._free[:, 0] += counts[:, :, 0].sum(axis=(0, 1))
            self._free[:, [index + 1 for index in indices]] += counts[: len(indices), :, 1].sum(axis=1).T
        self.num_photos += 1

    def merge(self, other: "ThresholdSweep") -> None:
        """Add the photos that `other`, a sweep over the same classes and thresholds, has counted."""
        if self.classes != other.classes or not np.array_equal(self.thresholds, other.thresholds):
            raise ValueError("Only sweeps over the same classes and thresholds can be merged.")
        if self.num_photos and other.num_photos and (self._free is None) != (other._free is None):
            raise ValueError(
                "One sweep has background CAMs and the other has not; give them for all photos or for none."
            )
        self._foreground += other._foreground
        self._true += other._true
        if other._free is not None:
            self._free = other._free.copy() if self._free is None else self._free + other._free
        self.num_photos += other.num_photos

    def compute(self) -> SweepResult:
        """The scores of all photos counted so far."""
        num_thresholds, num_values = self.thresholds.size, len(self.classes) + 1
        by_rank: Counts = np.zeros((num_thresholds + 1, num_values, len(self.classes)), np.int64)
        np.add.at(by_rank, self._rank, self._foreground.transpose(1, 2, 0))
        counts: Counts = np.empty((num_thresholds, num_values, num_values), np.int64)
        # A pixel of rank r is foreground at thresholds 0..r-1: sum the ranks beyond each threshold.
        counts[:, :, 1:] = by_rank[::-1].cumsum(axis=0)[::-1][1:]
        counts[:, :, 0] = self._true - counts[:, :, 1:].sum(axis=2)
        free = None if self._free is None else self._free.copy()
        return SweepResult(self.classes, self.thresholds.copy(), counts, free, self.num_photos)


def _check_background(background: ArrayLike | Tensor, size: tuple[int, ...]) -> NDArray[np.float32]:
    score = np.ascontiguousarray(to_numpy(background), dtype=np.float32)
    if score.shape != size:
        raise ValueError(f"The background CAM is of shape {score.shape}, but the CAMs are of {size}.")
    _check_range(score, "The background CAM")
    return score.ravel()


def _check_range(values: NDArray[np.float32], name: str) -> None:
    # min and max hand on NaN, and comparisons with it are false
    if not (values.min(initial=0) >= 0 and values.max(initial=0) <= 1):
        raise ValueError(
            f"{name} holds NaN or leaves [0, 1]; bring it to that range with cti.method.attention.max_norm."
        )
