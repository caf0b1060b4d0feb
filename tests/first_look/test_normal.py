"""Normal photos: what an unusual patch is, and which classes stand out."""

import torch

from cti.first_look.gaussian import Gaussian, covariance_of, gaussian, spread_out
from cti.first_look.normal import FEW_PHOTOS, fit_normality, larger
from cti.method.locator import Normality


def test_a_gaussian_whitens() -> None:
    rows = (
        torch.randn(5000, 4, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.tensor([1.0, 2, 3, 4])) + 7
    )
    fit: Gaussian = gaussian(rows.double().mean(dim=0), covariance_of(rows, 0))
    white = (rows - fit.mean) @ fit.whiten
    torch.testing.assert_close(torch.cov(white.T), torch.eye(4), rtol=0.01, atol=0.01)
    torch.testing.assert_close(fit.offset.double(), -torch.logdet(torch.cov(rows.double().T, correction=0)) / 2)
    torch.testing.assert_close(fit.distances(rows.view(50, 100, 4)), white.norm(dim=1))


def test_rows_are_spread_out() -> None:
    assert spread_out(torch.arange(10), 4).tolist() == [0, 3, 6, 9]
    assert spread_out(torch.arange(3), 4).tolist() == [0, 1, 2]


def test_the_area_under_the_roc_counts_ties_half() -> None:
    assert larger(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0])) == (0.5 + 1 + 1 + 1) / 4


def photos(normal: int, generator: torch.Generator) -> tuple[list[torch.Tensor], list[tuple[int, ...]]]:
    """Photos of 8 x 8 patches: normal ones, ten of class 0 with an odd corner, ten of class 1 that look normal."""
    features, tags = [], []
    for number in range(normal + 20):
        patches = torch.randn(8, 8, 5, generator=generator)
        tag = () if number < normal else (int(number >= normal + 10),)
        if tag == (0,):
            patches[:2, :2] += 6
        features.append(patches)
        tags.append(tag)
    return features, tags


def test_classes_that_differ_from_normal_photos_stand_out() -> None:
    generator = torch.Generator().manual_seed(0)
    features, tags = photos(40, generator)
    normality = Normality(5, 2)
    assert not normality.fitted
    fit_normality(normality, features, tags)
    assert normality.speaks_for.tolist() == [True, False]
    odd = normality(features[40]) > 1
    assert odd[:2, :2].all()
    fresh = normality(torch.randn(50_000, 5, generator=generator))
    assert 0.0002 < (fresh > 1).float().mean() < 0.004  # of normal patches never seen, about one in a thousand


def test_a_few_normal_photos_say_nothing() -> None:
    features, tags = photos(FEW_PHOTOS - 1, torch.Generator().manual_seed(0))
    normality = Normality(5, 2)
    normality.speaks_for[0] = True  # of an earlier fit
    fit_normality(normality, features, tags)
    assert not normality.fitted
