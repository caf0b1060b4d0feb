"""Photos with masks as random crops, every draw derived from (seed, epoch, index), so that a resumed run repeats none.

Geometry is one map from output to photo, used by image (bilinear, antialiased) and mask (nearest) alike: only the part
of the photo that the crop shows is ever resized.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as transforms

from cti.classes import IGNORE_INDEX
from cti.config import SegmentConfig
from cti.data.photos import Photo
from cti.segment.masks import MaskOf, ReviewedOf, count_pixels


@dataclass(frozen=True)
class Crop:
    """Where a training crop lies. All pairs are (vertical, horizontal).

    Args:
        scaled: Size of the whole photo after scaling, in pixels.
        start: First pixel of the scaled photo that is seen.
        seen: Size of the part that is seen.
        offset: Where that part goes in the crop; around it is padding.
        flip: Mirrored left to right.
    """

    scaled: tuple[int, int]
    start: tuple[int, int]
    seen: tuple[int, int]
    offset: tuple[int, int]
    flip: bool

    def box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The part that is seen as (left, top, right, bottom), in pixels of an image of `size` (H, W)."""
        (top, left), (bottom, right) = self.start, np.add(self.start, self.seen)
        y, x = size[0] / self.scaled[0], size[1] / self.scaled[1]
        return left * x, top * y, min(right * x, size[1]), min(bottom * y, size[0])


def working_size(size: tuple[int, int], long_side: int, scale: float = 1.0) -> tuple[int, int]:
    """Size (H, W) at which a photo of `size` (H, W) is worked on: longest side first to `long_side` (0 = own size)."""
    factor = scale * (long_side / max(size) if long_side else 1.0)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def draw_crop(size: tuple[int, int], config: SegmentConfig, rng: np.random.Generator) -> Crop:
    """Draw scale, place and mirroring of a crop of a photo of `size` (H, W)."""
    low, high = np.log(config.scale_range)
    scaled = working_size(size, config.long_side, float(np.exp(rng.uniform(low, high))))
    seen = (min(scaled[0], config.crop_size), min(scaled[1], config.crop_size))
    start_y, start_x = (int(rng.integers(0, s - part + 1)) for s, part in zip(scaled, seen, strict=True))
    offset_y, offset_x = (int(rng.integers(0, config.crop_size - part + 1)) for part in seen)
    return Crop(scaled, (start_y, start_x), seen, (offset_y, offset_x), flip=bool(rng.random() < 0.5))


def change_colours(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Change brightness, contrast and saturation of an image (3, H, W) uint8 by up to `strength`, hue by a fifth."""
    if strength == 0:
        return image
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, size=3)
    image = transforms.adjust_brightness(image, brightness)
    image = transforms.adjust_contrast(image, contrast)
    image = transforms.adjust_saturation(image, saturation)
    return transforms.adjust_hue(image, rng.uniform(-strength, strength) / 5)


def to_tensor(image: Image.Image) -> Tensor:
    """RGB image as (3, H, W) uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def normalise(image: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Image (3, H, W) uint8 as float32 with the statistics that a network expects."""
    return transforms.normalize(image.float() / 255, list(mean), list(std))


class SegmentationDataset(Dataset[dict[str, Tensor]]):
    """Training crops, indexed by the pair (epoch, index).

    An item is {"images": (3, S, S) float32 normalised, "masks": (S, S) int64 in 0..C or 255}, S = `config.crop_size`.
    Padding is the mean colour (0) and 255. With `reviewed` there is "weights" (S, S) float32 too: `reviewed_weight`
    where a person gave the label, else 1.

    Args:
        photos: The photos.
        mask_of: Gives a photo's mask (H, W) uint8: a `MaskFolder` or `real_mask`.
        num_classes: C.
        config: Crop size, scales, colours.
        mean: The network's `mean`.
        std: The network's `std`.
        seed: Seed of all draws.
        reviewed: Says of which pixels (H, W) of a photo a person gave the label; None = of none.

    Attributes:
        pixels: Labelled pixels of the background and each class over all masks, (1 + C,).

    Raises:
        ValueError: if the masks cannot be learned from (see `count_pixels`).
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        mask_of: MaskOf,
        num_classes: int,
        config: SegmentConfig,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        seed: int = 0,
        reviewed: ReviewedOf | None = None,
    ) -> None:
        self.pixels: NDArray[np.int64] = count_pixels(photos, mask_of, num_classes)
        self._photos = photos
        self._mask_of = mask_of
        self._config = config
        self._mean = mean
        self._std = std
        self._seed = seed
        self._reviewed = reviewed

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = key
        rng = np.random.default_rng((self._seed, epoch, index))
        photo = self._photos[index]
        mask = self._mask_of(photo)
        height, width = mask.shape
        crop = draw_crop((height, width), self._config, rng)
        # A strongly reduced photo need not be decoded at full size; the box is relative to whatever size comes.
        image = photo.load(enough=crop.scaled[::-1])
        seen = crop.seen[::-1]  # Pillow's order
        colours = to_tensor(image.resize(seen, Image.Resampling.BILINEAR, crop.box(image.size[::-1])))

        def seen_of(values: NDArray[np.uint8]) -> Tensor:
            part = Image.fromarray(values).resize(seen, Image.Resampling.NEAREST, crop.box((height, width)))
            return torch.from_numpy(np.array(part))

        side = self._config.crop_size
        place = tuple(slice(o, o + part) for o, part in zip(crop.offset, crop.seen, strict=True))
        images = torch.zeros(3, side, side)
        images[:, *place] = normalise(change_colours(colours, self._config.jitter, rng), self._mean, self._std)
        masks = torch.full((side, side), IGNORE_INDEX)
        masks[place] = seen_of(mask).long()
        item = {"images": images, "masks": masks}
        if self._reviewed is not None:
            item["weights"] = torch.ones(side, side)
            if (known := self._reviewed(photo)) is not None:
                item["weights"][place] += (self._config.reviewed_weight - 1) * seen_of(known.astype(np.uint8))
        return {name: values.flip(-1) for name, values in item.items()} if crop.flip else item
