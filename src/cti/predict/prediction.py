"""What is said about one photo: an `Analysis` is what a network found, a `Prediction` what follows from it for some
tags and a threshold. The second hardly ever needs the network, so tags and threshold can change at no cost.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cti.classes import voc_palette
from cti.data.images import save_mask
from cti.data.stretched import Stretched, bands, count_values
from cti.evaluate.labels import label_pixels
from cti.files import JsonObject, atomic_path, write_json
from cti.predict.annotations import Per, Shape, detections, mask_annotations
from cti.predict.polygons import region_polygons
from cti.visualize import legend, overlay

Threshold = float | Literal["free"]
_MOST_SHOWN, _SHOWN = 2**24, 2048  # pixels: the picture of a larger photo is reduced to about this side


@dataclass(frozen=True, eq=False, kw_only=True)
class Analysis:
    """All that a network says about one photo, before tags and threshold are chosen.

    Args:
        image: The photo, RGB, upright.
        source: Where it came from; empty for one from memory.
        classes: The C foreground classes that the network knows.
        scores: (C,) probability that the class is in the photo, in [0, 1].
        predicted: 0-based indices of the classes that the network believes to be there.
        maps: (C, h, w) how strongly each class is at each place, at the network's resolution.
        background: (h, w) the same for the background, or None for a network without a background of its own.
        kind: `cti` = the maps are evidence from attention, which becomes CAMs by up-sampling and `max_norm`;
            `segmenter` = they are probabilities.
        threshold: The threshold to use when none is asked for.
        refine: Gives background and maps, (1 + n, H, W) or on the maps' grid, of n classes by index, once it is decided
            among them (by a dense CRF, or by the network); None = the maps are used as they are.
        certainty: (C,) how sure a segmenter is that the class is there, or is not: `cti.segment.predict.certainties`.
        cannot_tell: Whether its least sure class is less sure than in nearly all photos held out
            (`cti.predict.held_out.cannot_tell`); None where that is not known.
    """

    image: Image.Image = field(repr=False)
    source: str
    classes: tuple[str, ...]
    scores: NDArray[np.float32] = field(repr=False)
    predicted: tuple[int, ...]
    maps: NDArray[np.float32] = field(repr=False)
    background: NDArray[np.float32] | None = field(repr=False)
    kind: Literal["cti", "segmenter"]
    threshold: Threshold
    refine: Callable[[tuple[int, ...]], NDArray[np.float32]] | None = field(default=None, repr=False)
    certainty: NDArray[np.float32] | None = field(default=None, repr=False)
    cannot_tell: bool | None = None

    def predict(self, tags: Sequence[str] | None = None, threshold: Threshold | None = None) -> "Prediction":
        """Label the photo's pixels; the network is not run, unless it shares pixels out among the tags.

        Args:
            tags: Names of the classes that are in the photo; None = the predicted ones.
            threshold: Background score in [0, 1] that a class must exceed; `free` = the background's own map instead
                of one number; None = `self.threshold`.

        Raises:
            ValueError: for an unknown tag, a threshold outside [0, 1], or `free` without a background of its own.
        """
        indices = self.predicted if tags is None else class_indices(tags, self.classes)
        threshold = self.threshold if threshold is None else threshold
        maps, own = self._decided(indices)
        cams = self._at_pixels(maps)
        background = None if own is None else self._at_pixels(own[None])
        mask = np.empty(cams.size, np.uint8)
        for rows in bands(cams.size, 1 + len(maps)):
            score = _background_score(threshold, None if background is None else background.rows(rows)[0].numpy())
            mask[rows] = label_pixels(cams.rows(rows), indices, score)
        return Prediction(
            analysis=self, class_indices=indices, planes=cams, background=background, mask=mask, threshold=threshold
        )

    def restricted(self, indices: tuple[int, ...]) -> "Analysis":
        """The same, decided among the background and these classes, where that matters; others get 0."""
        if self.refine is None:
            return self
        chosen, background = self._decided(indices)
        maps = np.zeros((len(self.classes), *chosen.shape[1:]), np.float32)
        maps[list(indices)] = chosen
        return replace(self, maps=maps, background=background, refine=None)

    def _decided(self, indices: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Maps (n, h, w) of some classes, and the background's, decided among them where that matters."""
        if self.refine is None:
            every = len(indices) == len(self.classes)  # the maps of a large photo are not copied without need
            return self.maps if every else self.maps[list(indices)], self.background
        refined = self.refine(indices)
        return refined[1:], refined[0]

    def _at_pixels(self, maps: NDArray[np.float32]) -> Stretched:
        """Maps (n, h, w) as (n, H, W) in [0, 1]."""
        return Stretched(torch.from_numpy(maps), (self.image.height, self.image.width), norm=self.kind == "cti")


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Prediction:
    """One photo, labelled.

    Args:
        analysis: What the network found; `with_tags` and `with_threshold` start from it again.
        class_indices: 0-based indices of the n classes that were looked for.
        planes: What `cams` are made from, so that a large photo's need not be in memory as a whole.
        background: What `background_cam` is made from; None for a network without a background of its own.
        mask: (H, W) uint8 mask values: 0 = background, class index + 1.
        threshold: What a class had to exceed: one number, or `free` = the background's own map.
    """

    analysis: Analysis = field(repr=False)
    class_indices: tuple[int, ...]
    planes: Stretched = field(repr=False)
    background: Stretched | None = field(repr=False)
    mask: NDArray[np.uint8] = field(repr=False)
    threshold: Threshold

    @property
    def cams(self) -> NDArray[np.float32]:
        """(n, H, W) in [0, 1], one per class of `class_indices`: activation maps, or a segmenter's probabilities."""
        return self.planes.whole.numpy()

    @property
    def background_cam(self) -> NDArray[np.float32] | None:
        """(H, W) in [0, 1], the background's own map; None for a network without one."""
        return None if self.background is None else self.background.whole[0].numpy()

    @property
    def image(self) -> Image.Image:
        """The photo, RGB."""
        return self.analysis.image

    @property
    def source(self) -> str:
        """Where the photo came from; empty for one from memory."""
        return self.analysis.source

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.image.height, self.image.width

    @property
    def classes(self) -> tuple[str, ...]:
        """The C classes that the network knows; mask value = index + 1."""
        return self.analysis.classes

    @property
    def tags(self) -> tuple[str, ...]:
        """Names of the classes that were looked for, one per CAM."""
        return tuple(self.classes[index] for index in self.class_indices)

    @property
    def scores(self) -> dict[str, float]:
        """Probability of every class to be in the photo, by name."""
        return dict(zip(self.classes, self.analysis.scores.tolist(), strict=True))

    @property
    def certainty(self) -> dict[str, float]:
        """How sure a segmenter is of every class being in the photo or not, by name; empty for CTI."""
        sure = self.analysis.certainty
        return {} if sure is None else dict(zip(self.classes, sure.tolist(), strict=True))

    @property
    def palette(self) -> NDArray[np.uint8]:
        """The fixed palette of mask files, (256, 3)."""
        return voc_palette()

    def with_threshold(self, threshold: Threshold | None) -> "Prediction":
        """The same photo and tags at another threshold; the network is not run."""
        return self.analysis.predict(self.tags, threshold)

    def with_tags(self, tags: Sequence[str] | None) -> "Prediction":
        """The same photo and threshold with other tags (None = the predicted ones); the network is not run."""
        return self.analysis.predict(tags, self.threshold)

    def overlay(self, alpha: float = 0.5) -> Image.Image:
        """The photo with its mask painted over it, in colours that are easy to tell apart.

        Of a photo that no screen can show, more than `_MOST_SHOWN` pixels, it is a smaller picture.
        """
        if self.mask.size <= _MOST_SHOWN:
            return overlay(self.image, self.mask, alpha=alpha)
        small = self.image.reduce(math.ceil(max(self.size) / _SHOWN))
        mask = np.asarray(Image.fromarray(self.mask).resize(small.size, Image.Resampling.NEAREST))
        return overlay(small, mask, alpha=alpha)

    def save(self, folder: Path | str, name: str = "") -> dict[str, Path]:
        """Write the prediction, each file atomically.

        Args:
            folder: Made if absent.
            name: Of the files; empty = the photo's own, or `image` for one from memory.

        Returns:
            `mask` -> NAME.png (indexed, fixed palette), `overlay` -> NAME_overlay.png, `scores` -> NAME.json,
            `cams` -> NAME.npz (`cams` and `background_cam` as float16, `class_indices`, `classes`).
        """
        stem = name or Path(self.source).stem or "image"
        files = {
            "mask": Path(folder) / f"{stem}.png",
            "overlay": Path(folder) / f"{stem}_overlay.png",
            "scores": Path(folder) / f"{stem}.json",
            "cams": Path(folder) / f"{stem}.npz",
        }
        save_mask(files["mask"], self.mask)
        with atomic_path(files["overlay"]) as temporary:
            self.overlay().save(temporary)
        write_json(files["scores"], self.to_dict())
        arrays: dict[str, NDArray[Any]] = {
            "cams": self.cams.astype(np.float16),
            "class_indices": np.array(self.class_indices, dtype=np.int64),
        }
        if self.background_cam is not None:
            arrays["background_cam"] = self.background_cam.astype(np.float16)
        with atomic_path(files["cams"]) as temporary, temporary.open("wb") as handle:
            np.savez_compressed(handle, allow_pickle=False, classes=np.array(self.classes), **arrays)
        return files

    def pixels(self) -> dict[str, int]:
        """How many pixels each class that is in the mask has, and the background."""
        counts = count_values(self.mask)
        return {("background", *self.classes)[value]: int(counts[value]) for value in np.flatnonzero(counts)}

    def shares(self) -> dict[str, float]:
        """Share of the photo's pixels, in (0, 1], of each class that is in the mask, and of the background."""
        return {name: count / self.mask.size for name, count in self.pixels().items()}

    @property
    def confidence(self) -> float:
        """How clearly the pixels were decided, in [0, 1]; low values say which photos to look at first.

        For a segmenter: the mean over the pixels of the probability that the network gives to the label the pixel got,
        so a network that would rather have seen another class than the tags allow says so. For CTI: the mean over the
        pixels of the distance between the label's value (a CAM, or the background score) and the next best one. It is
        no probability that the mask is right, and the two kinds of network have different scales. Without any class to
        look for it is that of the background alone.
        """
        return sum(
            self._confidence(rows) * ((rows.stop - rows.start) / self.mask.shape[0])
            for rows in bands(self.size, 2 * (1 + len(self.class_indices)))
        )

    def _confidence(self, rows: slice) -> float:
        """The mean over some rows."""
        cams, mask = self.planes.rows(rows).numpy(), self.mask[rows]
        own = None if self.background is None else self.background.rows(rows)[0].numpy()
        threshold = _background_score(self.threshold, own)
        segmenter = self.analysis.kind == "segmenter"
        background = own if segmenter and own is not None else threshold
        planes = np.concatenate([np.broadcast_to(np.float32(background), (1, *mask.shape)), cams])
        values = np.array([0, *(index + 1 for index in self.class_indices)])
        label = np.take_along_axis(planes, np.searchsorted(values, mask)[None], axis=0)[0]
        if segmenter:
            return float(label.mean())
        others = np.where(values[:, None, None] == mask, -np.inf, planes).max(axis=0)
        return float((label - others).mean()) if len(values) > 1 else float(label.mean())

    def to_dict(self) -> JsonObject:
        """What was found, as JSON can say it: source, size, classes, scores, tags, threshold, pixels, certainty."""
        return {
            "source": self.source,
            "size": list(self.size),
            "classes": list(self.classes),
            "scores": self.scores,
            "tags": list(self.tags),
            "threshold": self.threshold,
            "pixels": self.pixels(),
            "confidence": self.confidence,
            "certainty": self.certainty,
            "cannot_tell": self.analysis.cannot_tell,
        }

    def to_polygons(self) -> dict[str, list[NDArray[np.float64]]]:
        """Class -> polygons (n, 2), corners x, y in pixels, of the classes in the mask; see `region_polygons`."""
        return {
            self.classes[value - 1]: region_polygons(self.mask == value)
            for value in np.unique(self.mask).tolist()
            if value
        }

    def to_coco(self, shape: Shape = "polygons", per: Per = "class") -> JsonObject:
        """A whole COCO file of this one photo: `images`, `annotations`, `categories` (id = mask value).

        Args:
            shape: `polygons`, or `rle` = run-length codes.
            per: One annotation per `class`, or per connected `component`.

        Raises:
            ModuleNotFoundError: without pycocotools.
        """
        height, width = self.size
        return {
            "images": [{"id": 1, "file_name": Path(self.source).name, "height": height, "width": width}],
            "annotations": [
                {"id": number, "image_id": 1} | annotation
                for number, annotation in enumerate(mask_annotations(self.mask, shape, per), 1)
            ],
            "categories": [{"id": value, "name": name} for value, name in enumerate(self.classes, 1)],
        }

    def to_supervision(self) -> Any:
        """The connected parts as `supervision.Detections` with masks, boxes, and the class names in `data`.

        Raises:
            ModuleNotFoundError: without supervision.
        """
        found = detections(self.mask)
        ids = found.class_id if found.class_id is not None else []
        found.data["class_name"] = np.array([self.classes[index] for index in ids], dtype=str)
        return found

    def picture(self) -> Image.Image:
        """The overlay, and below it which colour is which class."""
        picture = self.overlay()
        values = [value for value in np.unique(self.mask).tolist() if value]
        if not values:
            return picture
        strip = legend(self.classes, values, max(picture.width, 160))
        page = Image.new("RGB", (max(picture.width, strip.width), picture.height + strip.height), "white")
        page.paste(picture, (0, 0))
        page.paste(strip, (0, picture.height))
        return page

    def show(self) -> None:
        """Open `picture()` in the machine's viewer of images."""
        self.picture().show()

    def __repr__(self) -> str:
        height, width = self.size
        name = Path(self.source).name or "photo from memory"
        parts = ", ".join(f"{label} {share:.0%}" for label, share in self.shares().items())
        return f"Prediction({name}, {width} x {height}: {parts})"

    def _repr_png_(self) -> bytes:
        """What a notebook shows: `picture()`."""
        buffer = BytesIO()
        self.picture().save(buffer, format="PNG")
        return buffer.getvalue()


def class_indices(tags: Sequence[str], classes: tuple[str, ...]) -> tuple[int, ...]:
    """Sorted 0-based indices of tags, each once.

    Raises:
        ValueError: for a name that is no class; the message lists the known ones.
    """
    if isinstance(tags, str):
        raise ValueError(f"tags is the text '{tags}'; give a list of class names, such as ['{tags}'].")
    strangers = [tag for tag in tags if tag not in classes]
    if strangers:
        raise ValueError(f"Unknown tag {', '.join(map(repr, strangers))}; this network knows {', '.join(classes)}.")
    return tuple(sorted({classes.index(tag) for tag in tags}))


def _background_score(threshold: Threshold, background: NDArray[np.float32] | None) -> float | NDArray[np.float32]:
    if threshold == "free":
        if background is None:
            raise ValueError("This network has no background of its own; give a threshold from 0 to 1 instead of free.")
        return background
    if isinstance(threshold, str) or not 0 <= threshold <= 1:
        raise ValueError(f"The threshold is {threshold!r}; give a number from 0 to 1, or 'free'.")
    return float(threshold)
