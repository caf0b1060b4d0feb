"""Masks for photos: whole or window by window, several scales, mirrored, restartable over a folder."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from cti.config import CrfConfig
from cti.data.batches import nearest_grid
from cti.data.images import MAX_PIXELS, load_image, save_mask
from cti.data.photos import Photo
from cti.data.stretched import Stretched, bands
from cti.data.windows import part_of, windows
from cti.masks.crf import crf_step
from cti.segment.dataset import normalise, to_tensor, working_size
from cti.segment.inference import Inference
from cti.segment.networks import Segmenter

logger = logging.getLogger(__name__)

MOST_CELLS = 2**24
"""Places at which probabilities of a photo are kept; each costs four bytes a class."""


@dataclass(frozen=True)
class Seen:
    """What a segmenter sees in a photo.

    Args:
        probabilities: (1 + C, h, w) float32 on the CPU, background first, summing to 1 over classes; (h, w) is the
            photo's size, or that size with `long_side` as its longest side; of more than `MOST_CELLS` pixels, squares
            of them are averaged.
        scores: (C,) how sure it is that a class is in the photo, from 0 to 1: the class's highest probability, raised
            or lowered by what the network says of the photo as a whole, if anything (`Segmenter.see`).
    """

    probabilities: Tensor
    scores: Tensor


def predict_probabilities(network: Segmenter, image: Image.Image, config: Inference) -> Tensor:
    """The probabilities (1 + C, h, w) of a photo; see `look_at`."""
    return look_at(network, [image], config)[0].probabilities


def working_sizes(size: tuple[int, int], config: Inference) -> tuple[tuple[int, int], ...]:
    """Sizes (H, W) of the result and of each scale; photos that agree in them can be one batch."""
    return tuple(working_size(size, config.long_side, scale) for scale in (1.0, *config.scales))


def look_at(network: Segmenter, images: Sequence[Image.Image], config: Inference) -> list[Seen]:
    """What the network sees, averaged over `config.scales` and, with `config.flip`, each photo and its mirror image.

    Args:
        network: The segmenter, on any device; used in evaluation mode.
        images: B photos, RGB, of any size, that agree in their `working_sizes`.
        config: `scales`, `flip`, `long_side`, `window` and `stride`.
    """
    size, *scaled_sizes = working_sizes(images[0].size[::-1], config)
    cell = math.ceil(math.sqrt(size[0] * size[1] / MOST_CELLS))
    total, tags = torch.zeros(()), torch.zeros(())
    with _evaluating(network):
        for scaled in scaled_sizes:
            unit = math.lcm(cell, network.patch)
            rows, columns = nearest_grid(scaled, unit)
            at, grid = (rows * unit, columns * unit), (rows * unit // cell, columns * unit // cell)
            # Of a very large photo no resized copy is made; others are resized as a whole, which is quicker.
            seen = [_resized(image, at) for image in images] if cell == 1 else images
            found, said = window_probabilities(network, partial(_part, network, seen, at), grid, config, cell)
            probabilities = _resize(found, _cells(size, cell))
            total = total.add_(probabilities) if total.ndim else probabilities
            tags = tags + said
    total, tags = total.div_(len(config.scales)), tags / len(config.scales)
    highest = total[:, 1:].amax(dim=(2, 3))
    scores = (highest.clamp(1e-6, 1 - 1e-6).logit() + tags).sigmoid() if tags.any() else highest
    return [Seen(*photo) for photo in zip(total, scores, strict=True)]


def _cells(size: tuple[int, int], cell: int) -> tuple[int, int]:
    return -(-size[0] // cell), -(-size[1] // cell)


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size[::-1] else image.resize(size[::-1], Image.Resampling.BILINEAR)


def _part(
    network: Segmenter, images: Sequence[Image.Image], size: tuple[int, int], rows: slice, columns: slice
) -> Tensor:
    """Pixels of images at a size (H, W), normalised: only of what the network sees at a time."""
    box = (columns.start, rows.start, columns.stop, rows.stop)
    parts = [part_of(image, size, box, Image.Resampling.BILINEAR) for image in images]
    return torch.stack([normalise(to_tensor(part), network.mean, network.std) for part in parts])


@torch.no_grad()
def window_probabilities(
    network: Segmenter, part: Callable[[slice, slice], Tensor], grid: tuple[int, int], config: Inference, cell: int = 1
) -> tuple[Tensor, Tensor]:
    """Class probabilities (B, 1 + C, h, w), on the CPU, of normalised images at this size, and tag logits (B, C).

    The network sees one window of each (and its mirror image) at a time; where windows overlap, probabilities are
    averaged. Of the tag logits the highest of any window counts; they are 0 for a network without any.

    Args:
        network: In evaluation mode.
        part: Gives the pixels (B, 3, rows, columns) of a window by their places.
        grid: (h, w) of the result.
        config: `flip`, `window` and `stride`.
        cell: Pixels are averaged in squares of this side, so the images have (h * cell, w * cell) of them.
    """
    device = next(network.parameters()).device
    unit = math.lcm(cell, network.patch)  # so that a window holds whole patches
    side = max(config.window // unit, 1) * unit // cell if config.window else 0
    stride = max(config.stride // cell, 1) if config.stride else 0
    total: Tensor | None = None
    tags: list[Tensor] = []  # of each window
    visits = torch.zeros(grid)
    for rows in windows(grid[0], side, stride):
        for columns in windows(grid[1], side, stride):
            places = (slice(each.start * cell, each.stop * cell) for each in (rows, columns))
            images = part(*places).to(device)
            if config.flip:
                images = torch.cat([images, images.flip(-1)])
            with torch.autocast(device.type, torch.bfloat16, enabled=config.half(device.type)):
                logits, said = network.see(images)
            probabilities = logits.float().softmax(dim=1)
            said = torch.zeros(1, 1) if said is None else said.float().cpu()
            if config.flip:
                plain, mirrored = probabilities.chunk(2)
                probabilities = (plain + mirrored.flip(-1)) / 2
                said = said.unflatten(0, (2, -1)).mean(dim=0) if len(said) > 1 else said
            tags.append(said)
            if cell > 1:
                probabilities = F.avg_pool2d(probabilities, cell)
            if total is None:
                total = torch.zeros(*probabilities.shape[:2], *grid)
            total[..., rows, columns] += probabilities.cpu()
            visits[rows, columns] += 1
    assert total is not None
    return total.div_(visits), torch.stack(tags).amax(dim=0).expand(len(total), total.shape[1] - 1)


def predict_mask(network: Segmenter, image: Image.Image, config: Inference) -> NDArray[np.uint8]:
    """Mask of a photo at its own size, (H, W) uint8 in 0..C: every pixel is decided.

    Args:
        network: The segmenter.
        image: RGB, any size.
        config: See `look_at`; and `crf`, `limits`.

    Raises:
        ModuleNotFoundError: if a CRF is asked for and pydensecrf2 is not installed.
    """
    return decided_mask(image, look_at(network, [image], config)[0], config)


def decided_mask(image: Image.Image, seen: Seen, config: Inference) -> NDArray[np.uint8]:
    """The same mask from what `look_at` gave."""
    probabilities = without_unlikely(seen, config.limits)
    if config.crf == "none":
        return argmax_at(probabilities, image.size[::-1])
    # A class that leads nowhere only costs time (docs/method.md: CRF on present classes only).
    present = leading_values(probabilities)
    return present[pixel_probabilities(image, probabilities, present, config).argmax(axis=0)].astype(np.uint8)


def without_unlikely(seen: Seen, limits: Sequence[float]) -> Tensor:
    """Probabilities (1 + C, h, w), with 0 for classes whose score does not exceed its limit; empty = all may be."""
    unlikely = [value for value, limit in enumerate(limits, 1) if float(seen.scores[value - 1]) <= limit]
    if not unlikely:
        return seen.probabilities
    kept = seen.probabilities.clone()
    kept[unlikely] = 0
    return kept


def certainties(probabilities: Tensor) -> NDArray[np.float32]:
    """How sure a network is of each class being in the photo, or not being there, (C,); no tag is needed.

    Where a class leads somewhere: its mean probability there, so that a small thing counts as a large one does. Where
    it leads nowhere: 1 - its largest probability.

    Args:
        probabilities: (1 + C, h, w), background first.
    """
    leading = probabilities.argmax(dim=0)
    sure = [
        float(plane[leading == value].mean()) if (leading == value).any() else 1 - float(plane.max())
        for value, plane in enumerate(probabilities[1:], 1)
    ]
    return np.array(sure, np.float32)


def leading_values(probabilities: Tensor) -> NDArray[np.int64]:
    """Sorted mask values that lead at some place of probabilities (1 + C, h, w), and 0, the background."""
    return np.union1d(0, probabilities.argmax(dim=0).numpy()).astype(np.int64)


def chosen_probabilities(
    image: Image.Image, probabilities: Tensor, values: NDArray[np.int64], config: Inference
) -> Stretched:
    """Probabilities of some classes at the photo's size, refined among them by the dense CRF if there is one.

    Args:
        image: RGB, W x H pixels.
        probabilities: (1 + C, h, w), background first.
        values: The n mask values among which each pixel is decided, the background's 0 first.
        config: `crf`, the preset; a CRF works on the whole photo at once.

    Returns:
        (n, H, W), after a CRF summing to 1 over the n values.

    Raises:
        ModuleNotFoundError: if pydensecrf2 is not installed.
    """
    chosen = Stretched(probabilities[torch.from_numpy(values)], image.size[::-1])
    if config.crf == "none":
        return chosen
    refined = crf_step(np.asarray(image), chosen.whole.numpy(), CrfConfig(preset=config.crf))
    return replace(chosen, maps=torch.from_numpy(refined))


def pixel_probabilities(
    image: Image.Image, probabilities: Tensor, values: NDArray[np.int64], config: Inference
) -> NDArray[np.float32]:
    """The same, all at once."""
    return chosen_probabilities(image, probabilities, values, config).whole.numpy()


def argmax_at(probabilities: Tensor, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Most probable class (H, W) of probabilities (K, h, w) stretched to `size`: by bands, class by class."""
    mask = torch.zeros(size, dtype=torch.uint8)
    for rows in bands(size, 1):
        best = torch.full(mask[rows].shape, -1.0)
        for value, plane in enumerate(probabilities):
            stretched = Stretched(plane[None], size).rows(rows)[0]
            mask[rows].masked_fill_(stretched > best, value)
            torch.maximum(best, stretched, out=best)
    return mask.numpy()


def predict_folder(
    network: Segmenter,
    photos: Sequence[Photo],
    folder: Path | str,
    config: Inference,
    max_pixels: int = MAX_PIXELS,
) -> dict[str, int]:
    """Write `<photo id>.png`, an indexed PNG, for every photo; what is there already is kept.

    A mask appears under its name when it is complete, so a killed run goes on where it stopped. Use one folder per
    network and setting: masks of another network would be kept as well.

    Args:
        network: The segmenter.
        photos: Photos to predict.
        folder: Where the masks go.
        config: See `predict_mask`.
        max_pixels: Larger photos are refused by name.

    Returns:
        How many masks were `predicted` now and how many `kept`.
    """
    target = Path(folder)
    for leftover in target.glob(".*.tmp.png"):
        leftover.unlink()  # a killed run's unfinished file
    missing = [photo for photo in photos if not (target / f"{photo.id}.png").is_file()]
    kept = len(photos) - len(missing)
    if kept:
        logger.info("%d of %d masks are in %s already and are kept.", kept, len(photos), target)
    for photo in track(missing, description="predictions", console=Console(stderr=True), disable=not missing):
        image = load_image(photo.image, max_pixels, reading=photo.reading)
        save_mask(target / f"{photo.id}.png", predict_mask(network, image, config))
    return {"predicted": len(missing), "kept": kept}


def _resize(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Planes (B, K, h, w) at `size` (H, W), bilinearly; a sum of 1 over K stays 1."""
    if tuple(planes.shape[-2:]) == size:
        return planes
    return F.interpolate(planes, size=size, mode="bilinear", align_corners=False)


@contextmanager
def _evaluating(network: Segmenter) -> Iterator[None]:
    """Evaluation mode; the network's own mode is restored."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
