"""Masks that were corrected elsewhere, taken into the review of a run (`cti.data.review`)."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cti.classes import IGNORE_INDEX
from cti.data import Photo
from cti.data.images import load_mask, save_mask
from cti.data.outside_masks import OutsideMask, outside_masks
from cti.data.photo_folder import PhotoFolder, clean_path, photo_id
from cti.data.review import Entry, read_entries, write_entries
from cti.run import Run
from cti.run.stage_folder import locked
from cti.tables import some

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Imported:
    """What came into the review.

    Args:
        folder: The review.
        photos: Photos whose mask was taken.
        known: Share of their pixels about which something is known.
    """

    folder: str
    photos: int
    known: float


def import_review(run_folder: Path | str, source: Path | str, partial: bool = False) -> Imported:
    """Take corrected masks into the review of a run; all are checked before any is written.

    Args:
        run_folder: The run.
        source: What `outside_masks` reads.
        partial: Of pixels that no class was painted on nothing is known (255), and what was known of them before stays;
            otherwise they are background.

    Raises:
        ValueError: if a mask is of no photo of the run, of another size or class, or two are of one photo.
    """
    run = Run.open(run_folder)
    found = _of_photos(run, outside_masks(Path(source), run.photos.classes), Path(source))
    unsaid = IGNORE_INDEX if partial else 0
    for photo, mask in found.items():
        mask.draw(photo.size(), unsaid)
    entries, pixels, known = read_entries(run.review), 0, 0
    with locked(run.folder):
        for photo, mask in found.items():
            values = mask.draw(photo.size(), unsaid)
            path = run.review / f"{photo.id}.png"
            if partial and path.is_file():
                values = _over(load_mask(path), values, path)
            save_mask(path, values)
            entry = replace(entries.get(photo.id, Entry()), verdict="accepted", threshold=None)
            if (seen := _tags(values, run.photos.classes)) is not None:
                entry = replace(entry, tags=seen)
            entries[photo.id] = entry
            pixels, known = pixels + values.size, known + int((values != IGNORE_INDEX).sum())
        write_entries(run.review, entries)
    one = len(found) == 1
    masks, them = ("1 mask is", "it") if one else (f"{len(found)} masks are", "them")
    logger.info("%s in %s; `cti run --config %s` learns from %s.", masks, run.review, run_folder, them)
    return Imported(str(run.review), len(found), known / pixels)


def _of_photos(run: Run, masks: list[OutsideMask], source: Path) -> dict[Photo, OutsideMask]:
    """The photo that each mask is of."""
    by_id = {photo.id: photo for photo in run.photos.photos()}
    folder = PhotoFolder(run.photos.folder) if run.photos.folder else None
    found: dict[Photo, OutsideMask] = {}
    unknown = []
    for mask in masks:
        name = clean_path(mask.photo)
        photo = by_id.get(photo_id(name))
        if photo is None and folder is not None and (path := folder.find(name, str(mask.where))) is not None:
            photo = by_id.get(photo_id(path))
        if photo is None:
            unknown.append(mask.photo)
        elif photo in found:
            raise ValueError(f"{found[photo].where} and {mask.where} are both of photo {photo.id}; keep one.")
        else:
            found[photo] = mask
    if unknown:
        raise ValueError(
            f"{source} has masks of {len(unknown)} photos that are none of the run's ({some(unknown)}); take them "
            "out, or call them as the photos."
        )
    return found


def _over(before: NDArray[np.uint8], now: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    """What is known now, and where nothing is, what was known before."""
    if before.shape != now.shape:
        raise ValueError(f"{path} is of another size than its photo; remove it.")
    return np.where(now == IGNORE_INDEX, before, now)


def _tags(mask: NDArray[np.uint8], classes: tuple[str, ...]) -> tuple[str, ...] | None:
    """The classes of a photo whose every pixel is known; else None."""
    values = np.unique(mask)
    return None if IGNORE_INDEX in values else tuple(classes[value - 1] for value in values if value)
