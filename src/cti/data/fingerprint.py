"""One hash that says whether two runs saw the same data."""

import hashlib
import json

from cti.data.photos import PhotoSet


def fingerprint(photo_set: PhotoSet) -> str:
    """SHA-256 (hex) over classes, lists, tags and the sizes of the image files; not over where they lie.

    Editing a photo without changing its size in bytes goes unnoticed: reading every photo would cost minutes.
    """
    photos = [
        (photo.id, photo.tags, photo.image.stat().st_size if photo.image.is_file() else None)
        for photo in photo_set.photos()
    ]
    lists = {name: [photo.id for photo in members] for name, members in photo_set.lists.items()}
    return hashlib.sha256(json.dumps([photo_set.classes, lists, photos]).encode()).hexdigest()
