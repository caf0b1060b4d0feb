"""The masks a segmenter learns from: where they come from, whether they are usable."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cti.classes import IGNORE_INDEX
from cti.data.images import load_mask
from cti.data.photos import Photo
from cti.tables import some

logger = logging.getLogger(__name__)

MaskOf = Callable[[Photo], NDArray[np.uint8]]
ReviewedOf = Callable[[Photo], NDArray[np.bool_] | None]
"""Says of which pixels (H, W) of a photo a person gave the label; None = of none."""


@dataclass(frozen=True)
class MaskFolder:
    """Masks `<photo id>.png` of a folder, such as a run's pseudo-masks.

    Args:
        folder: The folder.
        num_classes: C; a mask's values are 0..C and 255.
    """

    folder: Path
    num_classes: int

    def __call__(self, photo: Photo) -> NDArray[np.uint8]:
        """The mask (H, W) of a photo."""
        return load_mask(self.path(photo), self.num_classes)

    def path(self, photo: Photo) -> Path:
        """Where the mask of a photo is."""
        return self.folder / f"{photo.id}.png"

    def covered(self, photos: Sequence[Photo], allow_missing: bool = False) -> tuple[Photo, ...]:
        """The photos that have a mask here.

        Raises:
            ValueError: if the list is empty, no photo has a mask, or some lack one and `allow_missing` is not set.
        """
        if not photos:
            raise ValueError("The list of photos to train the segmenter on is empty; check data.train.")
        missing = [photo.id for photo in photos if not self.path(photo).is_file()]
        named = some(missing)
        if len(missing) == len(photos):
            raise ValueError(f"{self.folder} has no mask for any of {len(photos)} photos ({named}); run `cti masks`.")
        if missing and not allow_missing:
            raise ValueError(
                f"{self.folder} lacks the masks of {len(missing)} of {len(photos)} photos ({named}); "
                "make them with `cti masks`, or leave those photos out with --allow-missing."
            )
        if missing:
            logger.warning("%d of %d photos have no mask and are left out: %s", len(missing), len(photos), named)
        lacking = set(missing)
        return tuple(photo for photo in photos if photo.id not in lacking)


def real_mask(photo: Photo) -> NDArray[np.uint8]:
    """The data set's own mask (H, W) of a photo, for the fully supervised upper bound.

    Raises:
        ValueError: if it has none.
    """
    if photo.mask is None:
        raise ValueError(f"{photo.id} has no mask in the data set; set segment.masks to a folder of masks.")
    return photo.mask.load()


def count_pixels(photos: Sequence[Photo], mask_of: MaskOf, num_classes: int) -> NDArray[np.int64]:
    """Look at every mask once: is it of its photo's size and is there anything to learn?

    Returns:
        Labelled pixels of the background and each class, (1 + C,).

    Raises:
        ValueError: if the list is empty, a mask has another size than its photo or a value above C that is not 255,
            or no mask holds any foreground (or, which is as bad, anything else).
    """
    if not photos:
        raise ValueError("The list of photos to train the segmenter on is empty; check data.train.")
    counts = np.zeros(256, dtype=np.int64)
    for photo in photos:
        mask = mask_of(photo)
        height, width = photo.size()
        if mask.shape != (height, width):
            raise ValueError(
                f"The mask of {photo.id} is {mask.shape[1]} x {mask.shape[0]} px, but {photo.image} is "
                f"{width} x {height}; make the mask again."
            )
        counts += np.bincount(mask.ravel(), minlength=256)
    above = [value for value in range(num_classes + 1, IGNORE_INDEX) if counts[value]]
    if above:
        raise ValueError(f"The masks hold the values {above[:5]}, but with {num_classes} classes the largest is that.")
    pixels = counts[: num_classes + 1]
    if not pixels[1:].any():
        what = "only background" if pixels[0] else "no labelled pixel at all"
        raise ValueError(
            f"The {len(photos)} masks hold {what}, so there is no class to learn; look at the pseudo-masks "
            "(`cti masks --preview 20`) and lower their foreground threshold."
        )
    if not pixels[0]:
        logger.warning("No mask has a background pixel; the segmenter will call every pixel foreground.")
    absent = [index for index in range(num_classes) if not pixels[1 + index]]
    if absent:
        logger.warning("No mask holds the classes with the indices %s; they will not be learned.", absent)
    return pixels
