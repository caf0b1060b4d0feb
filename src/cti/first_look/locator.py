"""Which patches are a class: a Gaussian of each class's patches, learned from the maps of the linear head.

The head answers for the whole photo, so its maps rest on whatever tells the tags apart, most of all on the most
telling part of a thing. The locator learns, from patches where those maps are high or low, what all patches of a class
and of the background look like, on features of a middle block, which are less smeared than the last one's. It is
self-training (as in Lee 2013, "Pseudo-Label") with tags alone, in closed form. Shapes: D features, C classes, n photos.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cti.data import Photo
from cti.first_look.features import PatchFeatures
from cti.first_look.gaussian import covariance_of, gaussian, isotropic, spread_out
from cti.first_look.head import choose_head
from cti.first_look.normal import fit_normality
from cti.method import CTI
from cti.method.attention import max_norm
from cti.method.locator import Locator, pool_foreground
from cti.train.tagging import labels_of

HIGH, LOW = 0.5, 0.15  # of a class's maximum in the photo: above it is the class, below it, for all, the background
ENOUGH_PHOTOS = 500
"""Photos from which it is fitted once more after training."""
_MAX_PATCHES = 160_000
_OWN = 0.3  # of a class's covariance is its own, the rest that of all classes; few photos bear no more
_SHRINKAGE = 0.1


@torch.no_grad()
def locate(model: CTI, features: PatchFeatures, photos: Sequence[Photo]) -> Tensor | None:
    """Fit what a network with a locator knows besides its heads: locator, normality, tags by what is not background.

    Args:
        model: The network, with a patch head that knows the tags.
        features: Of the photos, by this network; the first half of each are those of the middle block.
        photos: Photos.

    Returns:
        Logits (n, C) of their tags in cross-validation; None if nothing was fitted.
    """
    if model.locator is None or model.normality is None or model.tag_head is None:
        return None
    width, C = model.locator.means.shape[1], len(model.classes)
    tags = [photo.tags for photo in photos]
    maps = []
    for kept, own in zip(features.maps, tags, strict=True):
        logits = model.patch_head(kept.to(model.device).float().permute(2, 0, 1)[None])[0, -C:]
        maps.append(max_norm(logits[list(own)].cpu()))
    patches = [kept[..., :width] for kept in features.maps]
    fit_locator(model.locator, patches, maps, tags)
    fit_normality(model.normality, patches, tags)
    if not model.locator.fitted:
        return None
    head, _, logits = choose_head(foreground_of(model, features), labels_of(photos, C), model.classes)
    model.tag_head.weight.copy_(head.weight.T)
    assert model.tag_head.bias is not None
    model.tag_head.bias.copy_(head.bias)
    return logits


@torch.no_grad()
def foreground_of(model: CTI, features: PatchFeatures) -> Tensor:
    """Mean features (n, D) of what is not background, for a network with a fitted locator."""
    assert model.locator is not None
    width, device = model.locator.means.shape[1], model.device
    pooled = []
    for kept in features.maps:
        patches = kept.flatten(0, 1).float().to(device)
        pooled.append(pool_foreground(patches, model.locator(patches[:, :width])).cpu())
    return torch.stack(pooled)


def standing_out(model: CTI) -> tuple[str, ...]:
    """Classes that are located by what differs from normal photos."""
    if model.normality is None:
        return ()
    return tuple(name for name, found in zip(model.classes, model.normality.speaks_for, strict=True) if found)


def fit_locator(
    locator: Locator, patches: Sequence[Tensor], maps: Sequence[Tensor], tags: Sequence[Sequence[int]]
) -> None:
    """Fit the locator to maps of the photos' own classes; it stays as it is if no patch is background or none a class.

    Args:
        locator: Gets the fit. A class without a patch gets the mean of all patches.
        patches: Per photo (h, w, D) features.
        maps: Per photo (t, h, w) in [0, 1], of its t tags by the first head.
        tags: Per photo its 0-based classes; a photo without any is background all over.
    """
    targets = [patch_targets(each, own) for each, own in zip(maps, tags, strict=True)]
    rows, labels = _chosen(patches, targets)
    chosen = {int(label): rows[labels == label] for label in labels.unique()}
    if 0 not in chosen or len(chosen) < 2:
        return
    own = {label: covariance_of(each, 0) for label, each in chosen.items()}
    within = torch.stack([len(chosen[label]) * own[label] for label in own]).sum(dim=0) / len(rows)
    shared = within + _SHRINKAGE * isotropic(within)
    for channel in range(len(locator.means)):
        mean = chosen.get(channel, rows).double().mean(dim=0)
        covariance = _OWN * own[channel] + (1 - _OWN) * shared if channel in own else shared
        fit = gaussian(mean, covariance)
        locator.means[channel], locator.whiten[channel], locator.offsets[channel] = fit


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


def _chosen(patches: Sequence[Tensor], targets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Features (P, D) and targets (P,) of patches to learn from: of each photo and class about as many."""
    most = max(_MAX_PATCHES // (2 * len(targets)), 4)
    features, labels = [torch.empty(0, patches[0].shape[-1])], [torch.empty(0, dtype=torch.long)]
    for maps, target in zip(patches, targets, strict=True):
        for label in target.unique().tolist():
            if label < 0:
                continue
            index = spread_out((target == label).nonzero().flatten(), most)
            features.append(maps.flatten(0, 1)[index].float())
            labels.append(torch.full((len(index),), label))
    return torch.cat(features), torch.cat(labels)
