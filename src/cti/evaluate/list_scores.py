"""Scoring everything that a run has made for one list of photos."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cti.data.images import load_mask
from cti.data.photos import Photo
from cti.data.seed_file import read_seed
from cti.evaluate.labels import label_pixels
from cti.evaluate.masks import count_masks, foreground_shares
from cti.evaluate.scores import (
    MASKS,
    PSEUDO_MASKS,
    ForegroundShares,
    ListScores,
    MaskScores,
    SeedScores,
    segmentation_name,
)
from cti.evaluate.seeds import count_seeds


@dataclass(frozen=True)
class ResultFolders:
    """Where a run's results are; None or absent where a stage has not finished.

    Args:
        seeds: Folder of `<photo id>.npz`.
        predicted_seeds: The same for seeds of predicted instead of given tags.
        pseudo_masks: Folder of `<photo id>.png`.
        steps: Refinement steps so far -> folder of the masks after them.
        segment: Variant of the segmenter's predictions -> their folder.
        masks: Folder of `<photo id>.png`, the masks that the segmenter has made.
    """

    seeds: Path | None = None
    predicted_seeds: Path | None = None
    pseudo_masks: Path | None = None
    steps: dict[str, Path] = field(default_factory=dict)
    segment: dict[str, Path] = field(default_factory=dict)
    masks: Path | None = None


def score_list(
    folders: ResultFolders,
    photos: Sequence[Photo],
    classes: Sequence[str],
    kinds: Sequence[str],
    *,
    threshold: float,
    bootstrap: int = 0,
) -> ListScores:
    """Score the results that are there for all photos of a list.

    Args:
        folders: Where they are.
        photos: The list. Those with a true mask are scored; those without a tag say what is seen where nothing is.
        classes: The C foreground classes.
        kinds: Kinds of maps in the seed files to be scored, the one that later stages use first.
        threshold: Fixed background score of the seeds.
        bootstrap: Resamples for confidence intervals; 0 = none.

    Raises:
        ValueError: if a result does not fit its photo's mask.
    """
    masked = [photo for photo in photos if photo.mask is not None]

    def seed_scores(folder: Path | None) -> dict[str, SeedScores]:
        if folder is None or not covers(folder, masked, ".npz"):
            return {}
        counts = (
            count_seeds(folder, masked, classes, threshold, kind=kind, keep_areas=bootstrap > 0) for kind in kinds
        )
        return {count.kind: count.scores(bootstrap) for count in counts}

    def mask_scores(folders: dict[str, Path]) -> dict[str, MaskScores]:
        return {
            name: count_masks(folder, masked, classes).scores(bootstrap)
            for name, folder in folders.items()
            if covers(folder, masked, ".png")
        }

    single = {PSEUDO_MASKS: folders.pseudo_masks, MASKS: folders.masks}
    masks = mask_scores({name: folder for name, folder in single.items() if folder is not None})
    return ListScores(
        seeds=seed_scores(folders.seeds),
        seeds_predicted_tags=seed_scores(folders.predicted_seeds),
        pseudo_masks=masks.get(PSEUDO_MASKS),
        steps=mask_scores(folders.steps),
        segment=mask_scores(folders.segment),
        masks=masks.get(MASKS),
        normal=normal_shares(folders, [photo for photo in photos if not photo.tags], threshold),
    )


def normal_shares(folders: ResultFolders, photos: Sequence[Photo], threshold: float) -> dict[str, ForegroundShares]:
    """How much each result calls foreground on normal photos; no mask is needed.

    Args:
        folders: Where the results are.
        photos: Photos that show none of the classes.
        threshold: Fixed background score of the seeds.
    """
    seeds = {"seed": folders.seeds, "seed, predicted tags": folders.predicted_seeds}
    masks = {PSEUDO_MASKS: folders.pseudo_masks}
    masks |= {segmentation_name(variant): folder for variant, folder in folders.segment.items()}
    shares = {
        name: foreground_shares(_seed_masks(folder, photos, threshold))
        for name, folder in seeds.items()
        if folder is not None and covers(folder, photos, ".npz")
    }
    shares |= {
        name: foreground_shares(load_mask(folder / f"{photo.id}.png") for photo in photos)
        for name, folder in masks.items()
        if folder is not None and covers(folder, photos, ".png")
    }
    return {name: share for name, share in shares.items() if share is not None}


def covers(folder: Path, photos: Sequence[Photo], suffix: str) -> bool:
    """Whether there are photos, and the folder has the file of each."""
    return bool(photos) and all((folder / f"{photo.id}{suffix}").is_file() for photo in photos)


def _seed_masks(folder: Path, photos: Sequence[Photo], threshold: float) -> Iterator[NDArray[np.uint8]]:
    for photo in photos:
        seed = read_seed(folder / f"{photo.id}.npz")
        yield label_pixels(seed.cams(), seed.class_indices, threshold)
