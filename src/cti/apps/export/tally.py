"""Counts of what an export writes."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cti.apps.export import Exported
from cti.classes import BACKGROUND, IGNORE_INDEX


class Tally:
    """Counts masks, and classes and pixels in them.

    Args:
        classes: The C class names behind the values.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.images = 0
        self.masks: Counter[str] = Counter()
        self.pixels = np.zeros(256, dtype=np.int64)

    def add(self, mask: NDArray[np.uint8]) -> list[str]:
        """Count a mask (H, W); returns the names of the classes in it."""
        pixels = np.bincount(mask.ravel(), minlength=256)
        names = [name for value, name in enumerate(self.classes, 1) if pixels[value]]
        self.images += 1
        self.masks.update(names)
        self.pixels += pixels
        return names

    def exported(self, out: Path | str, objects: int = 0, lost_unsure: int = 0, specks: int = 0) -> Exported:
        """What was written to `out`; the other arguments as in `Exported`."""
        counts = dict(zip((BACKGROUND, *self.classes), self.pixels.tolist(), strict=False))
        return Exported(
            out=str(out),
            images=self.images,
            objects=objects,
            masks={name: self.masks[name] for name in self.classes},
            pixels=counts | {"unsure": int(self.pixels[IGNORE_INDEX])},
            lost_unsure=lost_unsure,
            specks=specks,
        )
