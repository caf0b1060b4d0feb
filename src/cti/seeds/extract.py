"""Seeds for folders of photos: batches of one size, large photos by windows, one file per photo, restartable."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track
from torch import Tensor

from cti.config import RuntimeConfig, SeedsConfig
from cti.data import Photo
from cti.data.batches import SizeBatch, load_batches, size_batches, split_large
from cti.data.seed_file import Seed, read_seed, write_seed
from cti.method import CTI
from cti.seeds.maps import scaled_maps
from cti.seeds.windowed import windowed_maps

logger = logging.getLogger(__name__)


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
        folder: Gets the files; files that can be read and are of the photo's size and tags are kept.
        runtime: Photos per forward pass, and processes that load them.
    """
    todo = [photo for photo in photos if not _is_there(photo, folder / f"{photo.id}.npz")]
    model.eval()
    whole, large = split_large(todo, config.long_side, config.window, model.patch_size)
    batches = size_batches(whole, config.long_side, model.patch_size, runtime.batch_size)
    for batch, images in load_batches(batches, model.mean, model.std, runtime, "seeds"):
        for photo, seeds in _batch_seeds(model, batch, images.to(model.device), config):
            write_seed(folder / f"{photo.id}.npz", seeds)
    bar = track(large, "seeds of large photos", console=Console(stderr=True), disable=not large)
    for photo, seen in bar:
        image = photo.load()
        maps = windowed_maps(model, image, seen, photo.tags, config)
        size = (image.height, image.width)
        write_seed(
            folder / f"{photo.id}.npz",
            {kind: seed_of(photo, size, stack, model.has_background) for kind, stack in maps.items()},
        )


def _batch_seeds(
    model: CTI,
    batch: SizeBatch,
    images: Tensor,
    config: SeedsConfig,
) -> Iterator[tuple[Photo, dict[str, Seed]]]:
    """Photos of a batch with their seeds, all scales added up on the grid of scale 1."""
    totals = scaled_maps(model, images, [photo.tags for photo in batch.photos], config)
    for position, photo in enumerate(batch.photos):
        size = batch.sizes[position]
        yield photo, {kind: seed_of(photo, size, rows[position], model.has_background) for kind, rows in totals.items()}


def seed_of(photo: Photo, size: tuple[int, int], maps: Tensor, background: bool) -> Seed:
    """The seed of a photo of `size` (H, W) from maps (n [+ 1], h, w) of its classes, the background last, if any."""
    stack = maps.float().cpu().numpy()
    return Seed(photo.tags, size, stack[:-1] if background else stack, stack[-1] if background else None)


def _is_there(photo: Photo, path: Path) -> bool:
    """Whether the photo's seed is in the file; one of another size or of other classes would stop a later stage."""
    if not path.is_file():
        return False
    try:
        seed = read_seed(path)
    except ValueError:
        logger.warning("%s cannot be read and is made again", path)
        return False
    if (seed.size, seed.class_indices) != (photo.size(), photo.tags):
        logger.warning("%s is of another size or other classes than its photo and is made again", path)
        return False
    return True
