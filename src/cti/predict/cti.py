"""A CTI network behind a `Predictor`."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cti.config import SeedsConfig
from cti.data.batches import network_input, seen_size
from cti.method import CTI
from cti.method.checkpoint import save_model
from cti.predict.prediction import Analysis
from cti.seeds.maps import scaled_maps
from cti.train.tagging import predicted_tags


@dataclass(frozen=True)
class CTIAnalyser:
    """A CTI network.

    Args:
        network: In eval mode.
        tag_thresholds: Class -> logit above which its tag is predicted; 0 for classes that are not named.
        seeds: Sizes, mirror, kind and blocks of the maps, as in the stage `seeds`.
        threshold: Background score to use when none is asked for.
    """

    network: CTI
    tag_thresholds: dict[str, float] = field(default_factory=dict)
    seeds: SeedsConfig = field(default_factory=SeedsConfig)
    threshold: float = 0.25

    @property
    def classes(self) -> tuple[str, ...]:
        """The C foreground classes."""
        return self.network.classes

    def analyse(self, image: Image.Image, source: str) -> Analysis:
        """Maps of all classes, so that tags can be chosen afterwards; scores are those the thresholds were chosen on.

        The maps cost little beside the network; making them pixels, which does not, is left to `Analysis.predict`.
        """
        logits = self._tag_logits(image)
        maps = self._maps(image)
        background = maps[-1] if self.network.config.background != "none" else None
        return Analysis(
            image=image,
            source=source,
            classes=self.classes,
            scores=logits.sigmoid().numpy(),
            predicted=predicted_tags(logits[None].numpy(), self.classes, self.tag_thresholds)[0],
            maps=maps[: len(self.classes)],
            background=background,
            kind="cti",
            threshold=self.threshold,
        )

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """See `Analyser`."""
        own = {"tag_thresholds": self.tag_thresholds, "seeds": asdict(self.seeds), "threshold": self.threshold}
        save_model(folder, self.network, own | facts)

    @torch.inference_mode()
    def _tag_logits(self, image: Image.Image) -> Tensor:
        """(C,) logits of the whole photo, as `cti.train.tagging.tag_logits` finds them."""
        logits: Tensor = self.network(self._images(image)).tag_logits[0]
        return logits.float().cpu()

    def _maps(self, image: Image.Image) -> NDArray[np.float32]:
        """(C [+ 1], h, w) maps before `max_norm`, the background last, all scales added up on the grid of scale 1."""
        config = replace(self.seeds, kinds=self.seeds.kinds[:1])
        maps = scaled_maps(self.network, self._images(image), [range(len(self.classes))], config)
        return maps[config.kinds[0]][0].float().cpu().numpy()

    def _images(self, image: Image.Image) -> Tensor:
        """The photo as it is seen, normalised, (1, 3, H, W), where the network is."""
        size = seen_size((image.height, image.width), self.seeds.long_side, self.network.patch_size)
        return network_input(image, size, self.network.mean, self.network.std)[None].to(self.network.device)
