"""Fit to normal photos what a normal patch looks like, and find out which classes stand out from it.

A class of defects is often a few patches that differ from everything that faultless photos show, in ways that a head
learned from whole photos does not need to know. Whether that is so for a class, the tags tell: its photos then hold
more unusual patches than normal photos do. For others (a tile uneven as a whole) the locator stays in charge.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cti.first_look.gaussian import Gaussian, covariance_of, from_photos, gaussian, spread_out
from cti.method.locator import Normality

FEW_PHOTOS = 10
"""With fewer normal photos than that nothing is fitted."""
UNUSUAL = 0.999  # of the patches of normal photos that were left out are nearer than the limit
STANDS_OUT = 0.65  # of the pairs of a photo of the class and a normal one, the former has the larger unusual share
_MAX_PATCHES = 60_000
_SHRINKAGE = 1e-2


@torch.no_grad()
def fit_normality(normality: Normality, patches: Sequence[Tensor], tags: Sequence[Sequence[int]]) -> None:
    """Fit the Gaussian to the photos without any class, its limit to such photos left out, then choose the classes.

    Args:
        normality: Gets the fit; if there are too few normal photos, it speaks for no class.
        patches: Per photo (h, w, D) features.
        tags: Per photo its 0-based classes; a photo without any is a normal one.
    """
    speaks_for = torch.zeros(normality.speaks_for.shape, dtype=torch.bool)
    normal = [each for each, own in zip(patches, tags, strict=True) if not len(own)]
    if len(normal) >= FEW_PHOTOS:
        # Distances of normal photos are taken from the Gaussian of the other half: their own is too close to them.
        halves = normal[::2], normal[1::2]
        fits = reversed([_fit(half) for half in halves])
        left_out = [fit.distances(each) for half, fit in zip(halves, fits, strict=True) for each in half]
        limit = torch.quantile(_some(left_out), UNUSUAL)
        fit = _fit(normal)
        usual = _unusual_shares(left_out, limit)
        for index in range(len(speaks_for)):
            of_class = [fit.distances(each) for each, own in zip(patches, tags, strict=True) if index in own]
            speaks_for[index] = bool(of_class) and larger(_unusual_shares(of_class, limit), usual) >= STANDS_OUT
        normality.mean.copy_(fit.mean)
        normality.whiten.copy_(fit.whiten)
        normality.limit.copy_(limit)
    normality.speaks_for.copy_(speaks_for)


def larger(ours: Tensor, theirs: Tensor) -> float:
    """The share of pairs in which ours (n,) is larger than theirs (m,), ties counting half: the area under the ROC."""
    difference = ours[:, None] - theirs[None]
    return float((difference > 0).float().mean() + (difference == 0).float().mean() / 2)


def _fit(photos: Sequence[Tensor]) -> Gaussian:
    rows = from_photos(photos, _MAX_PATCHES)
    return gaussian(rows.double().mean(dim=0), covariance_of(rows, _SHRINKAGE))


def _unusual_shares(photos: Sequence[Tensor], limit: Tensor) -> Tensor:
    return torch.stack([(each > limit).float().mean() for each in photos])


def _some(photos: Sequence[Tensor]) -> Tensor:
    """Distances of all photos in one row, thinned out to what a quantile can be taken of."""
    return torch.cat([spread_out(each, max(10_000_000 // len(photos), 1)) for each in photos])
