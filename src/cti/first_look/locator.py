"""A second linear head, learned from the maps of the first: not whether a class is there, but which patches are it.

The first head answers for the whole photo, so its maps rest on whatever tells the tags apart, most of all on the most
telling part of a thing. The locator learns, from patches where those maps are high or low, to tell the classes
and the background apart patch by patch, on features of a middle block, which are less smeared than the last one's. It
is self-training (as in Lee 2013, "Pseudo-Label") with tags alone. Shapes: D features, C classes, n photos.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cti.data import Photo
from cti.first_look.features import PatchFeatures
from cti.first_look.head import LinearHead
from cti.method import CTI
from cti.method.attention import max_norm

HIGH, LOW = 0.5, 0.15  # of a class's maximum in the photo: above it is the class, below it, for all, the background
ROUNDS = 2
MAX_PATCHES = 36_000
ENOUGH_PHOTOS = 500
"""Photos from which it is fitted once more after training."""
_PENALTY = 1e-3
_STEPS = 60  # of L-BFGS


@torch.no_grad()
def locate(model: CTI, features: PatchFeatures, photos: Sequence[Photo]) -> None:
    """Fit the locator of a network that has one to its own patch maps.

    Args:
        model: The network, with a patch head that knows the tags.
        features: Of the photos, by this network; the first half of each are those of the middle block.
        photos: Photos.
    """
    if model.locator is None:
        return
    width, C = model.locator.in_features, len(model.classes)
    tags = [photo.tags for photo in photos]
    maps = []
    for kept, own in zip(features.maps, tags, strict=True):
        logits = model.patch_head(kept.to(model.device).float().permute(2, 0, 1)[None])[0, -C:]
        maps.append(logits[list(own)].cpu())
    locator = fit_locator([kept[..., :width] for kept in features.maps], maps, tags, C)
    if locator is not None:
        model.locator.weight.copy_(locator.weight.T)
        model.locator.bias.copy_(locator.bias)


@torch.enable_grad()
def fit_locator(
    patches: Sequence[Tensor], maps: Sequence[Tensor], tags: Sequence[Sequence[int]], num_classes: int
) -> LinearHead | None:
    """Fit the locator to maps of the photos' own classes, then once more to what it says itself within them.

    Args:
        patches: Per photo (h, w, D) features.
        maps: Per photo (t, h, w) logits of its t tags by the first head.
        tags: Per photo its 0-based classes; a photo without any is background all over.
        num_classes: C.

    Returns:
        A head of 1 + C channels, the background first; None if no patch is background or none is a class.
    """
    locator = None
    first = [max_norm(each) for each in maps]
    for _ in range(ROUNDS):
        relative = first if locator is None else _within(locator, first, patches, tags)
        targets = [patch_targets(each, own) for each, own in zip(relative, tags, strict=True)]
        features, labels, weights = _chosen(patches, targets)
        if len(labels.unique()) < 2:
            return None
        locator = _softmax_regression(features, labels, weights, 1 + num_classes)
    return locator


def patch_targets(relative: Tensor, tags: Sequence[int]) -> Tensor:
    """What each patch of a photo is: 0 = background, class + 1, or -1 where it is not clear.

    Args:
        relative: (t, h, w) in [0, 1] of the photo's t classes.
        tags: Its t classes.

    Returns:
        (h * w,) integers.
    """
    if not len(tags):
        return torch.zeros(relative.shape[-2] * relative.shape[-1], dtype=torch.long)
    strongest, which = relative.flatten(1).max(dim=0)
    classes = torch.tensor(list(tags))[which] + 1
    return torch.where(strongest > HIGH, classes, torch.where(strongest < LOW, 0, -1))


def _within(
    locator: LinearHead, first: Sequence[Tensor], patches: Sequence[Tensor], tags: Sequence[Sequence[int]]
) -> list[Tensor]:
    """Geometric means of the first maps and of the locator's probabilities among the photo's own classes."""
    means = []
    for relative, features, own in zip(first, patches, tags, strict=True):
        logits = locator(features)[..., [0, *(tag + 1 for tag in own)]].permute(2, 0, 1)  # (1 + t, h, w)
        means.append(max_norm((relative * logits.softmax(dim=0)[1:]).sqrt()))
    return means


def _chosen(patches: Sequence[Tensor], targets: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Features (P, D), targets (P,) and weights (P,) of patches to learn from: each class of a photo weighs 1."""
    most = max(MAX_PATCHES // (2 * len(targets)), 4)  # of a class in a photo
    features, labels, weights = [], [], []
    for maps, target in zip(patches, targets, strict=True):
        for label in target.unique().tolist():
            if label < 0:
                continue
            index = (target == label).nonzero().flatten()
            index = index[torch.linspace(0, len(index) - 1, min(len(index), most)).round().long()]
            features.append(maps.flatten(0, 1)[index])
            labels.append(torch.full((len(index),), label))
            weights.append(torch.full((len(index),), 1 / len(index)))
    if not features:
        return torch.empty(0), torch.empty(0), torch.empty(0)
    return torch.cat(features).float(), torch.cat(labels), torch.cat(weights)


def _softmax_regression(features: Tensor, labels: Tensor, weights: Tensor, channels: int) -> LinearHead:
    mean, std = features.mean(dim=0), features.std(dim=0, correction=0).clamp(min=1e-6)
    standard = (features - mean) / std
    weight = torch.zeros(features.shape[1], channels, requires_grad=True)
    bias = torch.zeros(channels, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        losses = F.cross_entropy(standard @ weight + bias, labels, reduction="none")
        value = (losses * weights).sum() / weights.sum() + _PENALTY * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    folded = weight.detach() / std[:, None]
    return LinearHead(folded, bias.detach() - mean @ folded)
