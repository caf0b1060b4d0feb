"""Seeds for folders of photos: sizes, scales, buckets of equal size, one file per photo, restartable."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as TF

from cti.config import RuntimeConfig, SeedsConfig
from cti.data import Photo
from cti.data.seed_file import Seed, read_seed, to_cams, write_seed
from cti.method import CTI
from cti.seeds.maps import batch_maps, fit_to_patches, scaled_maps

logger = logging.getLogger(__name__)


def seed_cams(model: CTI, image: Tensor, class_indices: Sequence[int], flip: bool = True) -> Tensor:
    """Class activation maps of one image by the method: all blocks, refined by the patch affinity, mirror included.

    Args:
        model: A trained network; it is put into eval mode.
        image: (3, H, W), normalised by the model's mean and std, any size.
        class_indices: 0-based foreground classes.
        flip: Add the mirrored image's maps.

    Returns:
        (len(class_indices), H, W) in [0, 1], float32 (float64 for a float64 image).
    """
    H, W = image.shape[-2:]
    model.eval()
    resized = F.interpolate(image[None], fit_to_patches((H, W), model.patch_size), mode="bilinear", antialias=True)
    maps = batch_maps(model, resized, [class_indices], flip=flip)
    return to_cams(maps["refined"][0][: len(class_indices)], (H, W))


def extract_seeds(
    model: CTI,
    photos: Sequence[Photo],
    config: SeedsConfig,
    folder: Path,
    runtime: RuntimeConfig,
) -> None:
    """Write the seeds of photos that have none yet in `folder`, as `<id>.npz`.

    Args:
        model: A trained network on its device; it is put into eval mode.
        photos: Whose tags say which classes get a map.
        config: Sizes, scales, flip, kinds, blocks.
        folder: Gets the files; files that can be read are kept.
        runtime: Photos per forward pass, and processes that load them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = [photo for photo in photos if not _is_whole(folder / f"{photo.id}.npz")]
    model.eval()
    device = model.device
    buckets = _buckets(todo, config.long_side, runtime.batch_size, model.patch_size)
    workers = 1 if runtime.workers == -1 else runtime.workers
    loader = DataLoader(
        _SizedPhotos(buckets, model.mean, model.std),
        batch_size=None,
        num_workers=workers if len(buckets) > 2 else 0,
        prefetch_factor=2 if workers and len(buckets) > 2 else None,
    )
    console = Console(stderr=True)
    for bucket, images in track(
        zip(buckets, loader, strict=True), "seeds", total=len(buckets), console=console, disable=not buckets
    ):
        for photo, seeds in _bucket_seeds(model, bucket, images.to(device), config):
            write_seed(folder / f"{photo.id}.npz", seeds)


@dataclass(frozen=True)
class _Bucket:
    photos: tuple[Photo, ...]
    sizes: tuple[tuple[int, int], ...]  # own (H, W) of each
    size: tuple[int, int]  # common (H, W) of the forward pass at scale 1


def _buckets(photos: Sequence[Photo], long_side: int, batch_size: int, patch_size: int) -> list[_Bucket]:
    groups: dict[tuple[int, int], list[tuple[Photo, tuple[int, int]]]] = defaultdict(list)
    for photo in photos:
        own = photo.size()
        scale = long_side / max(own) if long_side else 1.0
        groups[fit_to_patches(own, patch_size, scale)].append((photo, own))
    return [
        _Bucket(tuple(photo for photo, _ in part), tuple(own for _, own in part), size)
        for size, members in groups.items()
        for part in (members[i : i + batch_size] for i in range(0, len(members), batch_size))
    ]


class _SizedPhotos(Dataset[Tensor]):
    """Buckets as batches (B, 3, H, W), normalised."""

    def __init__(self, buckets: Sequence[_Bucket], mean: Sequence[float], std: Sequence[float]) -> None:
        self.buckets, self.mean, self.std = buckets, list(mean), list(std)

    def __len__(self) -> int:
        return len(self.buckets)

    def __getitem__(self, index: int) -> Tensor:
        bucket = self.buckets[index]
        height, width = bucket.size
        arrays = [np.asarray(photo.load().resize((width, height), Image.Resampling.BICUBIC)) for photo in bucket.photos]
        images = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255
        return TF.normalize(images, self.mean, self.std)


def _bucket_seeds(
    model: CTI,
    bucket: _Bucket,
    images: Tensor,
    config: SeedsConfig,
) -> Iterator[tuple[Photo, dict[str, Seed]]]:
    """Photos of a bucket with their seeds, all scales added up on the grid of scale 1."""
    indices = [photo.tags for photo in bucket.photos]
    totals = scaled_maps(model, images, indices, config)
    background = model.has_background
    for position, photo in enumerate(bucket.photos):
        seeds = {}
        for kind, rows in totals.items():
            stack = rows[position].float().cpu().numpy()
            seeds[kind] = Seed(
                indices[position],
                bucket.sizes[position],
                stack[:-1] if background else stack,
                stack[-1] if background else None,
            )
        yield photo, seeds


def _is_whole(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        read_seed(path)
    except ValueError:
        logger.warning("%s cannot be read and is made again", path)
        return False
    return True
