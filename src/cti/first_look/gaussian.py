"""Gaussians of patches, and how they are learned from many photos."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cti.method.locator import squared_distances


class Gaussian(NamedTuple):
    """A density of D features.

    Args:
        mean: (D,).
        whiten: (D, D); times its transpose it is the inverse covariance.
        offset: The logarithm of its determinant: of two densities the offsets differ like their peaks.
    """

    mean: Tensor
    whiten: Tensor
    offset: Tensor

    def distances(self, photo: Tensor) -> Tensor:
        """Mahalanobis distances (h * w,) of the patches of a photo (h, w, D)."""
        return squared_distances(photo.flatten(0, 1).float(), self.mean, self.whiten).sqrt()


def gaussian(mean: Tensor, covariance: Tensor) -> Gaussian:
    """The Gaussian of a mean (D,) and a covariance (D, D), both float64."""
    whiten = torch.linalg.cholesky(torch.linalg.inv(covariance))
    return Gaussian(mean.float(), whiten.float(), whiten.diagonal().log().sum().float())


def covariance_of(rows: Tensor, shrinkage: float) -> Tensor:
    """Covariance (D, D) of patches (P, D), with that share of the mean variance added to every variance."""
    covariance = torch.cov(rows.double().T, correction=0)
    return covariance + shrinkage * isotropic(covariance)


def isotropic(covariance: Tensor) -> Tensor:
    """The multiple of the identity that has the same mean variance."""
    size = len(covariance)
    return covariance.diagonal().mean().clamp(min=1e-12) * torch.eye(size, dtype=covariance.dtype)


def spread_out(rows: Tensor, most: int) -> Tensor:
    """At most so many rows, evenly spread."""
    if len(rows) <= most:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, most).round().long()]


def from_photos(photos: Sequence[Tensor], most: int) -> Tensor:
    """At most so many patches (P, D) of photos (h, w, D), about as many of each."""
    each = max(most // len(photos), 1)
    return torch.cat([spread_out(photo.flatten(0, 1), each) for photo in photos]).float()
