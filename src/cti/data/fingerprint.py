"""One hash that says whether two runs saw the same data."""

import hashlib
import json

from cti.data.check_report import CheckReport
from cti.data.photos import PhotoSet
from cti.files import file_digest


def fingerprint(photo_set: PhotoSet, report: CheckReport | None = None) -> str:
    """SHA-256 (hex) over classes, lists, tags and the content of the image files; not over where they lie.

    Args:
        photo_set: The data set.
        report: Its check, which has the photos' digests; without it every photo is read.
    """
    known = report.digests if report else {}
    photos = []
    for photo in photo_set.photos():
        digest = known.get(photo.id) or (file_digest(photo.image) if photo.image.is_file() else None)
        photos.append((photo.id, photo.tags, digest))
    lists = {name: [photo.id for photo in members] for name, members in photo_set.lists.items()}
    return hashlib.sha256(json.dumps([photo_set.classes, lists, photos]).encode()).hexdigest()


def mask_fingerprint(photo_set: PhotoSet, report: CheckReport) -> str:
    """SHA-256 (hex) over the masks that photos are scored by; it changes when one of them does."""
    masks = [(photo.id, report.mask_digests.get(photo.id)) for photo in photo_set.photos() if photo.mask is not None]
    return hashlib.sha256(json.dumps([photo_set.classes, masks]).encode()).hexdigest()
