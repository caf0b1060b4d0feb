"""What `vit-mlp` learns from: frozen features of patches, computed once, and the classes that a mask shows there.

Nothing before its decoder is trained, so photos go through the ViT once instead of once an epoch. Shapes: P patches,
D features, C classes.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from cti.classes import IGNORE_INDEX
from cti.config import RuntimeConfig, SegmentConfig
from cti.data.batches import load_batches, size_batches
from cti.data.datasets import multi_hot
from cti.data.photos import Photo
from cti.data.windows import windows
from cti.device import quick_bfloat16, sum_of_all, together
from cti.first_look.head import choose_head
from cti.segment.masks import MaskOf, ReviewedOf, count_pixels
from cti.segment.networks import MLPDecoder, ViTSegmenter
from cti.train.optimiser import parameter_groups

MAX_PATCHES = 200_000
"""Most patches that are learned from; 768 features each are 300 MB in half precision."""
CHUNK = 256
"""Patches of one item of the data set; a step takes `batch_size` of them."""
STEPS, WARM_STEPS = 800, 200
"""Steps for `epochs: 0`: of a decoder that knows nothing yet, and of one that goes on from its weights."""
_SHOWN = 0.02  # from this share of its pixels on a patch shows a class


class PatchDataset(Dataset[dict[str, Tensor]]):
    """Random patches, indexed by (epoch, index), every draw derived from (seed, epoch, index).

    An item is {"patches": (256, D) float16, "shares": (256, 1 + C) float32}.

    Args:
        patches: (P, D) float16 features.
        shares: (P, 1 + C) of each patch's pixels, by their label; they sum to 1 less the share of unlabelled
            ones, or to more where a person gave the labels.
        seed: Seed of all draws.
        by_photo: Photo id -> number of its patches, in their order; what of a photo is left is in one piece.
    """

    def __init__(
        self, patches: Tensor, shares: Tensor, seed: int, by_photo: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        self.patches, self.shares, self._seed, self.by_photo = patches, shares, seed, by_photo

    def __len__(self) -> int:
        return math.ceil(len(self.patches) / CHUNK)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        drawn = torch.from_numpy(np.random.default_rng((self._seed, *key)).integers(len(self.patches), size=CHUNK))
        return {"patches": self.patches[drawn], "shares": self.shares[drawn]}

    def epochs(self, batch_size: int, warm: bool) -> int:
        """Passes for `epochs: 0`; `warm` = the decoder goes on from its weights."""
        return math.ceil((WARM_STEPS if warm else STEPS) / max(len(self) // batch_size, 1))


def frozen_features(
    network: ViTSegmenter, photos: Sequence[Photo], long_side: int, window: int, runtime: RuntimeConfig
) -> Iterator[tuple[Photo, Tensor]]:
    """Run the frozen ViT over photos, as large as they will be predicted, in batches of one size.

    Args:
        network: On its device.
        photos: Photos.
        long_side: Their longest side in pixels; 0 = own size.
        window: Larger photos are seen in windows of this side in pixels, as in prediction; 0 = whole.
        runtime: Photos per forward pass, and processes that load them.

    Yields:
        Each photo, sorted by size, and its features (h, w, D) in float16 on the CPU.
    """
    network.eval()
    device = next(network.parameters()).device
    batches = size_batches(photos, long_side, network.multiple, runtime.batch_size)
    for batch, images in load_batches(batches, network.mean, network.std, runtime, "features"):
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=quick_bfloat16(device.type)):
            features = windowed_features(network, images.to(device), window)  # (B, D, h, w)
        yield from zip(batch.photos, features.movedim(1, -1).float().clamp(-65504, 65504).half().cpu(), strict=True)


def patch_dataset(
    photos: Sequence[Photo],
    features: Iterable[tuple[Photo, Tensor]],
    mask_of: MaskOf,
    num_classes: int,
    config: SegmentConfig,
    reviewed: ReviewedOf | None = None,
) -> PatchDataset:
    """Choose patches, and say what they show.

    Of each photo about as many are taken: half of them, if there are so many, where the mask shows a class. Of a photo
    whose mask a person gave all are.

    Args:
        photos: Photos with masks.
        features: Of these photos, see `frozen_features`; asked for once the masks are found to be sound.
        mask_of: Gives a photo's mask (H, W) uint8.
        num_classes: C.
        config: `reviewed_weight`, and the seed of all draws.
        reviewed: Says which pixels of a photo count `config.reviewed_weight` times; None = none does.

    Raises:
        ValueError: if the masks cannot be learned from (see `count_pixels`).
    """
    count_pixels(photos, mask_of, num_classes)
    quota = max(MAX_PATCHES // (2 * len(photos)), 1)
    rng = np.random.default_rng(config.train.seed)
    kept: list[tuple[Tensor, Tensor]] = []
    by_photo: dict[str, int] = {}
    for photo, found in features:
        grid = (found.shape[0], found.shape[1])
        shares = patch_shares(mask_of(photo), grid, num_classes)
        known = reviewed(photo) if reviewed is not None else None
        if known is not None:
            more = patch_shares(np.where(known, mask_of(photo), IGNORE_INDEX).astype(np.uint8), grid, num_classes)
            shares = shares + (config.reviewed_weight - 1) * more
        shares = shares.flatten(0, 1)  # (h * w, 1 + C)
        chosen = choose(shares, quota if known is None else len(shares), rng)
        kept.append((found.flatten(0, 1)[chosen], shares[chosen]))
        by_photo[photo.id] = len(chosen)
    patches, shares = (torch.cat(parts) for parts in zip(*kept, strict=True))
    return PatchDataset(patches, shares, config.train.seed, by_photo)


@torch.no_grad()
def fit_tag_head(decoder: MLPDecoder, dataset: PatchDataset, photos: Sequence[Photo], classes: Sequence[str]) -> None:
    """Fit the head of a trained decoder that says which tags a photo has, by the photos' tags.

    Args:
        decoder: Gets the head; in evaluation mode.
        dataset: What it has learned from.
        photos: Photos; those of which `dataset` has no patch do not count.
        classes: The C class names.
    """
    decoder.eval()
    device, pooled = decoder.mean.device, dict[str, Tensor]()
    for name, patches in zip(dataset.by_photo, dataset.patches.split(list(dataset.by_photo.values())), strict=True):
        if len(patches):
            pooled[name] = decoder.pool(patches.float().to(device)).cpu()
    known = [photo for photo in photos if photo.id in pooled]
    labels = torch.stack([multi_hot(photo.tags, len(classes)) for photo in known])
    head, _, _ = choose_head(torch.stack([pooled[photo.id] for photo in known]), labels, classes)
    decoder.tag_head.weight.copy_(head.weight.T)
    decoder.tag_head.bias.copy_(head.bias)


def windowed_features(network: ViTSegmenter, images: Tensor, window: int) -> Tensor:
    """Features (B, D, h, w) of images (B, 3, H, W), seen in windows of that side; 0 = whole."""
    patch = network.multiple
    grid = images.shape[-2] // patch, images.shape[-1] // patch
    most = window // patch  # windows begin at patches, so that those of neighbouring windows join
    total: Tensor | None = None
    for rows in windows(grid[0], most, most):
        for columns in windows(grid[1], most, most):
            seen = images[..., rows.start * patch : rows.stop * patch, columns.start * patch : columns.stop * patch]
            found = network.features(seen)
            total = found.new_zeros(*found.shape[:2], *grid) if total is None else total
            total[..., rows, columns] = found
    assert total is not None
    return total


def patch_shares(mask: NDArray[np.uint8], grid: tuple[int, int], num_classes: int) -> Tensor:
    """Shares (h, w, 1 + C) of the pixels of each patch that a mask (H, W) gives to the background and each class."""
    values = torch.from_numpy(np.array(mask)).long()
    labels = values.where(values <= num_classes, 1 + num_classes)  # unlabelled pixels: dropped below
    planes = F.one_hot(labels, num_classes + 2)[..., :-1].movedim(-1, 0).float()
    return F.adaptive_avg_pool2d(planes, grid).movedim(0, -1)


def choose(shares: Tensor, quota: int, rng: np.random.Generator) -> Tensor:
    """Places of at most 2 * `quota` labelled patches of shares (N, 1 + C), those that show a class before others."""
    shown = shares[:, 1:].sum(dim=1) > _SHOWN
    labelled = shares.sum(dim=1) > 0
    chosen = []
    for pool in (shown, labelled & ~shown):
        places = pool.nonzero()[:, 0].numpy()
        chosen.append(rng.permutation(places)[:quota])
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def class_weights(shares: Tensor, balance: float) -> Tensor:
    """Weights (1 + C,) of the classes in the loss: their shares to the power of minus `balance`; the mean over
    pixels is 1.

    Args:
        shares: (P, 1 + C).
        balance: 0 = all alike.
    """
    patches = shares.double().sum(dim=0)
    weights = (patches.clamp(min=1.0) / patches.sum()) ** -balance  # a class of no patch weighs like one of a patch
    return (weights * patches.sum() / (weights * patches).sum()).float()


def patch_loss(logits: Tensor, shares: Tensor, weights: Tensor, counted: float | None = None) -> Tensor:
    """Cross-entropy between predicted and true shares, averaged over labelled pixels; 0 if none is labelled.

    Args:
        logits: (P, 1 + C).
        shares: (P, 1 + C), the weights of their labels.
        weights: (1 + C,) of the classes.
        counted: What the sum is divided by, for several devices that average their losses; None = the sum of weights.
    """
    weighed = weights * shares
    counted = float(weighed.sum()) if counted is None else counted
    total = -(weighed * logits.log_softmax(dim=-1)).sum()
    return total / counted if counted else total


class PatchStep(nn.Module):
    """What the trainer minimises.

    Args:
        network: A `vit-mlp`; a fresh decoder is given the features' mean and deviation.
        dataset: Of which classes are weighed.
        balance: See `class_weights`.
        fresh: Whether the decoder has learned nothing yet.
    """

    weights: Tensor

    def __init__(self, network: ViTSegmenter, dataset: PatchDataset, balance: float, fresh: bool) -> None:
        super().__init__()
        assert isinstance(network.decoder, MLPDecoder)
        self.decoder = decoder = network.decoder
        self.register_buffer("weights", class_weights(dataset.shares, balance))
        if fresh:
            patches = dataset.patches.float()
            decoder.mean.copy_(patches.mean(dim=0))
            decoder.std.copy_(patches.std(dim=0, correction=0).clamp(min=1e-4))

    def forward(self, batch: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        """Loss and accuracy.

        Args:
            batch: "patches" (B, 256, D), "shares" (B, 256, 1 + C).
            epoch: Not used; the step is the same in every epoch.

        Returns:
            "loss"; "accuracy", share of the patches whose largest class is found.
        """
        logits = self.decoder.classify(batch["patches"].float()).float().flatten(0, 1)
        shares = batch["shares"].flatten(0, 1)
        counted = float(sum_of_all((self.weights * shares).sum())) / together()  # on each device, on average
        right = logits.detach().argmax(dim=1) == shares.argmax(dim=1)
        return {"loss": patch_loss(logits, shares, self.weights, counted), "accuracy": right.float().mean()}

    def parameter_groups(self, config: SegmentConfig) -> list[dict[str, Any]]:
        """Groups for the optimiser: all is new, and learns at `lr * new_lr_factor`."""
        return parameter_groups(self, config.train, new=("decoder.",))
