"""What a reader hands to the rest of the package: photos, their tags, and where their masks can be had."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cti.data.depth import AS_IT_IS, Reading
from cti.data.images import MAX_PIXELS, image_size, load_image
from cti.files import write_text


class MaskSource(Protocol):
    """A mask that is read, or drawn, when it is asked for."""

    def load(self) -> NDArray[np.uint8]:
        """The mask, (H, W), in mask values of the chosen classes; 255 where unlabelled or of a class not chosen.

        Raises:
            ValueError: if the mask cannot be used; the message names the file and the remedy.
            FileNotFoundError: if it is gone.
        """
        ...


@dataclass(frozen=True)
class Photo:
    """One photo.

    Args:
        id: Unique in its data set and safe as a file name: the path without extension, `/` written as `__`.
        image: The image file.
        tags: Sorted 0-based indices into the set's classes.
        mask: Pixel labels, for scoring only.
        max_pixels: `data.max_pixels`: a larger photo is refused wherever it is loaded.
        reading: How its values become colours.
    """

    id: str
    image: Path
    tags: tuple[int, ...]
    mask: MaskSource | None = None
    max_pixels: int = MAX_PIXELS
    reading: Reading = AS_IT_IS

    def load(self, enough: tuple[int, int] | None = None) -> Image.Image:
        """The photo, upright and RGB; `enough` and errors as for `cti.data.images.load_image`."""
        return load_image(self.image, self.max_pixels, enough, reading=self.reading)

    def size(self) -> tuple[int, int]:
        """(H, W) of the photo as it is shown; only the header is read. Errors as for `cti.data.images.image_size`."""
        return image_size(self.image, self.max_pixels)


@dataclass(frozen=True)
class PhotoSet:
    """A data set as the configuration chose it.

    Args:
        classes: Foreground class names; a tag is an index into them.
        lists: `train`, `score` and `val`, whatever the lists are called in the data set; a missing one is empty.
        notes: What was left out, counted, one sentence each.
        has_masks: Whether any photo that is scored has a mask.
        dropped_tags: Tags that name no chosen class, with the number of photos that carry them.
        unlabelled: Photos about which no tag says anything; they are in no list.
        problems: What the reader found worth looking at, one sentence each.
        folder: The folder of the photos, which the names in a tags file are relative to.
    """

    classes: tuple[str, ...]
    lists: dict[str, tuple[Photo, ...]]
    notes: tuple[str, ...] = ()
    has_masks: bool = False
    dropped_tags: dict[str, int] = field(default_factory=dict)
    unlabelled: tuple[Photo, ...] = ()
    problems: tuple[str, ...] = ()
    folder: Path | None = None

    def photos(self) -> tuple[Photo, ...]:
        """Every photo once, in the order of the lists."""
        return tuple({photo.id: photo for photos in self.lists.values() for photo in photos}.values())

    def count_tags(self, name: str) -> dict[str, int]:
        """Photos of one list per class, in class order."""
        counts = Counter(tag for photo in self.lists[name] for tag in photo.tags)
        return {class_name: counts[index] for index, class_name in enumerate(self.classes)}

    def write_lists(self, folder: Path | str) -> None:
        """Write `train.txt`, `score.txt` and `val.txt`, one photo id a line: the split, to be looked at or reused."""
        for name, photos in self.lists.items():
            write_text(Path(folder) / f"{name}.txt", "".join(f"{photo.id}\n" for photo in photos))


def dropped_sentence(dropped_tags: dict[str, int]) -> str:
    """Say which tags were dropped, and how often each."""
    named = ", ".join(f"{tag} ({count})" for tag, count in dropped_tags.items())
    return f"{sum(dropped_tags.values())} tags that name none of the chosen classes were dropped: {named}."
