"""Scoring seeds: every number that belongs beside a seed's mIoU, counted in one pass over the photos."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from cti.classes import BACKGROUND
from cti.data.photos import Photo
from cti.data.seed_file import Seed, read_seed
from cti.evaluate.baselines import Baselines
from cti.evaluate.bootstrap import miou_interval
from cti.evaluate.confusion import ConfusionMatrix, Counts, Scores, class_areas, number
from cti.evaluate.labels import label_pixels
from cti.evaluate.overlap import cam_overlap
from cti.evaluate.scored_photos import check_files, with_masks
from cti.evaluate.scores import ClassScores, Curve, SeedScores, class_scores
from cti.evaluate.threshold_sweep import MIN_GAP, ThresholdScore, ThresholdSweep


class SeedCounts:
    """What is counted of one kind of seed over a list of photos; parts are counted in parallel and merged.

    Args:
        classes: The C foreground classes of seeds and masks.
        threshold: The fixed background score, chosen without masks.
        kind: Kind of map (`refined`, `fused`, ...); empty = the seed files' first.
        keep_areas: Keep each photo's areas in `fixed_areas` and, with the background's own CAM as background score, in
            `free_areas`: (3, K) `class_areas` of each photo.
    """

    def __init__(self, classes: Sequence[str], threshold: float, kind: str = "", keep_areas: bool = False) -> None:
        self.kind = kind
        self.threshold = threshold
        self.sweep = ThresholdSweep(classes, _thresholds_with(threshold))
        self.baselines = Baselines(len(classes))
        self.overlaps: list[float] = []
        self.keep_areas = keep_areas
        self.fixed_areas: list[Counts] = []
        self.free_areas: list[Counts] = []

    def update(self, photo: Photo, seed: Seed) -> None:
        """Count one photo.

        Raises:
            ValueError: if it has no mask, its seed and mask differ in size, or a value is beyond the classes.
        """
        if photo.mask is None:
            raise ValueError("the photo has no mask; set data.masks.")
        mask = photo.mask.load()
        if mask.shape != seed.size:
            raise ValueError(
                f"the seed is for a photo of {seed.size[0]}x{seed.size[1]} pixels (height x width), but the mask is "
                f"{mask.shape[0]}x{mask.shape[1]}; extract the seed again or mend the mask."
            )
        cams, background = seed.cams(), seed.background_cam()
        self.sweep.update(cams, seed.class_indices, mask, background)
        self.baselines.update(photo.tags, mask)
        if len(seed.class_indices) > 1:
            self.overlaps.append(cam_overlap(cams))
        if self.keep_areas:
            self.fixed_areas.append(self._areas(label_pixels(cams, seed.class_indices, self.threshold), mask))
            if background is not None:
                self.free_areas.append(self._areas(label_pixels(cams, seed.class_indices, background), mask))

    def _areas(self, prediction: ArrayLike, mask: ArrayLike) -> Counts:
        matrix = ConfusionMatrix(len(self.sweep.classes) + 1)
        matrix.update(prediction, mask)
        return class_areas(matrix.counts)

    def merge(self, other: "SeedCounts") -> None:
        """Add the photos that `other` has counted."""
        self.sweep.merge(other.sweep)
        self.baselines.merge(other.baselines)
        self.overlaps += other.overlaps
        self.fixed_areas += other.fixed_areas
        self.free_areas += other.free_areas

    def scores(self, resamples: int = 0) -> SeedScores:
        """The scores as plain values.

        Args:
            resamples: Resamples for confidence intervals, which need the areas; 0 = none.
        """
        sweep = self.sweep.compute()
        best, free = sweep.best, sweep.threshold_free
        assert best.threshold is not None

        def scores_at(score: ThresholdScore, areas: list[Counts]) -> ClassScores:
            interval = miou_interval(np.stack(areas), resamples) if areas and resamples else None
            return class_scores(score.confusion, sweep.classes, interval)

        return SeedScores(
            kind=self.kind,
            num_photos=sweep.num_photos,
            threshold=self.threshold,
            fixed=scores_at(sweep.at(self.threshold), self.fixed_areas),
            best_threshold=best.threshold,
            best=scores_at(best, []),
            threshold_free=None if free is None else scores_at(free, self.free_areas),
            baselines={name: number(score) for name, score in self.baselines.compute().items()},
            cam_overlap=float(np.mean(self.overlaps)) if self.overlaps else None,
            num_overlap_photos=len(self.overlaps),
            curve=Curve(
                thresholds=tuple(sweep.thresholds.tolist()),
                miou=_numbers(sweep.miou),
                precision=_numbers(sweep.precision),
                recall=_numbers(sweep.recall),
                iou={name: _numbers(iou) for name, iou in zip((BACKGROUND, *sweep.classes), sweep.iou.T, strict=True)},
            ),
        )


def count_seeds(
    seeds: Path | str | Callable[[Photo], Seed],
    photos: Sequence[Photo],
    classes: Sequence[str],
    threshold: float = 0.25,
    *,
    kind: str = "",
    keep_areas: bool = False,
    workers: int = 2,
) -> SeedCounts:
    """Count how seeds fit the masks of the photos that have one.

    Args:
        seeds: Folder of `<photo id>.npz`, or a function that gives a photo's seed.
        photos: Photos; those without a mask are left out.
        classes: The C foreground classes of seeds and masks.
        threshold: Fixed background score in [0, 1]; it is swept too.
        kind: Kind of map to read from the folder; empty = each file's first.
        keep_areas: Keep each photo's areas too, which confidence intervals need.
        workers: Threads; reading, up-sampling and counting run mostly outside Python's lock.

    Raises:
        ValueError: if no photo has a mask, a seed and its mask differ in size, or a value does not fit `classes`.
        FileNotFoundError: if seed files are missing.
    """
    scored = with_masks(photos)
    if callable(seeds):
        read = seeds
    else:
        folder = Path(seeds)
        check_files(scored, folder, ".npz")

        def read(photo: Photo) -> Seed:
            return read_seed(folder / f"{photo.id}.npz", kind)

    def count(part: Sequence[Photo]) -> SeedCounts:
        counts = SeedCounts(classes, threshold, kind, keep_areas)
        for photo in part:
            try:
                counts.update(photo, read(photo))
            except ValueError as error:
                raise ValueError(f"Photo {photo.id}: {error}") from error
        return counts

    bounds = np.linspace(0, len(scored), max(1, min(workers, len(scored))) + 1).astype(int)
    with ThreadPoolExecutor(len(bounds) - 1) as pool:
        parts = pool.map(count, [scored[start:end] for start, end in pairwise(bounds)])
        total = next(parts)
        for part in parts:
            total.merge(part)
    return total


def _thresholds_with(threshold: float) -> Scores:
    """0, 0.01, ..., 1, with `threshold` among them."""
    grid: Scores = np.linspace(0, 1, 101)
    return np.sort(np.append(grid[np.abs(grid - threshold) > 2 * MIN_GAP], threshold))


def _numbers(scores: Scores) -> tuple[float | None, ...]:
    return tuple(number(score) for score in scores)
