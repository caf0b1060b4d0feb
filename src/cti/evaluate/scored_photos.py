"""Which photos can be scored: those with a true mask and a result."""

from collections.abc import Sequence
from pathlib import Path

from cti.data.photos import Photo
from cti.tables import some


def with_masks(photos: Sequence[Photo]) -> tuple[Photo, ...]:
    """The photos that have a true mask.

    Raises:
        ValueError: if there is none.
    """
    scored = tuple(photo for photo in photos if photo.mask is not None)
    if not scored:
        raise ValueError(f"None of the {len(photos)} photos has a mask, so nothing can be scored; set data.masks.")
    return scored


def check_files(photos: Sequence[Photo], folder: Path, suffix: str) -> None:
    """Check that the `<photo id><suffix>` of every photo lies in a folder.

    Raises:
        FileNotFoundError: if it does not.
    """
    missing = [photo.id for photo in photos if not (folder / f"{photo.id}{suffix}").is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks the {suffix} files of {len(missing)} of {len(photos)} photos ({some(missing)}); "
            "make them first."
        )
