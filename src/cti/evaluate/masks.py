"""Scoring masks: pseudo-masks, in which 255 means "unsure", and segmentations, which decide every pixel."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cti.classes import BACKGROUND, IGNORE_INDEX
from cti.data.photos import Photo
from cti.evaluate.bootstrap import Interval, miou_interval
from cti.evaluate.confusion import ConfusionMatrix, Counts, class_areas, ratio
from cti.evaluate.scored_photos import with_files, with_masks


@dataclass(frozen=True)
class MaskScores:
    """Scores of masks over a list of photos; fractions, background included in every mean.

    Args:
        classes: The C foreground classes.
        decided: Confusion matrix over the pixels that the masks decide: unsure pixels are left out. It flatters masks
            that are unsure where it is hard; read it with `coverage`.
        resolved: Confusion matrix over all labelled pixels, unsure ones counted as background. Compare by this one.
        num_photos: Photos that were scored.
        missing: Ids of the photos with a true mask but no prediction, which were left out.
        areas: (n, 3, K) `class_areas` of each photo, unsure pixels as background, if a bootstrap was asked for.
        interval: Bootstrap interval of the mIoU of `resolved`, if asked for.
    """

    classes: tuple[str, ...]
    decided: ConfusionMatrix
    resolved: ConfusionMatrix
    num_photos: int
    missing: tuple[str, ...] = ()
    areas: Counts | None = None
    interval: Interval | None = None

    @property
    def coverage(self) -> float:
        """Share of the labelled pixels that the masks decide."""
        return float(ratio(np.array(self.decided.num_pixels), np.array(self.resolved.num_pixels)))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: fractions, None where a score is undefined."""
        names = [BACKGROUND, *self.classes]
        return {
            "num_photos": self.num_photos,
            "missing": list(self.missing),
            "coverage": self.coverage,
            "unsure_ignored": self.decided.to_dict(names),
            "unsure_as_background": self.resolved.to_dict(names),
            "interval": None if self.interval is None else self.interval.to_dict(),
        }


def score_masks(
    predictions: Path | str | Callable[[Photo], NDArray[np.uint8]],
    photos: Sequence[Photo],
    classes: Sequence[str],
    *,
    bootstrap: int = 0,
    allow_missing: bool = False,
    workers: int = 2,
    advance: Callable[[], object] | None = None,
) -> MaskScores:
    """Score predicted masks against the masks of the photos that have one.

    Args:
        predictions: Folder of `<photo id>.png`, indexed or greyscale, or a function that gives a photo's (H, W) mask;
            mask values of `classes`, 255 where unsure.
        photos: Photos; those without a true mask are left out.
        classes: The C foreground classes.
        bootstrap: Resamples for the confidence interval; 0 = none.
        allow_missing: Leave out photos without a file and name them in the result, instead of stopping.
        workers: Threads that read and count.
        advance: Called after each photo, to move a progress bar; it must be safe to call from threads.

    Raises:
        ValueError: if no photo has a true mask, the two masks differ in size, or a value does not fit `classes`.
        FileNotFoundError: if files are missing and `allow_missing` is not set.
    """
    scored = with_masks(photos)
    missing: tuple[str, ...] = ()
    if callable(predictions):
        read = predictions
    else:
        folder = Path(predictions)
        scored, missing = with_files(scored, folder, ".png", allow_missing)

        def read(photo: Photo) -> NDArray[np.uint8]:
            return read_mask(folder / f"{photo.id}.png")

    def count(photo: Photo) -> tuple[ConfusionMatrix, ConfusionMatrix]:
        assert photo.mask is not None
        try:
            matrices = _count(read(photo), photo.mask.load(), len(classes) + 1)
        except ValueError as error:
            raise ValueError(f"Photo {photo.id}: {error}") from error
        if advance is not None:
            advance()
        return matrices

    decided, resolved = ConfusionMatrix(len(classes) + 1), ConfusionMatrix(len(classes) + 1)
    areas: list[Counts] = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for of_decided, of_all in pool.map(count, scored):
            decided += of_decided
            resolved += of_all
            if bootstrap:
                areas.append(class_areas(of_all.counts))
    stacked = np.stack(areas) if areas else None
    return MaskScores(
        tuple(classes), decided, resolved, len(scored), missing,
        areas=stacked, interval=None if stacked is None else miou_interval(stacked, bootstrap),
    )  # fmt: skip


def read_mask(path: Path | str) -> NDArray[np.uint8]:
    """Read an indexed or 8-bit greyscale PNG as mask values, (H, W).

    Raises:
        ValueError: if it is of another mode: colours are not class numbers.
    """
    with Image.open(path) as image:
        if image.mode not in ("P", "L"):
            raise ValueError(f"{path} is a {image.mode} image; masks are 8-bit indexed or greyscale PNGs.")
        return np.asarray(image, dtype=np.uint8)


def _count(
    prediction: NDArray[np.uint8], true: NDArray[np.uint8], num_values: int
) -> tuple[ConfusionMatrix, ConfusionMatrix]:
    """Confusion matrices of one photo: over the decided pixels, and with unsure pixels as background."""
    decided, resolved = ConfusionMatrix(num_values), ConfusionMatrix(num_values)
    unsure = prediction == IGNORE_INDEX
    resolved.update(np.where(unsure, np.uint8(0), prediction), true)
    if unsure.any():
        decided.update(prediction, np.where(unsure, np.uint8(IGNORE_INDEX), true))
    else:
        decided += resolved
    return decided, resolved
