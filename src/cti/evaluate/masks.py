"""Scoring masks: pseudo-masks, in which pixels may be ignored (255), and segmentations, in which none is."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cti.classes import IGNORE_INDEX
from cti.data.images import load_mask
from cti.data.photos import Photo
from cti.evaluate.bootstrap import miou_interval
from cti.evaluate.confusion import ConfusionMatrix, Counts, class_areas, number, ratio
from cti.evaluate.scored_photos import check_files, with_masks
from cti.evaluate.scores import ForegroundShares, MaskScores, class_scores


@dataclass(frozen=True)
class MaskCounts:
    """What was counted of masks over a list of photos.

    Args:
        classes: The C foreground classes.
        as_background: Confusion matrix of all labelled pixels, ignored ones counted as background.
        confident: Confusion matrix of the labelled pixels that are not ignored.
        areas: (n, 3, K) `class_areas` of each photo, ignored pixels as background.
    """

    classes: tuple[str, ...]
    as_background: ConfusionMatrix
    confident: ConfusionMatrix
    areas: Counts

    def scores(self, resamples: int = 0) -> MaskScores:
        """The scores as plain values.

        Args:
            resamples: Resamples for the confidence interval; 0 = none.
        """
        interval = miou_interval(self.areas, resamples) if resamples else None
        coverage = ratio(np.array(self.confident.num_pixels), np.array(self.as_background.num_pixels))
        return MaskScores(
            num_photos=len(self.areas),
            as_background=class_scores(self.as_background, self.classes, interval),
            confident=class_scores(self.confident, self.classes),
            coverage=number(coverage),
        )


def count_masks(
    predictions: Path | str | Callable[[Photo], NDArray[np.uint8]], photos: Sequence[Photo], classes: Sequence[str]
) -> MaskCounts:
    """Count how predicted masks fit the true masks of the photos that have one.

    Args:
        predictions: Folder of `<photo id>.png`, indexed or greyscale, or a function that gives a photo's (H, W) mask;
            mask values of `classes`, 255 where a pixel is ignored.
        photos: Photos; those without a true mask are left out.
        classes: The C foreground classes.

    Raises:
        ValueError: if no photo has a true mask, the two masks differ in size, or a value does not fit `classes`.
        FileNotFoundError: if files are missing.
    """
    scored = with_masks(photos)
    if callable(predictions):
        read = predictions
    else:
        folder = Path(predictions)
        check_files(scored, folder, ".png")

        def read(photo: Photo) -> NDArray[np.uint8]:
            return load_mask(folder / f"{photo.id}.png")

    def count(photo: Photo) -> tuple[ConfusionMatrix, ConfusionMatrix]:
        assert photo.mask is not None
        try:
            return _count(read(photo), photo.mask.load(), len(classes) + 1)
        except ValueError as error:
            raise ValueError(f"Photo {photo.id}: {error}") from error

    as_background, confident = ConfusionMatrix(len(classes) + 1), ConfusionMatrix(len(classes) + 1)
    areas: list[Counts] = []
    with ThreadPoolExecutor(2) as pool:
        for of_all, of_confident in pool.map(count, scored):
            as_background += of_all
            confident += of_confident
            areas.append(class_areas(of_all.counts))
    return MaskCounts(tuple(classes), as_background, confident, np.stack(areas))


def foreground_shares(masks: Iterable[NDArray[np.uint8]]) -> ForegroundShares | None:
    """How many normal photos, and how many of their pixels, are called foreground; None without photos.

    Args:
        masks: The (H, W) masks predicted for photos that show none of the classes; 255 is no foreground.
    """
    photos = with_any = pixels = foreground = 0
    for mask in masks:
        count = int(((mask > 0) & (mask != IGNORE_INDEX)).sum())
        photos, pixels = photos + 1, pixels + mask.size
        with_any, foreground = with_any + (count > 0), foreground + count
    return ForegroundShares(photos, with_any / photos, foreground / pixels) if photos else None


def _count(
    prediction: NDArray[np.uint8], true: NDArray[np.uint8], num_values: int
) -> tuple[ConfusionMatrix, ConfusionMatrix]:
    """Confusion matrices of one photo: with ignored pixels as background, and without them."""
    as_background, confident = ConfusionMatrix(num_values), ConfusionMatrix(num_values)
    ignored = prediction == IGNORE_INDEX
    as_background.update(np.where(ignored, np.uint8(0), prediction), true)
    if ignored.any():
        confident.update(prediction, np.where(ignored, np.uint8(IGNORE_INDEX), true))
    else:
        confident += as_background
    return as_background, confident
