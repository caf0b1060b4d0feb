"""Map-style datasets: what they return depends only on (seed, epoch, index), so resuming needs no stored state."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cti.data.photos import Photo
from cti.data.transforms import CROP_SCALE, TwoViews, WholeView


class TwoViewDataset(Dataset[dict[str, Tensor]]):
    """Training photos as two random views.

    Args:
        photos: Photos with tags.
        num_classes: Foreground classes C.
        image_size: Side of a view in pixels.
        mean: Per channel, in [0, 1].
        std: Per channel, in [0, 1].
        seed: Seed of every draw.
        crop_scale: Smallest and largest area of a view, as a share of the photo's.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        num_classes: int,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int = 0,
        crop_scale: tuple[float, float] = CROP_SCALE,
    ) -> None:
        self.photos = tuple(photos)
        self.num_classes = num_classes
        self.seed = seed
        self.views = TwoViews(image_size, mean, std, crop_scale)

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """One photo in one epoch.

        Args:
            key: (epoch, index).

        Returns:
            `images` (view 1) and `images_pos` (view 2), (3, H, W), normalised; `labels` (C,) float32 multi-hot;
            `index`, a scalar int64.
        """
        epoch, index = key
        photo = self.photos[index]
        with drawing_from(self.seed, epoch, index):
            images, images_pos = self.views(photo.image, photo.max_pixels, photo.reading)
        labels = multi_hot(photo.tags, self.num_classes)
        return {"images": images, "images_pos": images_pos, "labels": labels, "index": torch.tensor(index)}


class TagDataset(Dataset[dict[str, Tensor]]):
    """Photos as one whole view each, for scoring tags; nothing is drawn at random. Arguments as `TwoViewDataset`."""

    def __init__(
        self,
        photos: Sequence[Photo],
        num_classes: int,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.photos = tuple(photos)
        self.num_classes = num_classes
        self.view = WholeView(image_size, mean, std)

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """`images` (3, H, W), `labels` (C,) float32 multi-hot, `index` scalar int64."""
        photo = self.photos[index]
        labels = multi_hot(photo.tags, self.num_classes)
        image = self.view(photo.image, photo.max_pixels, photo.reading)
        return {"images": image, "labels": labels, "index": torch.tensor(index)}


def multi_hot(tags: Sequence[int], num_classes: int) -> Tensor:
    """Class indices -> (C,) float32 of 0 and 1."""
    labels = torch.zeros(num_classes)
    labels[list(tags)] = 1.0
    return labels


@contextmanager
def drawing_from(*key: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's generators (CPU) from `key`, and put their own states back afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 (timm draws from it)
    words = np.random.SeedSequence([part % 2**64 for part in key]).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002
    torch.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
