"""Baselines: what tags alone give without looking at a photo. A seed score means something only above them."""

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from cti.classes import IGNORE_INDEX
from cti.evaluate.confusion import ConfusionMatrix, to_mask

BOX_MARGIN = 0.15  # of each side, so that the box covers 70 % of it
ALL_BACKGROUND, FIRST_TAG, CENTRED_BOX = "all background", "first tag everywhere", "first tag in a centred box"


class Baselines:
    """Confusion matrices of three predictions that need no network.

    They are: background everywhere; the photo's first tag (its lowest class index) everywhere; the first tag within a
    centred box, background around it. The box leaves out `int(0.15 * side)` pixels at each of the four sides.

    Args:
        num_foreground: Number C of foreground classes.
    """

    def __init__(self, num_foreground: int) -> None:
        self.matrices = {name: ConfusionMatrix(num_foreground + 1) for name in (ALL_BACKGROUND, FIRST_TAG, CENTRED_BOX)}

    def update(self, tags: tuple[int, ...], mask: ArrayLike | Tensor) -> None:
        """Count one photo.

        Args:
            tags: 0-based class indices of the photo; without any, all three predict background.
            mask: (H, W) true mask values; pixels of 255 are not counted.

        Raises:
            ValueError: if the mask has a value beyond the classes.
        """
        true = to_mask(mask, "mask")
        height, width = true.shape
        top, left = int(BOX_MARGIN * height), int(BOX_MARGIN * width)
        everywhere = np.bincount(true.ravel(), minlength=256)
        inside = np.bincount(true[top : height - top, left : width - left].ravel(), minlength=256)
        num_values = self.matrices[FIRST_TAG].num_classes
        unknown = np.flatnonzero(everywhere[num_values:IGNORE_INDEX]) + num_values
        if unknown.size:
            raise ValueError(
                f"The mask has the value {unknown[0]}, but {num_values - 1} classes end at {num_values - 1}."
            )
        everywhere, inside = everywhere[:num_values], inside[:num_values]
        first = min(tags) + 1 if tags else 0
        self.matrices[ALL_BACKGROUND].counts[:, 0] += everywhere
        self.matrices[FIRST_TAG].counts[:, first] += everywhere
        self.matrices[CENTRED_BOX].counts[:, first] += inside
        self.matrices[CENTRED_BOX].counts[:, 0] += everywhere - inside

    def merge(self, other: "Baselines") -> None:
        """Add the photos that `other` has counted."""
        for name, matrix in other.matrices.items():
            self.matrices[name] += matrix

    def compute(self) -> dict[str, float]:
        """Mean IoU of each baseline, a fraction, by its name."""
        return {name: matrix.miou for name, matrix in self.matrices.items()}
