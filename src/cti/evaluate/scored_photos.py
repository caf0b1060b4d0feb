"""Which photos can be scored: those with a true mask and a result."""

from collections.abc import Sequence
from pathlib import Path

from cti.data.photos import Photo


def with_masks(photos: Sequence[Photo]) -> tuple[Photo, ...]:
    """The photos that have a true mask.

    Raises:
        ValueError: if there is none.
    """
    scored = tuple(photo for photo in photos if photo.mask is not None)
    if not scored:
        raise ValueError(f"None of the {len(photos)} photos has a mask, so nothing can be scored; set data.masks.")
    return scored


def with_files(
    photos: Sequence[Photo], folder: Path, suffix: str, allow_missing: bool
) -> tuple[tuple[Photo, ...], tuple[str, ...]]:
    """The photos whose `<photo id><suffix>` lies in `folder`, and the ids of the others.

    Raises:
        FileNotFoundError: if files are missing and `allow_missing` is not set, or if all are.
    """
    missing = tuple(photo.id for photo in photos if not (folder / f"{photo.id}{suffix}").is_file())
    if missing and (not allow_missing or len(missing) == len(photos)):
        raise FileNotFoundError(
            f"{folder} lacks the {suffix} files of {len(missing)} of {len(photos)} photos ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}); make them first, or allow missing ones."
        )
    left_out = set(missing)
    return tuple(photo for photo in photos if photo.id not in left_out), missing
