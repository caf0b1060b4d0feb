"""Scoring seeds: every number that belongs beside a seed's mIoU, taken together in one pass over the photos."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cti.classes import BACKGROUND
from cti.data.photos import Photo
from cti.data.seed_file import Seed, read_seed
from cti.evaluate.baselines import Baselines
from cti.evaluate.bootstrap import Interval, miou_interval
from cti.evaluate.confusion import ConfusionMatrix, Counts, Scores, by_name, class_areas, number
from cti.evaluate.labels import label_pixels
from cti.evaluate.overlap import cam_overlap
from cti.evaluate.scored_photos import with_files, with_masks
from cti.evaluate.threshold_sweep import MIN_GAP, SweepResult, ThresholdScore, ThresholdSweep


@dataclass(frozen=True)
class SeedScores:
    """Scores of one kind of seed over a list of photos; fractions, background included in every mean.

    Args:
        kind: Kind of map that was scored (`refined`, `fused`, ...); empty = the seed files' first.
        sweep: Scores at every threshold.
        threshold: The fixed background score, chosen without masks.
        baselines: Mean IoU that tags alone give, by name.
        overlap: Mean overlap of the CAMs of different classes over photos with two tags or more; NaN without any.
        num_overlap_photos: Number of such photos.
        missing: Ids of the photos with a mask but no seed, which were left out.
        fixed_areas: (n, 3, K) `class_areas` of each photo at the fixed threshold, if a bootstrap was asked for.
        free_areas: The same with the background's own CAM as background score, if there was one.
        fixed_interval: Bootstrap interval of the mIoU at the fixed threshold, if asked for.
        free_interval: Bootstrap interval of the threshold-free mIoU, if asked for.
    """

    kind: str
    sweep: SweepResult
    threshold: float
    baselines: dict[str, float]
    overlap: float
    num_overlap_photos: int
    missing: tuple[str, ...] = ()
    fixed_areas: Counts | None = None
    free_areas: Counts | None = None
    fixed_interval: Interval | None = None
    free_interval: Interval | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The foreground classes."""
        return self.sweep.classes

    @property
    def num_photos(self) -> int:
        """Photos that were scored."""
        return self.sweep.num_photos

    @property
    def best(self) -> ThresholdScore:
        """At the best threshold, which true masks chose."""
        return self.sweep.best

    @property
    def fixed(self) -> ThresholdScore:
        """At the fixed threshold."""
        return self.sweep.at(self.threshold)

    @property
    def threshold_free(self) -> ThresholdScore | None:
        """With the background's own CAM as background score; None for a model without one."""
        return self.sweep.threshold_free

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: fractions, None where a score is undefined."""
        names, sweep, free = [BACKGROUND, *self.classes], self.sweep, self.threshold_free
        return {
            "kind": self.kind,
            "num_photos": self.num_photos,
            "missing": list(self.missing),
            "best": self.best.to_dict(self.classes),
            "fixed": self.fixed.to_dict(self.classes),
            "threshold_free": None if free is None else free.to_dict(self.classes),
            "baselines": {name: number(score) for name, score in self.baselines.items()},
            "cam_overlap": number(self.overlap),
            "num_overlap_photos": self.num_overlap_photos,
            "intervals": {
                "fixed": None if self.fixed_interval is None else self.fixed_interval.to_dict(),
                "threshold_free": None if self.free_interval is None else self.free_interval.to_dict(),
            },
            "curve": {
                "thresholds": sweep.thresholds.tolist(),
                "miou": _numbers(sweep.miou),
                "precision": _numbers(sweep.precision),
                "recall": _numbers(sweep.recall),
                "iou": [by_name(names, row) for row in sweep.iou],
            },
        }


def score_seeds(
    seeds: Path | str | Callable[[Photo], Seed],
    photos: Sequence[Photo],
    classes: Sequence[str],
    threshold: float = 0.25,
    *,
    kind: str = "",
    bootstrap: int = 0,
    allow_missing: bool = False,
    workers: int = 2,
    advance: Callable[[], object] | None = None,
) -> SeedScores:
    """Score seeds against the masks of the photos that have one.

    Args:
        seeds: Folder of `<photo id>.npz`, or a function that gives a photo's seed.
        photos: Photos; those without a mask are left out.
        classes: The C foreground classes of seeds and masks.
        threshold: Fixed background score in [0, 1]; it is swept too.
        kind: Kind of map to read from the folder; empty = each file's first.
        bootstrap: Resamples for the confidence intervals; 0 = none.
        allow_missing: Leave out photos without a seed file and name them in the result, instead of stopping.
        workers: Threads; reading, up-sampling and counting run mostly outside Python's lock.
        advance: Called after each photo, to move a progress bar; it must be safe to call from threads.

    Raises:
        ValueError: if no photo has a mask, a seed and its mask differ in size, or a value does not fit `classes`.
        FileNotFoundError: if seed files are missing and `allow_missing` is not set.
    """
    scored = with_masks(photos)
    missing: tuple[str, ...] = ()
    if callable(seeds):
        read = seeds
    else:
        folder = Path(seeds)
        scored, missing = with_files(scored, folder, ".npz", allow_missing)

        def read(photo: Photo) -> Seed:
            return read_seed(folder / f"{photo.id}.npz", kind)

    def tally(part: Sequence[Photo]) -> _Tally:
        result = _Tally(classes, threshold, keep_areas=bootstrap > 0)
        for photo in part:
            try:
                result.add(photo, read(photo))
            except ValueError as error:
                raise ValueError(f"Photo {photo.id}: {error}") from error
            if advance is not None:
                advance()
        return result

    bounds = np.linspace(0, len(scored), max(1, min(workers, len(scored))) + 1).astype(int)
    with ThreadPoolExecutor(len(bounds) - 1) as pool:
        parts = pool.map(tally, [scored[start:end] for start, end in pairwise(bounds)])
        total = next(parts)
        for part in parts:
            total.merge(part)
    return total.scores(kind, missing, bootstrap)


class _Tally:
    """What one thread has counted; parts are merged in the order of the photos."""

    def __init__(self, classes: Sequence[str], threshold: float, keep_areas: bool) -> None:
        self.threshold = threshold
        self.sweep = ThresholdSweep(classes, _thresholds_with(threshold))
        self.baselines = Baselines(len(classes))
        self.overlaps: list[float] = []
        self.keep_areas = keep_areas
        self.fixed_areas: list[Counts] = []
        self.free_areas: list[Counts] = []

    def add(self, photo: Photo, seed: Seed) -> None:
        assert photo.mask is not None
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

    def merge(self, other: "_Tally") -> None:
        self.sweep.merge(other.sweep)
        self.baselines.merge(other.baselines)
        self.overlaps += other.overlaps
        self.fixed_areas += other.fixed_areas
        self.free_areas += other.free_areas

    def scores(self, kind: str, missing: tuple[str, ...], bootstrap: int) -> SeedScores:
        fixed = np.stack(self.fixed_areas) if self.fixed_areas else None
        free = np.stack(self.free_areas) if self.free_areas else None
        return SeedScores(
            kind=kind,
            sweep=self.sweep.compute(),
            threshold=self.threshold,
            baselines=self.baselines.compute(),
            overlap=float(np.mean(self.overlaps)) if self.overlaps else float("nan"),
            num_overlap_photos=len(self.overlaps),
            missing=missing,
            fixed_areas=fixed,
            free_areas=free,
            fixed_interval=None if fixed is None else miou_interval(fixed, bootstrap),
            free_interval=None if free is None else miou_interval(free, bootstrap),
        )


def _thresholds_with(threshold: float) -> Scores:
    """0, 0.01, ..., 1, with `threshold` among them."""
    grid: Scores = np.linspace(0, 1, 101)
    return np.sort(np.append(grid[np.abs(grid - threshold) > 2 * MIN_GAP], threshold))


def _numbers(scores: Scores) -> list[float | None]:
    return [number(score) for score in scores]
