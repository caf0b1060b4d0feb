"""The two kinds of network behind a `Predictor`, each with the settings it is used with."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from cti.config import CrfConfig, SeedsConfig
from cti.files import read_json, write_json
from cti.masks.crf import crf_step
from cti.method import CTI
from cti.method.checkpoint import CONFIG, save_model
from cti.predict.prediction import Analysis
from cti.seeds.maps import fit_to_patches, scaled_maps
from cti.segment.checkpoint import TrainedSegmenter, save_segmenter
from cti.segment.inference import Inference, inference
from cti.segment.networks import Segmenter
from cti.segment.predict import argmax_at, predict_probabilities


class Backend(Protocol):
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


@dataclass(frozen=True)
class CTIBackend:
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
        background = maps[-1] if self.network.has_background else None
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
        """See `Backend`."""
        own = {"tag_thresholds": self.tag_thresholds, "seeds": asdict(self.seeds), "threshold": self.threshold}
        save_model(folder, self.network, own | facts)

    @torch.inference_mode()
    def _tag_logits(self, image: Image.Image) -> Tensor:
        """(C,) logits of the whole photo as a square, which is how tags are scored in training."""
        side = self.network.config.image_size
        out = self.network(self._images(image, (side, side)))
        logits: Tensor = out.tag_logits[0]
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


@dataclass(frozen=True)
class SegmenterBackend:
    """A segmentation network.

    Args:
        trained: The network and how it is used.
    """

    trained: TrainedSegmenter

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

    def analyse(self, image: Image.Image, source: str) -> Analysis:
        """Class probabilities; a class's score is its highest probability at any pixel.

        The predicted classes are those that lead somewhere. At the default threshold, `free`, the mask is the one that
        the stage `segment` predicts.
        """
        size = (image.height, image.width)
        probabilities = predict_probabilities(self.network, image, self.config)
        present = np.union1d(0, argmax_at(probabilities, size))
        if self.config.crf != "none":
            probabilities = self._refined(image, probabilities, present)
            present = np.union1d(0, probabilities.argmax(dim=0).numpy())
        return Analysis(
            image=image,
            source=source,
            classes=self.classes,
            scores=probabilities[1:].amax(dim=(1, 2)).numpy(),
            predicted=tuple(int(value) - 1 for value in present if value),
            maps=probabilities[1:].numpy(),
            background=probabilities[0].numpy(),
            kind="segmenter",
            threshold="free",
        )

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """See `Backend`."""
        config = self.trained.config
        shared = replace(config, masks=Path(config.masks).name, weights=Path(config.weights).name)
        save_segmenter(folder, replace(self.trained, config=shared))  # no paths of this machine
        write_json(folder / CONFIG, read_json(folder / CONFIG) | facts)

    def _refined(self, image: Image.Image, probabilities: Tensor, present: NDArray[Any]) -> Tensor:
        """Dense CRF over the classes that lead somewhere; the others get probability 0."""
        size = (image.height, image.width)
        assert self.config.crf != "none"
        at_pixels = _resize(probabilities[present][None], size)[0]
        refined = crf_step(np.asarray(image), at_pixels.numpy(), CrfConfig(preset=self.config.crf))
        full = torch.zeros(len(probabilities), *size)
        full[present] = torch.from_numpy(refined)
        return full


def _resize(images: Tensor, size: tuple[int, int], antialias: bool = False) -> Tensor:
    if tuple(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=antialias)
