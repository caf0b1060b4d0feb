"""What of the data a result was made from, photo by photo, so that a later difference can be named and counted."""

import hashlib
import json
from dataclasses import dataclass, field, fields

from cti.data.check_report import CheckReport
from cti.data.photos import PhotoSet
from cti.files import file_digest


@dataclass(frozen=True)
class DataRecord:
    """The photos of a data set: lists, tags and the content of the files; not where they lie.

    Args:
        lists: List name -> photo ids, sorted.
        photos: Photo id -> start of the SHA-256 (hex) of its file (empty: no file), and its tags.
        reviews: Photo id -> mark of what a person said about its mask (`review_marks`).
    """

    lists: dict[str, tuple[str, ...]]
    photos: dict[str, tuple[str, tuple[str, ...]]]
    reviews: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over all of it."""
        return hashlib.sha256(json.dumps([self.lists, self.photos, self.reviews], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class PhotoChange:
    """Which photos differ between two records; ids, sorted.

    Args:
        added: Photos that are new.
        removed: Photos that are gone.
        replaced: Photos whose file has another content.
        retagged: Photos whose tags are others.
        moved: Photos that are in another list.
        reviewed: Photos about whose masks a person said something else.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    retagged: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    reviewed: tuple[str, ...] = ()

    @property
    def remade(self) -> frozenset[str]:
        """The photos of which everything is to be made (again)."""
        return frozenset((*self.added, *self.replaced, *self.retagged, *self.moved, *self.reviewed))

    def __bool__(self) -> bool:
        return any(getattr(self, item.name) for item in fields(self))

    def __str__(self) -> str:
        counts = {"added": self.added, "removed": self.removed, "replaced": self.replaced}
        parts = [f"{len(photos)} {what}" for what, photos in counts.items() if photos]
        if parts:
            number, what = parts[0].split()
            parts[0] = f"{number} {'photo' if number == '1' else 'photos'} {what}"
        if self.retagged:
            parts.append("1 tag changed" if len(self.retagged) == 1 else f"the tags of {len(self.retagged)} changed")
        if self.moved:
            parts.append(f"{len(self.moved)} in another list")
        if self.reviewed:
            parts.append("1 mask reviewed" if len(self.reviewed) == 1 else f"{len(self.reviewed)} masks reviewed")
        return ", ".join(parts)


def record_photos(photo_set: PhotoSet, report: CheckReport | None = None) -> DataRecord:
    """Record what of the data a result is made from.

    Args:
        photo_set: The data set.
        report: Its check, which has the photos' digests; without it every photo is read.
    """
    known = report.digests if report else {}
    photos = {}
    for photo in photo_set.photos():
        digest = known.get(photo.id) or (file_digest(photo.image) if photo.image.is_file() else "")
        photos[photo.id] = (digest[:16], tuple(photo_set.classes[tag] for tag in photo.tags))
    lists = {name: tuple(sorted(photo.id for photo in members)) for name, members in photo_set.lists.items()}
    return DataRecord(lists, photos)


def compare_photos(before: DataRecord, now: DataRecord) -> PhotoChange:
    """The difference between two records."""
    both = sorted(before.photos.keys() & now.photos.keys())
    lists_before, lists_now = _lists_by_photo(before), _lists_by_photo(now)
    return PhotoChange(
        added=tuple(sorted(now.photos.keys() - before.photos.keys())),
        removed=tuple(sorted(before.photos.keys() - now.photos.keys())),
        replaced=tuple(photo for photo in both if before.photos[photo][0] != now.photos[photo][0]),
        retagged=tuple(photo for photo in both if before.photos[photo][1] != now.photos[photo][1]),
        moved=tuple(photo for photo in both if lists_before[photo] != lists_now[photo]),
        reviewed=tuple(photo for photo in both if before.reviews.get(photo) != now.reviews.get(photo)),
    )


def mask_fingerprint(photo_set: PhotoSet, report: CheckReport) -> str:
    """SHA-256 (hex) over the masks that photos are scored by; it changes when one of them does."""
    masks = [(photo.id, report.mask_digests.get(photo.id)) for photo in photo_set.photos() if photo.mask is not None]
    return hashlib.sha256(json.dumps([photo_set.classes, masks]).encode()).hexdigest()


def _lists_by_photo(record: DataRecord) -> dict[str, frozenset[str]]:
    names: dict[str, set[str]] = {photo: set() for photo in record.photos}
    for name, members in record.lists.items():
        for photo in members:
            names[photo].add(name)
    return {photo: frozenset(found) for photo, found in names.items()}
