"""A tiny data set of drawn photos with blurred seeds, as a finished seeds stage."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cti.data.photos import Photo
from cti.data.seed_file import Seed, write_seed
from cti.files import write_manifest

CLASSES = ("disc", "box", "bar")


@dataclass(frozen=True)
class Drawn:
    photos: tuple[Photo, ...]
    truths: dict[str, NDArray[np.uint8]]
    seeds: Path


def draw(number: int, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A noisy photo with one disc and one box on a gradient, and its mask."""
    rng = np.random.default_rng(number)
    height, width = size
    y, x = np.mgrid[:height, :width]
    image = np.stack([60 + 20 * y / height, 70 + 20 * x / width, np.full(size, 80.0)], axis=-1)
    mask = np.zeros(size, dtype=np.uint8)
    centre = (0.3 * height, (0.3 + 0.05 * rng.random()) * width)
    disc = np.hypot(y - centre[0], x - centre[1]) < 0.2 * height
    box = (y > 0.55 * height) & (y < 0.9 * height) & (x > 0.5 * width) & (x < 0.9 * width)
    for value, region, colour in ((1, disc, (200, 60, 50)), (2, box, (60, 90, 210))):
        image[region] = colour
        mask[region] = value
    image += rng.normal(0, 6, image.shape)
    return image.clip(0, 255).astype(np.uint8), mask


def blurred_seed(mask: NDArray[np.uint8], stride: int = 7) -> Seed:
    """What a network with coarse patches would say of `mask`: right place, blurred edges."""
    height, width = mask.shape
    size = (max(2, height // stride), max(2, width // stride))
    indices = tuple(int(value) - 1 for value in np.unique(mask) if 0 < value < 255)
    maps = np.stack([mask == index + 1 for index in indices]).astype(np.float32)
    coarse = F.adaptive_avg_pool2d(torch.from_numpy(maps), size)[None]
    coarse = F.avg_pool2d(coarse, 3, stride=1, padding=1, count_include_pad=False)[0]
    return Seed(indices, (height, width), coarse.numpy(), 1 - coarse.amax(dim=0).numpy())


def colour_features(image: NDArray[np.uint8]) -> Tensor:
    """Stands in for a backbone: the mean colour of each 12-pixel patch, (3, h, w)."""
    pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1) / 255
    return F.adaptive_avg_pool2d(pixels, (image.shape[0] // 12, image.shape[1] // 12))


def iou(mask: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Mean over the values of `truth` of intersection over union, written out plainly."""
    values = [value for value in np.unique(truth) if value != 255]
    return float(np.mean([((mask == v) & (truth == v)).sum() / ((mask == v) | (truth == v)).sum() for v in values]))


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    folder = tmp_path_factory.mktemp("drawn")
    photos, truths = [], {}
    for number, size in enumerate([(72, 96), (72, 96), (90, 75), (61, 83)]):
        name = f"photo{number}"
        image, truths[name] = draw(number, size)
        Image.fromarray(image).save(folder / f"{name}.png")
        write_seed(folder / "seeds" / f"{name}.npz", {"refined": blurred_seed(truths[name])})
        photos.append(Photo(name, folder / f"{name}.png", (0, 1), None))
    write_manifest(folder / "seeds", {"classes": list(CLASSES)})
    return Drawn(tuple(photos), truths, folder / "seeds")


@pytest.fixture(scope="session", name="features")
def _features():
    return colour_features


@pytest.fixture(scope="session", name="iou")
def _iou():
    return iou
