"""Frozen backbone features, computed once per photo and kept on disk in half precision."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cti.data.batches import network_input, seen_size
from cti.files import atomic_path
from cti.method import CTI

Features = Callable[[NDArray[np.uint8]], Tensor]
"""Image (H, W, 3) uint8 RGB -> patch features of the whole image, (D, h', w')."""


def backbone_features(model: CTI, long_side: int = 0) -> Features:
    """The frozen network as a function from an image (H, W, 3) uint8 to its patch features (D, h, w).

    Args:
        model: The network.
        long_side: Images are brought to this longest side first; 0 = own size.
    """

    @torch.inference_mode()
    def features(image: NDArray[np.uint8]) -> Tensor:
        size = seen_size((image.shape[0], image.shape[1]), long_side, model.patch_size)
        images = network_input(Image.fromarray(image), size, model.mean, model.std)[None]
        return model.features(images.to(model.device))[0]

    return features


class FeatureCache:
    """A `Features` callable that remembers its answers in a folder, by the content of the image.

    Args:
        features: The frozen backbone.
        folder: Where the answers are kept: 2 D h' w' bytes each, about 0.7 MB for a VOC photo at D = 384, patch 14.
    """

    def __init__(self, features: Features, folder: Path) -> None:
        self.features = features
        self.folder = folder

    def __call__(self, image: NDArray[np.uint8]) -> Tensor:
        """Features of `image`, (D, h', w') float32, rounded to half precision also when they are fresh."""
        digest = hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16)
        path = self.folder / f"{digest.hexdigest()}.npy"
        if not path.exists():
            fresh = self.features(image).detach().to(device="cpu", dtype=torch.float32).numpy()
            with atomic_path(path) as temporary, temporary.open("wb") as handle:
                # Half precision ends at 65504, far above what a transformer's features reach without a norm.
                np.save(handle, np.clip(fresh, -65504, 65504).astype(np.float16))
        return torch.from_numpy(np.load(path).astype(np.float32))
