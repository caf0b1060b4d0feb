"""What a `Predictor` needs of a network: photos in, an `Analysis` of each out."""

from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

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

    def analyse(self, image: Image.Image, source: str) -> Analysis:
        """Run the network on one photo."""
        ...

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write `config.json`, with `facts` among its entries, and `model.safetensors`."""
        ...
