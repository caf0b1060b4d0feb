"""What stages ask of the files and classes that an earlier stage has left."""

from collections.abc import Sequence
from pathlib import Path

from cti.data import Photo


def split_by_file(photos: Sequence[Photo], paths: Sequence[Path]) -> tuple[list[Photo], list[Photo]]:
    """The photos whose file is there, and the others.

    Args:
        photos: Photos.
        paths: For each of them the file that is looked for.
    """
    there = [photo for photo, path in zip(photos, paths, strict=True) if path.is_file()]
    return there, [photo for photo, path in zip(photos, paths, strict=True) if not path.is_file()]


def check_classes_agree(theirs: Sequence[str], ours: Sequence[str], what: str) -> None:
    """Check that something was made for the class list at hand.

    Raises:
        ValueError: if it was not; both lists are shown.
    """
    if tuple(theirs) != tuple(ours):
        raise ValueError(
            f"{what} knows the classes [{', '.join(theirs)}], but the data have [{', '.join(ours)}]; "
            "use the same data.classes in the same order."
        )
