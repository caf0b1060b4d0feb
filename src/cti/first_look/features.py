"""Patch features of whole photos from the frozen network, in half precision."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from cti.config import RuntimeConfig, SeedsConfig
from cti.data import Photo
from cti.data.batches import MAX_TOKENS, Sight, load_batches, normalised, size_batches, split_large
from cti.data.windows import Joined, photo_windows
from cti.device import quick_bfloat16
from cti.method import CTI

MOST_OF_A_PHOTO = 100_000
"""Patches that are kept of a photo seen window by window: 150 MB with 768 numbers each."""
MOST_OF_ALL = 2_000_000
"""Patches that are kept of all such photos, shared out evenly; a photo always has as many as if it were seen whole."""


@dataclass(frozen=True)
class PatchFeatures:
    """Features of some photos, in their order.

    Args:
        maps: Per photo (h, w, D) float16.
    """

    maps: tuple[Tensor, ...]

    def pooled(self) -> Tensor:
        """The mean feature of each photo, (n, D) float32."""
        return torch.stack([patches.float().mean(dim=(0, 1)) for patches in self.maps])

    def scale(self) -> Tensor:
        """The standard deviation of each feature over all patches, (D,) float32."""
        count = sum(patches.shape[0] * patches.shape[1] for patches in self.maps)
        mean = sum(patches.double().sum(dim=(0, 1)) for patches in self.maps) / count
        squares = sum((patches - mean).square().sum(dim=(0, 1)) for patches in self.maps) / count
        return torch.as_tensor(squares).sqrt().float()


@torch.inference_mode()
def extract_features(model: CTI, photos: Sequence[Photo], seeds: SeedsConfig, runtime: RuntimeConfig) -> PatchFeatures:
    """Run the frozen network over photos, large ones window by window.

    Args:
        model: In eval mode; features are those that its patch head sees.
        photos: Photos; about 0.3 MB each are kept (432 patches of 384 numbers).
        seeds: `long_side` and `window`. Photos with more patches than can be kept of each are reduced until they fit.
        runtime: Photos per forward pass, and processes that load them.
    """
    maps: dict[str, Tensor] = {}
    whole, large = split_large(photos, seeds.long_side, seeds.window, model.patch_size)
    batches = size_batches(whole, seeds.long_side, model.patch_size, runtime.batch_size)
    half = quick_bfloat16(model.device.type)
    for batch, images in load_batches(batches, model.mean, model.std, runtime, "features"):
        with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
            features = model.features(images.to(model.device))  # (B, D, h, w)
        kept = _half(features.float().permute(0, 2, 3, 1)).cpu()
        maps |= {photo.id: kept[place].clone() for place, photo in enumerate(batch.photos)}
    most = min(MOST_OF_A_PHOTO, max(MOST_OF_ALL // max(len(large), 1), MAX_TOKENS))
    for photo, seen in track(large, "features of large photos", console=Console(stderr=True), disable=not large):
        maps[photo.id] = _half(_joined(model, photo.load(), seen.at_most(most, model.patch_size), half))
    return PatchFeatures(tuple(maps[photo.id] for photo in photos))


def _joined(model: CTI, image: Image.Image, seen: Sight, half: bool) -> Tensor:
    """Features (h, w, D) of a photo, from its windows."""
    joined = Joined((seen.size[0] // model.patch_size, seen.size[1] // model.patch_size))
    for window in photo_windows(image, seen.size, seen.window, model.patch_size):
        pixels = normalised(window.image, model.mean, model.std)[None].to(model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
            joined.add(window, model.features(pixels)[0])
    return joined.maps().permute(1, 2, 0)


def _half(features: Tensor) -> Tensor:
    # Half precision ends at 65504, far above what features reach.
    return features.clamp(-65504, 65504).half()


def evenly(photos: Sequence[Photo], most: int) -> list[Photo]:
    """At most so many photos, evenly spread."""
    if len(photos) <= most:
        return list(photos)
    return [photos[index] for index in np.linspace(0, len(photos) - 1, most).round().astype(int)]
