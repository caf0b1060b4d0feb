"""One photo as the page shows it: what the network found, the tags and threshold chosen, and pictures of both."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cti.prediction import Analysis, Prediction, Threshold
from cti.visualize import display_palette, heat, overlay

# Masks at this size follow a slider at once whatever the photo's own size; downloads have the photo's own.
PREVIEW_SIDE = 1024


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
    """One photo with its tags and threshold.

    Args:
        name: What the page calls it.
        size: (H, W) of the photo in pixels.
        prediction: Of the preview, which is at most `PREVIEW_SIDE` pixels long.
    """

    name: str
    size: tuple[int, int]
    prediction: Prediction = field(repr=False)

    @property
    def tags(self) -> tuple[str, ...]:
        """Names of the classes that are looked for."""
        return self.prediction.tags

    @property
    def threshold(self) -> Threshold:
        """What a class must exceed; `free` = the background's own map."""
        return self.prediction.threshold

    def choose(self, tags: Sequence[str] | None, threshold: Threshold | None) -> "Card":
        """The same photo with other tags and threshold (None = the network's own); the network is not run.

        Raises:
            ValueError: for an unknown tag or threshold.
        """
        return replace(self, prediction=self.prediction.analysis.predict(tags, threshold))

    def full_mask(self) -> NDArray[np.uint8]:
        """The mask at the photo's own size, (H, W) mask values."""
        height, width = self.size
        blank = Image.new("1", (width, height))  # only its size counts: the photo itself is not kept
        return replace(self.prediction.analysis, image=blank).predict(self.tags, self.threshold).mask

    def overlay(self, opacity: float) -> Image.Image:
        """The preview with its mask painted over it."""
        return overlay(self.prediction.image, self.prediction.mask, alpha=opacity)

    def mask_picture(self) -> Image.Image:
        """The mask in colours that are easy to tell apart."""
        return Image.fromarray(display_palette()[self.prediction.mask])

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
        shares = np.bincount(prediction.mask.ravel(), minlength=256) / prediction.mask.size
        order = sorted(range(len(prediction.classes)), key=lambda index: -prediction.analysis.scores[index])
        for index in order:
            name, score = prediction.classes[index], float(prediction.analysis.scores[index])
            tagged = name in prediction.tags
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
        self.classes = network.classes

    def card(self, image: Image.Image, name: str, tags: Sequence[str] | None = None) -> Card:
        """Run the network on one photo.

        Args:
            image: RGB.
            name: What the page calls it.
            tags: None = the predicted ones.
        """
        with self._lock:
            analysis = self._network.analyse(image)
        preview = image.copy()
        preview.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        analysis = replace(analysis, image=preview, source="")
        return Card(name, (image.height, image.width), analysis.predict(tags))
