"""The photos of a run as a review list: where the run ended, the page starts."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cti.apps.web.cards import PAINTED, Layers
from cti.apps.web.guards import Limits
from cti.apps.web.review import Order, ReviewList
from cti.data.images import load_mask
from cti.data.review import Entry, read_entries, write_entries
from cti.data.seed_file import read_seed
from cti.evaluate.labels import label_pixels
from cti.evaluate.verdict import layers, read_verdict
from cti.run import Run


class RunReview(ReviewList):
    """The photos of a run with their own tags and the masks that were made; first what the segmenter learns most from.

    What is said lies in `RUN/review/` (`cti.data.review`), where the run's next round takes it up.

    Args:
        run: The run.
        first: Id of the photo to show first; None = the first one about which nothing was said.

    Raises:
        ValueError: if the run's photos cannot be read, or `first` is none of them.
    """

    def __init__(self, run: Run, first: str | None = None) -> None:
        self.run = run
        self._photos = {photo.id: photo for photo in run.photos.photos()}
        verdict = read_verdict(run.folder)
        self._doubts = {doubt.photo: doubt for doubt in verdict.doubts} if verdict else {}
        order = dict.fromkeys([*(verdict.teaching if verdict else ()), *self._doubts, *self._photos])
        super().__init__({name: self._photos[name].image for name in order if name in self._photos}, run.review)
        if first is not None:
            self._check(first)
        self.first = first

    def in_order(self, order: Order) -> list[str]:
        """Ids of all photos. What nothing is known about, such as photos held out where gain counts, comes last."""
        if order == "doubt":
            return list(dict.fromkeys([*(name for name in self._doubts if name in self._photos), *self._photos]))
        return super().in_order(order)

    def file_name(self, name: str) -> str:
        """The photo's id: files of several folders may share a name."""
        self._check(name)
        return name

    def read(self, name: str, limits: Limits) -> Image.Image:
        """Read a photo of the run, of any size that the run takes."""
        self._check(name)
        return self._photos[name].load()

    def tags(self, name: str) -> tuple[str, ...]:
        """The tags as corrected, else as the data have them."""
        corrected = self[name].tags
        return (
            tuple(self.run.photos.classes[tag] for tag in self._photos[name].tags) if corrected is None else corrected
        )

    def layers(self, name: str) -> Layers:
        """The mask as reviewed, the result, pseudo-mask, segmentation and seed, as far as there are any."""
        self._check(name)
        photo = self._photos[name]
        paths: dict[str, Path] = {PAINTED: self.out / f"{name}.png"} | layers(self.run, photo)
        masks: Layers = {layer: partial(load_mask, path) for layer, path in paths.items() if path.is_file()}
        seed = self.run.seed(photo)
        return (
            {**masks, "seed": partial(seed_mask, seed, self.run.config.evaluate.threshold)} if seed.is_file() else masks
        )

    def remarks(self, name: str) -> str:
        """Why the photo is to be doubted."""
        doubt = self._doubts.get(name)
        return " ".join(reason.text for reason in doubt.reasons) if doubt else ""

    def _read(self) -> dict[str, Entry]:
        return read_entries(self.out)

    def _write(self, entries: dict[str, Entry]) -> None:
        write_entries(self.out, entries)


def seed_mask(path: Path, threshold: float) -> NDArray[np.uint8]:
    """A seed as a mask (H, W), at the fixed threshold."""
    seed = read_seed(path)
    return label_pixels(seed.cams(), seed.class_indices, threshold)
