"""What another round of the segmenter's training has brought, where that can be known.

Its predictions of before lie in segment/before/ (`cti.run`), so both are compared on the same photos. They see no tags
and no review; what is in masks/ agrees with the review in any case.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cti.data import Photo, load_mask
from cti.data.check_report import FEW
from cti.data.mask_records import read_records
from cti.evaluate.masks import count_masks
from cti.evaluate.segment_tags import score_known
from cti.run import Run


@dataclass(frozen=True)
class Gain:
    """One measure before and after; fractions.

    Args:
        what: The measure, and what it was taken on.
        photos: Photos it was taken on.
        before: Its value before the last round.
        after: Its value now.
    """

    what: str
    photos: int
    before: float
    after: float

    def __str__(self) -> str:
        change = 100 * (self.after - self.before)
        photos = f"{self.photos} {'photo' if self.photos == 1 else 'photos'}"
        photos += ", too few to rely on" if self.photos < FEW else ""
        return f"{self.what} ({photos}) {100 * self.before:.1f} -> {100 * self.after:.1f} % ({change:+.1f})"


@dataclass(frozen=True)
class _Reviewed:
    """A reviewed mask in the place of a true one."""

    path: Path

    def load(self) -> NDArray[np.uint8]:
        return load_mask(self.path)


def gains(run: Run) -> tuple[Gain, ...]:
    """Compare the segmenter with that of the round before; empty if there was none."""
    if not run.predictions(before=True).is_dir() or not run.finished("segment"):
        return ()
    trained = {photo.id for photo in run.photos.lists["train"]}
    held_out = [photo for photo in run.photos.photos() if photo.id not in trained]
    reviewed = [
        replace(photo, mask=_Reviewed(path))
        for photo in run.photos.photos()
        if (path := run.review / f"{photo.id}.png").is_file()
    ]
    unseen = [photo for photo in reviewed if photo.id not in trained]
    seen = [photo for photo in reviewed if photo.id in trained]
    found = [
        *_masks(run, "mIoU on reviewed pixels of photos held out", unseen),
        *_masks(run, "mIoU on reviewed pixels learned from", seen),
        *_masks(run, "mIoU on true masks of photos held out", [photo for photo in held_out if photo.mask is not None]),
        *_tags(run, held_out),
    ]
    return tuple(found)


def _masks(run: Run, what: str, photos: Sequence[Photo]) -> Iterator[Gain]:
    before, now = run.predictions(before=True), run.predictions()
    both = [photo for photo in photos if all((folder / f"{photo.id}.png").is_file() for folder in (before, now))]
    if both:
        old, new = (count_masks(folder, both, run.photos.classes).as_background.miou for folder in (before, now))
        if not np.isnan([old, new]).any():
            yield Gain(f"segmenter's {what}", len(both), old, new)


def _tags(run: Run, photos: Sequence[Photo]) -> Iterator[Gain]:
    before, now = read_records(run.predictions(before=True)), read_records(run.stage_folder("masks"))
    both = [photo for photo in photos if photo.id in before and photo.id in now]
    old, new = (score_known(known, both, run.photos.classes) for known in (before, now))
    if old is None or new is None:
        return
    pairs = {
        "AP": (old.mean_average_precision, new.mean_average_precision),
        "AUROC": (old.mean_auroc, new.mean_auroc),
    }
    for name, (then, after) in pairs.items():
        if then is not None and after is not None:
            yield Gain(f"segmenter's tag {name} on photos held out", len(both), then, after)
