"""Confidence intervals of a data-set-level mIoU by drawing photos with replacement (percentile bootstrap).

mIoU is not a mean over photos: each resample sums the photos' pixel areas per class and scores the sum, so that a class
on few photos makes the interval as wide as it is. A class that a resample lacks leaves its mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cti.evaluate.confusion import Counts, Scores, iou_from_areas, mean

LEVEL = 0.95
CHUNK = 256  # resamples at a time: bounds the memory of the drawn weights


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % percentile interval, fractions.

    Args:
        value: The value on the photos as they are.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def miou_interval(areas: Counts, resamples: int = 1000) -> Interval | None:
    """Interval of the mIoU; None where it is undefined, because no pixel is labelled.

    Args:
        areas: (n, 3, K) of n photos: `class_areas` of each photo's confusion matrix.
        resamples: Number of resamples.

    Raises:
        ValueError: if there is no photo.
    """
    return _interval([areas], lambda mious: mious[0], resamples)


def mean_difference(areas: Sequence[Counts], baselines: Sequence[Counts], resamples: int = 1000) -> Interval | None:
    """Interval of the mean of mIoU(areas) - mIoU(baseline) over repeated runs, the photos of all drawn together.

    None where a mIoU is undefined. For two single runs, give one of each.

    Args:
        areas: (n, 3, K) of the photos under the one method, one per run.
        baselines: (n, 3, K) of the same photos, in the same order, under the other, one per run.
        resamples: Number of resamples.

    Raises:
        ValueError: if they are not all of one shape: without the same photos there is no pairing.
    """
    shapes = sorted({run.shape for run in (*areas, *baselines)})
    if len(shapes) > 1:
        raise ValueError(f"Areas of shape {shapes[0]} and {shapes[1]} cannot be paired; score both on the same photos.")

    def statistic(mious: list[Scores]) -> Scores:
        difference: Scores = np.mean(mious[: len(areas)], axis=0) - np.mean(mious[len(areas) :], axis=0)
        return difference

    return _interval([*areas, *baselines], statistic, resamples)


def _interval(methods: list[Counts], statistic: Callable[[list[Scores]], Scores], resamples: int) -> Interval | None:
    value = float(statistic([mean(iou_from_areas(areas.sum(axis=0))) for areas in methods]))
    resampled = statistic(_resampled(methods, resamples))
    if np.isnan(resampled).all():
        return None
    low, high = np.nanpercentile(resampled, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Interval(value, float(low), float(high))


def _resampled(methods: list[Counts], resamples: int) -> list[Scores]:
    """mIoU of each method in each resample, (resamples,) each; the methods share the draws."""
    num_photos = methods[0].shape[0]
    if num_photos == 0 or resamples < 1:
        raise ValueError(f"Cannot draw {resamples} resamples of {num_photos} photos; give at least one of each.")
    # Products of float64 are exact below 2**53 and, unlike int64's, computed by BLAS.
    flat = [areas.reshape(num_photos, -1).astype(np.float64) for areas in methods]
    assert max(areas.max(initial=0) for areas in flat) * num_photos < 2**53
    generator = np.random.default_rng(0)
    mious: list[list[Scores]] = [[] for _ in methods]
    for start in range(0, resamples, CHUNK):
        drawn = generator.integers(num_photos, size=(min(CHUNK, resamples - start), num_photos))
        weights = np.stack([np.bincount(row, minlength=num_photos) for row in drawn]).astype(np.float64)
        for scores, areas, photos in zip(mious, methods, flat, strict=True):
            scores.append(mean(iou_from_areas((weights @ photos).reshape(-1, *areas.shape[1:]))))
    return [np.concatenate(scores) for scores in mious]
