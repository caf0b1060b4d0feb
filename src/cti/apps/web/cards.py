"""One photo as the page shows it: what the network found, the tags and threshold chosen, and pictures of both."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from html import escape
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cti.predict.prediction import Analysis, Prediction, Threshold, class_indices
from cti.visualize import display_palette, heat, overlay

# The network and the eye see a photo at this size at most: attention's cost grows with the square of the pixels, and
# masks of this size follow a slider at once. Downloads have the photo's own size.
PREVIEW_SIDE = 1024
PAINTED = "corrected"
Layers = Mapping[str, Callable[[], NDArray[np.uint8]]]


class Network(Protocol):
    """What the page needs of a `cti.Predictor`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The C foreground classes."""
        ...

    def analyse(self, image: Image.Image) -> Analysis:
        """Run the network on one photo."""
        ...


@dataclass(frozen=True)
class Card:
    """One photo with its tags and threshold; pictures are made when they are asked for.

    Args:
        name: What the page calls it.
        size: (H, W) of the photo in pixels.
        analysis: What the network found in the preview, which is at most `PREVIEW_SIDE` pixels long.
        tags: Names of the classes that are looked for, in the order of the classes.
        threshold: What a class must exceed; `free` = the background's own map.
        layers: Masks (H, W) that there are already, by name.
        layer: Which of them is shown; empty = what the network says under these tags and this threshold.
    """

    name: str
    size: tuple[int, int]
    analysis: Analysis = field(repr=False)
    tags: tuple[str, ...]
    threshold: Threshold
    layers: Layers = field(default_factory=dict, repr=False)
    layer: str = ""

    @property
    def prediction(self) -> Prediction:
        """CAMs and mask of the preview."""
        return _predict(self.analysis, self.tags, self.threshold)

    def choose(self, tags: Sequence[str] | None, threshold: Threshold | None) -> "Card":
        """The network's mask under other tags and threshold (None = the network's own); the network is not run.

        Raises:
            ValueError: for an unknown tag or threshold.
        """
        analysis = self.analysis
        indices = analysis.predicted if tags is None else class_indices(tags, analysis.classes)
        prediction = _predict(
            analysis,
            tuple(analysis.classes[index] for index in indices),
            analysis.threshold if threshold is None else threshold,
        )
        return replace(self, tags=prediction.tags, threshold=prediction.threshold, layer="")

    def show(self, layer: str) -> "Card":
        """The same photo with another of its masks; the network's if there is none of that name."""
        return replace(self, layer=layer if layer in self.layers else "")

    def painted(self, mask: NDArray[np.uint8], tags: Sequence[str]) -> "Card":
        """The same photo with a mask (H, W) that a person made, and the tags that go with it."""
        return replace(self, layers={**self.layers, PAINTED: lambda: mask}, layer=PAINTED, tags=tuple(tags))

    @property
    def mask(self) -> NDArray[np.uint8]:
        """The mask that is shown, at the size of the preview."""
        if not self.layer:
            return self.prediction.mask
        full, preview = Image.fromarray(self.layers[self.layer]()), self.analysis.image.size
        return np.asarray(full.resize(preview, Image.Resampling.NEAREST))

    def full_mask(self) -> NDArray[np.uint8]:
        """The mask at the photo's own size, (H, W) mask values.

        One class at a time: at the size of a large photo the maps of all classes need not fit into memory.
        """
        if self.layer:
            return self.layers[self.layer]()
        height, width = self.size
        blank = Image.new("1", (width, height))  # only its size counts: the photo itself is not kept
        indices = class_indices(self.tags, self.analysis.classes)
        analysis = replace(self.analysis.restricted(indices), image=blank)
        mask, best = np.zeros(self.size, np.uint8), np.zeros(self.size, np.float32)
        for tag in self.tags:
            alone = analysis.predict([tag], self.threshold)
            wins = (alone.mask > 0) & (alone.cams[0] > best)  # ties go to the background, then to the first class
            mask[wins], best[wins] = alone.mask[wins], alone.cams[0][wins]
        return mask

    def overlay(self, opacity: float) -> Image.Image:
        """The preview with its mask painted over it."""
        return overlay(self.analysis.image, self.mask, alpha=opacity)

    def mask_picture(self) -> Image.Image:
        """The mask in colours that are easy to tell apart."""
        return Image.fromarray(display_palette()[self.mask])

    def cam_pictures(self) -> list[tuple[Image.Image, str]]:
        """Each class activation map over the photo, with its name; the background's own last."""
        prediction = self.prediction
        pictures = [
            (heat(cam, prediction.image), tag) for cam, tag in zip(prediction.cams, prediction.tags, strict=True)
        ]
        if prediction.background_cam is not None:
            pictures.append((heat(prediction.background_cam, prediction.image), "background"))
        return pictures

    def table(self) -> str:
        """An HTML table: per class its colour, its score, whether it is a tag, and its share of the pixels."""
        prediction, rows = self.prediction, list[str]()
        shares = np.bincount(self.mask.ravel(), minlength=256) / self.mask.size
        order = sorted(range(len(prediction.classes)), key=lambda index: -prediction.analysis.scores[index])
        for index in order:
            name, score = prediction.classes[index], float(prediction.analysis.scores[index])
            tagged = name in self.tags
            red, green, blue = display_palette()[index + 1].tolist()
            swatch = f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>' if tagged else ""
            share = f"{shares[index + 1]:.1%}" if tagged else ""
            style = ' class="tagged"' if tagged else ""
            rows.append(
                f'<tr{style}><th scope="row">{swatch}{escape(name)}</th><td>{score:.2f}</td>'
                f"<td>{'yes' if tagged else ''}</td><td>{share}</td></tr>"
            )
        head = "".join(f'<th scope="col">{title}</th>' for title in ("class", "score", "tag", "pixels"))
        return f'<table class="scores"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


class Desk:
    """Makes cards. One network serves all visitors: one photo at a time."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(1)
        self._next: tuple[str, Future[Analysis]] | None = None
        self.classes = network.classes

    def card(
        self, image: Image.Image, name: str, tags: Sequence[str] | None = None, layers: Layers | None = None
    ) -> Card:
        """Run the network on one photo, unless that was done ahead.

        Args:
            image: RGB.
            name: What the page calls it.
            tags: None = the predicted ones.
            layers: Masks that there are already, the one to show first.
        """
        layers = layers or {}
        ahead = self._next if layers else None
        analysis = ahead[1].result() if ahead is not None and ahead[0] == name else self._analyse(image)
        blank = Card(name, (image.height, image.width), analysis, (), analysis.threshold, layers)
        return blank.choose(tags, None).show(next(iter(layers), ""))

    def prepare(self, name: str, read: Callable[[], Image.Image]) -> None:
        """Run the network ahead on the photo that is likely to be looked at next."""
        if self._next is None or self._next[0] != name:
            self._next = name, self._pool.submit(lambda: self._analyse(read()))

    def _analyse(self, image: Image.Image) -> Analysis:
        preview = image.copy()
        preview.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        with self._lock:
            return replace(self._network.analyse(preview), source="")


@lru_cache(maxsize=16)
def _predict(analysis: Analysis, tags: tuple[str, ...], threshold: Threshold) -> Prediction:
    """Only the pictures last looked at are kept: their maps take several times the memory of an analysis."""
    return analysis.predict(tags, threshold)
