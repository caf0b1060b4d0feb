"""What is known of the photos that `cti label` has labelled, kept so that a call that was killed goes on."""

import errno
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from cti.data.mask_records import add_record, is_whole, read_records, write_records
from cti.predict.labeller import OVERLAYS, Labelled, Photo
from cti.predict.places import is_same


class Books(Protocol):
    """One writer keeps them, and keeps others out (`cti.data.mask_records.locked`)."""

    def done(self) -> set[str]:
        """Ids of the photos whose masks are there, whole, and of these very photos and tags."""
        ...

    def add(self, name: str, labelled: Labelled) -> None:
        """Take a photo in."""
        ...

    def flush(self) -> None:
        """Write down what was taken in."""
        ...

    def finish(self, unmade: Collection[str]) -> int:
        """Close the books: photos `unmade` are taken out of them; returns how many are marked `cannot_tell`."""
        ...


class FolderBooks:
    """`photos.jsonl`, which has a line as soon as the files of a photo are there, and at the end `photos.csv`.

    Args:
        folder: Where masks and pictures are.
        photos: All that are to be labelled, in the order of the books.
        classes: The C class names.
    """

    def __init__(self, folder: Path, photos: Mapping[str, Photo], classes: tuple[str, ...]) -> None:
        self._folder, self._photos, self._classes = folder, photos, classes
        self._records = {name: record for name, record in read_records(folder).items() if name in photos}

    def done(self) -> set[str]:
        """See `Books`."""
        return {name for name, photo in self._photos.items() if self._holds(photo)}

    def _holds(self, photo: Photo) -> bool:
        record = self._records.get(photo.name)
        return (
            record is not None
            and record.given == photo.given
            and is_same(photo.place, record.photo, record.digest)
            and is_whole(self._folder, photo.name, record)
        )

    def add(self, name: str, labelled: Labelled) -> None:
        """See `Books`."""
        add_record(self._folder, name, labelled.record)
        self._records[name] = labelled.record

    def flush(self) -> None:
        """Nothing waits."""

    def finish(self, unmade: Collection[str]) -> int:
        """See `Books`; the masks of photos `unmade`, from before, are removed."""
        for name in unmade:
            self._records.pop(name, None)
            for path in (self._folder / f"{name}.png", self._folder / OVERLAYS / f"{name}.png"):
                _remove(path)
        records = {name: self._records[name] for name in self._photos if name in self._records}
        write_records(self._folder, records, self._classes)  # in order: batches come in another
        return sum(record.cannot_tell is True for record in records.values())


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
