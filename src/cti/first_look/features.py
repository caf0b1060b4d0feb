"""Patch features of whole photos from the frozen network, in half precision."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cti.config import RuntimeConfig
from cti.data import Photo
from cti.data.batches import load_batches, size_batches
from cti.device import quick_bfloat16
from cti.method import CTI


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
        squares = sum((patches.double() - mean).square().sum(dim=(0, 1)) for patches in self.maps) / count
        return torch.as_tensor(squares).sqrt().float()


@torch.inference_mode()
def extract_features(model: CTI, photos: Sequence[Photo], long_side: int, runtime: RuntimeConfig) -> PatchFeatures:
    """Run the frozen network over whole photos.

    Args:
        model: In eval mode; features are those that its patch head sees.
        photos: Photos; about 0.3 MB each are kept (432 patches of 384 numbers).
        long_side: Longest side in pixels at which they are seen; 0 = own size.
        runtime: Photos per forward pass, and processes that load them.
    """
    maps: dict[str, Tensor] = {}
    batches = size_batches(photos, long_side, model.patch_size, runtime.batch_size)
    half = quick_bfloat16(model.device.type)
    for batch, images in load_batches(batches, model.mean, model.std, runtime, "features"):
        with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
            features = model.features(images.to(model.device))  # (B, D, h, w)
        # Half precision ends at 65504, far above what features reach.
        kept = features.float().clamp(-65504, 65504).permute(0, 2, 3, 1).half().cpu()
        maps |= {photo.id: kept[place].clone() for place, photo in enumerate(batch.photos)}
    return PatchFeatures(tuple(maps[photo.id] for photo in photos))


def evenly(photos: Sequence[Photo], most: int) -> list[Photo]:
    """At most so many photos, evenly spread."""
    if len(photos) <= most:
        return list(photos)
    return [photos[index] for index in np.linspace(0, len(photos) - 1, most).round().astype(int)]
