"""What a `Predictor` needs of a network: photos in, an `Analysis` of each out."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image

from cti.files import JsonObject
from cti.predict.prediction import Analysis


class Analyser(Protocol):
    """A network and the settings it is used with."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The C foreground classes."""
        ...

    @property
    def network(self) -> torch.nn.Module:
        """The network, in eval mode."""
        ...

    @property
    def tag_thresholds(self) -> dict[str, float]:
        """Class -> score that it must exceed to be predicted."""
        ...

    def seen_as(self, size: tuple[int, int]) -> Hashable:
        """How a photo of (H, W) pixels is seen; photos that are seen alike can be analysed together."""
        ...

    def analyse(self, images: Sequence[Image.Image], sources: Sequence[str]) -> list[Analysis]:
        """Run the network on photos that are seen alike."""
        ...

    def save(self, folder: Path, facts: JsonObject) -> None:
        """Write `config.json`, with `facts` among its entries, and `model.safetensors`."""
        ...
