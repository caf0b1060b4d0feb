"""A segmentation network behind a `Predictor`."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cti.data.stretched import count_values
from cti.files import JsonObject, read_json, write_json
from cti.method.checkpoint import CONFIG
from cti.predict.held_out import cannot_tell
from cti.predict.prediction import Analysis
from cti.segment.checkpoint import TrainedSegmenter, save_segmenter
from cti.segment.inference import Inference, inference
from cti.segment.networks import Segmenter
from cti.segment.predict import (
    Seen,
    argmax_at,
    certainties,
    leading_values,
    look_at,
    pixel_probabilities,
    working_sizes,
)


@dataclass(frozen=True)
class SegmenterAnalyser:
    """A segmentation network.

    Args:
        trained: The network and how it is used.
        tag_thresholds: Class -> score that it must exceed to be predicted; classes that are not named need none.
        held_out: How sure it is of its least sure class in each photo that was held out, to compare others with.
    """

    trained: TrainedSegmenter
    tag_thresholds: dict[str, float] = field(default_factory=dict)
    held_out: tuple[float, ...] = ()

    @property
    def network(self) -> Segmenter:
        """The network, in eval mode."""
        return self.trained.network

    @property
    def classes(self) -> tuple[str, ...]:
        """The C foreground classes."""
        return self.trained.classes

    @property
    def config(self) -> Inference:
        """Scales, mirror, windows and CRF of a prediction."""
        return inference(self.trained.config, self.trained.predict)

    def seen_as(self, size: tuple[int, int]) -> Hashable:
        """See `Analyser`."""
        return working_sizes(size, self.config)

    def analyse(self, images: Sequence[Image.Image], sources: Sequence[str]) -> list[Analysis]:
        """Class probabilities, and a score per class (`cti.segment.predict.Seen`).

        The predicted classes are those that lead somewhere (before the CRF, if there is one) and whose score exceeds
        their threshold, if there is one. At the default threshold,
        `free`, the mask is the most probable among the background and the chosen classes, which for the predicted ones
        is what the stage `segment` writes.
        """
        found = look_at(self.network, images, self.config)
        return [self._analysis(*photo) for photo in zip(images, sources, found, strict=True)]

    def _analysis(self, image: Image.Image, source: str, seen: Seen) -> Analysis:
        probabilities, crf, scores = seen.probabilities, self.config.crf != "none", seen.scores.numpy()
        sure = certainties(probabilities)
        limits = [self.tag_thresholds.get(name, -1.0) for name in self.classes]
        present = (
            leading_values(probabilities)
            if crf
            else np.flatnonzero(count_values(argmax_at(probabilities, image.size[::-1])))
        )

        @lru_cache(maxsize=1)  # another threshold for the same tags need not wait for it
        def refine(indices: tuple[int, ...]) -> NDArray[np.float32]:
            values = np.array([0, *(index + 1 for index in indices)])
            return pixel_probabilities(image, probabilities, values, self.config)

        return Analysis(
            image=image,
            source=source,
            classes=self.classes,
            scores=scores,
            predicted=tuple(int(value) - 1 for value in present if value and scores[value - 1] > limits[value - 1]),
            maps=probabilities[1:].numpy(),
            background=probabilities[0].numpy(),
            kind="segmenter",
            threshold="free",
            refine=refine if crf else None,
            certainty=sure,
            cannot_tell=cannot_tell(float(sure.min()), self.held_out),
        )

    def save(self, folder: Path, facts: JsonObject) -> None:
        """See `Analyser`."""
        config = self.trained.config
        shared = replace(config, masks=Path(config.masks).name, weights=Path(config.weights).name)
        own = {"tag_thresholds": self.tag_thresholds, "held_out": self.held_out}
        save_segmenter(folder, replace(self.trained, config=shared))  # no paths of this machine
        write_json(folder / CONFIG, read_json(folder / CONFIG) | own | facts)
