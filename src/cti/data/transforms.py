"""From a photo to the tensors of a training step: two independent random views, or one whole view for scoring.

Crops and flips draw from Python's `random`, RandAugment from it and from NumPy: `cti.data.datasets` seeds both.
"""

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch import Tensor

from cti.data.depth import AS_IT_IS, Reading
from cti.data.images import MAX_PIXELS, load_image, open_image, oriented_size, to_rgb

CROP_SCALE = (0.3, 1.2)
CROP_RATIO = (3 / 4, 4 / 3)
RAND_AUGMENT = "rand-m9-mstd0.5-inc1"

Box = tuple[int, int, int, int]  # left, upper, right, lower in pixels


def draw_crop(size: tuple[int, int], scale: tuple[float, float] = CROP_SCALE) -> Box:
    """Draw the box of a random resized crop (docs/method.md): area 0.3 to 1.2 of the photo, aspect 3:4 to 4:3.

    A box that does not fit into the photo is drawn again, up to ten times, then the largest centred box of a permitted
    aspect is taken, as timm and torchvision do. So areas above the photo's own, up to the upper limit of 1.2, are never
    reached.

    Args:
        size: (width, height) of the photo.
        scale: Smallest and largest area of a crop, as a share of the photo's.
    """
    # Only the size of the stand-in is looked at, and a view of one pixel costs nothing.
    stand_in = torch.empty(1).expand(3, size[1], size[0])
    top, left, height, width = RandomResizedCropAndInterpolation.get_params(stand_in, scale, CROP_RATIO)
    left, top = min(left, size[0] - 1), min(top, size[1] - 1)  # a photo of a few pixels can give an empty box
    return left, top, left + max(1, width), top + max(1, height)


class Normalize:
    """RGB image -> float32 tensor (3, H, W), (value / 255 - mean) / std per channel.

    Args:
        mean: Per channel, in [0, 1].
        std: Per channel, in [0, 1].
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.scale = torch.tensor([1 / (255 * s) for s in std], dtype=torch.float32).view(3, 1, 1)
        self.shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(3, 1, 1)

    def __call__(self, image: Image.Image) -> Tensor:
        """(3, H, W) float32 of an RGB image."""
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return pixels.float().mul_(self.scale).add_(self.shift).contiguous()


class TwoViews:
    """The two views of a training photo (docs/method.md, "The training step").

    View 1 is a random resized crop (bicubic), flipped half the time; view 2 is drawn the same way, independently, and
    then goes through RandAugment.

    Args:
        image_size: Side of a view in pixels.
        mean: Per channel, in [0, 1].
        std: Per channel, in [0, 1].
        crop_scale: Smallest and largest area of a view, as a share of the photo's.
    """

    def __init__(
        self,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        crop_scale: tuple[float, float] = CROP_SCALE,
    ) -> None:
        self.image_size = image_size
        self.crop_scale = crop_scale
        self.normalize = Normalize(mean, std)
        self.rand_augment = rand_augment(image_size, mean)

    def __call__(self, path: Path, max_pixels: int = MAX_PIXELS, reading: Reading = AS_IT_IS) -> tuple[Tensor, Tensor]:
        """View 1 and view 2 of a photo, each (3, image_size, image_size), normalised.

        Args:
            path: The photo.
            max_pixels: A larger one is refused.
            reading: See `cti.data.images.to_rgb`.

        Raises:
            FileNotFoundError: if the photo is gone.
            ValueError: if it cannot be decoded.
        """
        side = self.image_size
        with open_image(path, max_pixels) as opened:
            width, height = oriented_size(opened)
            first_box, second_box = (draw_crop((width, height), self.crop_scale) for _ in range(2))
            boxes = first_box, second_box
            # The smaller crop says how much detail is needed; a JPEG can be decoded at 1/2, 1/4 or 1/8 for less.
            spare = min(min(right - left, lower - upper) for left, upper, right, lower in boxes) // side
            if spare > 1:
                opened.draft("RGB", (opened.width // spare, opened.height // spare))
            photo = to_rgb(opened, reading)
        scale = photo.width / width, photo.height / height
        first, second = (self._view(photo, box, scale) for box in boxes)
        return self.normalize(first), self.normalize(self.rand_augment(second))

    def _view(self, photo: Image.Image, box: Box, scale: tuple[float, float]) -> Image.Image:
        left, upper, right, lower = box
        scaled = left * scale[0], upper * scale[1], right * scale[0], lower * scale[1]
        side = (self.image_size, self.image_size)
        view = photo.resize(side, Image.Resampling.BICUBIC, box=scaled)
        return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else view


class WholeView:
    """One view that shows the whole photo, resized to a square: what tags are scored on (a crop could lose one).

    Args:
        image_size: Side in pixels.
        mean: Per channel, in [0, 1].
        std: Per channel, in [0, 1].
    """

    def __init__(self, image_size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.size = (image_size, image_size)
        self.normalize = Normalize(mean, std)

    def __call__(self, path: Path, max_pixels: int = MAX_PIXELS, reading: Reading = AS_IT_IS) -> Tensor:
        """The view, (3, image_size, image_size), normalised; arguments and errors as for `TwoViews`."""
        photo = load_image(path, max_pixels, enough=self.size, reading=reading)
        return self.normalize(photo.resize(self.size, Image.Resampling.BICUBIC))


def rand_augment(image_size: int, mean: Sequence[float]) -> Any:
    """timm's RandAugment as the released code asks for it, image -> image.

    Its posterize may ask for 0 bits, which Pillow >= 13 refuses; at least one bit is kept.

    Args:
        image_size: Side of the images in pixels; translations are a share of it.
        mean: Per channel, in [0, 1]; fills what moves in from outside.
    """
    settings = {
        "translate_const": int(image_size * 0.45),
        "img_mean": tuple(min(255, round(255 * channel)) for channel in mean),
        "interpolation": Image.Resampling.BICUBIC,
    }
    augment = rand_augment_transform(RAND_AUGMENT, settings)
    for operation in augment.ops:
        if operation.name.startswith("Posterize"):
            operation.level_fn = partial(_at_least_one_bit, operation.level_fn)
    return augment


def _at_least_one_bit(level_fn: Any, level: float, settings: dict[str, Any]) -> tuple[int]:
    return (max(1, int(level_fn(level, settings)[0])),)
