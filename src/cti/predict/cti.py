"""A CTI network behind a `Predictor`."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from cti.config import SeedsConfig
from cti.data.batches import fit_to_patches
from cti.method import CTI
from cti.method.checkpoint import save_model
from cti.predict.prediction import Analysis
from cti.seeds.maps import scaled_maps


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
        thresholds = torch.tensor([self.tag_thresholds.get(name, 0.0) for name in self.classes])
        maps = self._maps(image)
        background = maps[-1] if self.network.config.background != "none" else None
        return Analysis(
            image=image,
            source=source,
            classes=self.classes,
            scores=logits.sigmoid().numpy(),
            predicted=tuple((logits > thresholds).nonzero().flatten().tolist()),
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
        """(C,) logits of the whole photo as a square, which is how tags are scored in training."""
        side = self.network.config.image_size
        out = self.network(self._images(image, (side, side)))
        logits: Tensor = (out.class_logits + out.patch_logits)[0] / 2
        return logits.float().cpu()

    def _maps(self, image: Image.Image) -> NDArray[np.float32]:
        """(C [+ 1], h, w) maps before `max_norm`, the background last, all scales added up on the grid of scale 1."""
        own, patch = (image.height, image.width), self.network.patch_size
        height, width = fit_to_patches(own, patch, self.seeds.long_side / max(own) if self.seeds.long_side else 1.0)
        config = replace(self.seeds, kinds=self.seeds.kinds[:1])
        maps = scaled_maps(self.network, self._images(image, (height, width)), [range(len(self.classes))], config)
        return maps[config.kinds[0]][0].float().cpu().numpy()

    def _images(self, image: Image.Image, size: tuple[int, int]) -> Tensor:
        """The photo at `size` (H, W), normalised, (1, 3, H, W), where the network is."""
        pixels = np.array(image.resize(size[::-1], Image.Resampling.BICUBIC))
        images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        images = TF.normalize(images, list(self.network.mean), list(self.network.std))
        return images.to(next(self.network.parameters()).device)
