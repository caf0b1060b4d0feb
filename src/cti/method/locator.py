"""Where a photo's classes are, by two densities of frozen patch features: of each class, and of what is normal.

Both are Gaussians that are fitted in closed form (`cti.first_look`), not trained. D features, C classes.
Sources: discriminant analysis with regularised covariances (Friedman 1989); distances from normal patches as in PaDiM
(Defard et al. 2021), here with one Gaussian for all places, for photos are not aligned.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_SOME = 1e-3  # weight of a patch that is background for certain, so that there is always something to pool


class Locator(nn.Module):
    """A Gaussian of the patches of the background and of each class.

    Args:
        dim: D.
        num_classes: C.
    """

    means: Tensor
    whiten: Tensor
    offsets: Tensor

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(1 + num_classes, dim))
        self.register_buffer(
            "whiten", torch.zeros(1 + num_classes, dim, dim)
        )  # times its transpose: inverse covariance
        self.register_buffer("offsets", torch.zeros(1 + num_classes))  # the logarithm of its determinant

    @property
    def fitted(self) -> bool:
        """Whether it knows anything."""
        return bool(self.whiten.any())

    def forward(self, patches: Tensor) -> Tensor:
        """Log densities (..., 1 + C) of patches (..., D), the background first, but for a constant."""
        fields = zip(self.means, self.whiten, self.offsets, strict=True)
        return torch.stack(
            [offset - squared_distances(patches, mean, whiten) / 2 for mean, whiten, offset in fields], dim=-1
        )


class Normality(nn.Module):
    """A Gaussian of the patches of normal photos, the distance that is unusual, and the classes it is evidence of.

    Args:
        dim: D.
        num_classes: C.
    """

    mean: Tensor
    whiten: Tensor
    limit: Tensor
    speaks_for: Tensor

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("whiten", torch.zeros(dim, dim))
        self.register_buffer("limit", torch.ones(()))
        self.register_buffer("speaks_for", torch.zeros(num_classes, dtype=torch.bool))

    @property
    def fitted(self) -> bool:
        """Whether it is evidence of any class."""
        return bool(self.speaks_for.any())

    def forward(self, patches: Tensor) -> Tensor:
        """Distances (...) of patches (..., D) in units of what is unusual: above 1 a patch is hardly a normal one."""
        return squared_distances(patches, self.mean, self.whiten).sqrt() / self.limit


@dataclass(frozen=True)
class Fitted:
    """Which of the parts of a network that are fitted, not trained, know anything."""

    locator: bool
    normality: bool
    tag_head: bool


def fitted_parts(locator: Locator, normality: Normality, tag_head: nn.Linear) -> Fitted:
    """Ask them."""
    return Fitted(locator.fitted, normality.fitted, bool(tag_head.weight.any()))


def pool_foreground(patches: Tensor, places: Tensor) -> Tensor:
    """Mean features (..., D) of the patches (..., N, D), each weighing as much as it is not background.

    Args:
        patches: (..., N, D).
        places: (..., N, 1 + C) log densities by the locator, the background first.
    """
    weights = 1 - places.softmax(dim=-1)[..., :1] + _SOME
    return (weights * patches).sum(dim=-2) / weights.sum(dim=-2)


def squared_distances(patches: Tensor, mean: Tensor, whiten: Tensor) -> Tensor:
    """Squared Mahalanobis distances (...) of patches (..., D)."""
    return ((patches - mean) @ whiten).square().sum(dim=-1)
