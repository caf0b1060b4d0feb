"""A CTI network behind a `Predictor`."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cti.config import MapKind, SeedsConfig
from cti.data.batches import Sight, network_input, parts, photos_at_once, sight
from cti.files import JsonObject
from cti.method import CTI
from cti.method.checkpoint import save_model
from cti.predict.batches import MOST_PHOTOS
from cti.predict.prediction import Analysis
from cti.seeds.maps import scaled_maps
from cti.seeds.windowed import windowed_maps
from cti.train.tagging import predicted_tags, window_tag_logits


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

    def seen_as(self, size: tuple[int, int]) -> Hashable:
        """See `Analyser`."""
        return self._sight(size)

    def analyse(self, images: Sequence[Image.Image], sources: Sequence[str]) -> list[Analysis]:
        """Maps of all classes, so that tags can be chosen afterwards; scores are those the thresholds were chosen on.

        The maps cost little beside the network; making them pixels, which does not, is left to `Analysis.predict`.
        Where maps are shared out among the photo's own classes (`located`), it runs again once these are chosen.
        """
        seen, patch = self._sight(images[0].size[::-1]), self.network.patch_size
        photos = list(zip(images, sources, strict=True))
        if seen.window:
            return [self._by_windows(*photo, seen) for photo in photos]
        return [
            self._analysis(*found)
            for part in parts(photos, photos_at_once(seen.size, patch, MOST_PHOTOS))
            for found in self._found(part, seen.size)
        ]

    def _by_windows(self, image: Image.Image, source: str, seen: Sight) -> Analysis:
        """A photo too large to be seen whole; what any window finds is in it."""
        logits = window_tag_logits(self.network, image, seen)

        def maps_of(indices: tuple[int, ...]) -> Tensor:
            return windowed_maps(self.network, image, seen, indices, self._config, logits)[self._kind]

        return self._analysis(image, source, maps_of, logits.amax(dim=0), maps_of(tuple(range(len(self.classes)))))

    def _analysis(
        self,
        image: Image.Image,
        source: str,
        maps_of: Callable[[tuple[int, ...]], Tensor],
        logits: Tensor,
        maps: Tensor,
    ) -> Analysis:
        """What follows from logits (C,), maps of all classes, and a function that gives maps of some."""
        stack = maps.float().cpu().numpy()
        background = stack[-1] if self.network.has_background else None

        def among(indices: tuple[int, ...]) -> NDArray[np.float32]:
            own = maps_of(indices).float().cpu().numpy()
            return np.concatenate([own[-1:], own[:-1]])

        shared_out = self._kind == "located" and self.network.locator is not None and self.network.locator.fitted
        return Analysis(
            image=image,
            source=source,
            classes=self.classes,
            scores=logits.sigmoid().numpy(),
            predicted=predicted_tags(logits[None].numpy(), self.classes, self.tag_thresholds)[0],
            maps=stack[: len(self.classes)],
            background=background,
            kind="cti",
            threshold=self.threshold,
            refine=among if shared_out and self.network.has_background else None,
        )

    def save(self, folder: Path, facts: JsonObject) -> None:
        """See `Analyser`."""
        own = {"tag_thresholds": self.tag_thresholds, "seeds": asdict(self.seeds), "threshold": self.threshold}
        save_model(folder, self.network, own | facts)

    @torch.inference_mode()
    def _found(
        self, photos: Sequence[tuple[Image.Image, str]], size: tuple[int, int]
    ) -> Iterator[tuple[Image.Image, str, Callable[[tuple[int, ...]], Tensor], Tensor, Tensor]]:
        """Photos seen whole at `size`, as they came, with what the network finds.

        That is: a function that gives maps of some classes, (C,) logits of the tags, as `cti.train.tagging.tag_logits`
        finds them, and maps of all classes, as `_maps` gives them.
        """
        network = self.network
        inputs = [network_input(image, size, network.mean, network.std) for image, _ in photos]
        images = torch.stack(inputs).to(network.device)
        logits = network(images).tag_logits.float().cpu()
        maps = self._maps(images, [range(len(self.classes))] * len(images))
        for photo, seen, row, stack in zip(photos, images, logits, maps, strict=True):
            yield *photo, partial(self._maps_of, seen), row, stack

    def _maps_of(self, image: Tensor, indices: tuple[int, ...]) -> Tensor:
        return self._maps(image[None], [indices])[0]

    def _maps(self, images: Tensor, class_indices: Sequence[Sequence[int]]) -> list[Tensor]:
        """Per image (n [+ 1], h, w) maps before `max_norm`, the background last, all scales on the grid of scale 1."""
        return scaled_maps(self.network, images, class_indices, self._config)[self._kind]

    @property
    def _config(self) -> SeedsConfig:
        return replace(self.seeds, kinds=(self._kind,))

    @property
    def _kind(self) -> MapKind:
        return self.seeds.kinds[0]

    def _sight(self, size: tuple[int, int]) -> Sight:
        return sight(size, self.seeds.long_side, self.seeds.window, self.network.patch_size)
