"""Normal photos: what an unusual patch is, and which classes stand out."""

import pytest
import torch

from cti.first_look.gaussian import Gaussian, covariance_of, from_photos, gaussian, isotropic, spread_out
from cti.first_look.normal import FEW_PHOTOS, _unusual_shares, fit_normality, larger
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


def test_a_covariance_is_widened_by_a_share_of_the_mean_variance() -> None:
    rows = torch.tensor([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0]])
    plain = torch.tensor([[8 / 3, 4 / 3], [4 / 3, 8 / 3]], dtype=torch.float64)
    torch.testing.assert_close(covariance_of(rows, 0), plain)
    torch.testing.assert_close(covariance_of(rows, 0.1), plain + torch.eye(2, dtype=torch.float64) * 0.8 / 3)
    torch.testing.assert_close(isotropic(torch.diag(torch.tensor([1.0, 5.0]))), 3 * torch.eye(2))
    assert covariance_of(torch.ones(3, 2), 1.0).diagonal().min() > 0  # of patches that are all the same


def test_of_each_photo_about_as_many_patches_are_taken() -> None:
    photos = [torch.full((10, 10, 2), 1.0), torch.full((2, 2, 2), 2.0), torch.full((5, 8, 2), 3.0)]
    rows = from_photos(photos, 30)
    assert rows.shape == (24, 2)
    assert [(rows[:, 0] == value).sum().item() for value in (1, 2, 3)] == [10, 4, 10]
    assert len(from_photos(photos, 2)) == 3  # at least one of each


def test_rows_are_spread_out() -> None:
    assert spread_out(torch.arange(10), 4).tolist() == [0, 3, 6, 9]
    assert spread_out(torch.arange(3), 4).tolist() == [0, 1, 2]


def test_the_area_under_the_roc_counts_ties_half() -> None:
    assert larger(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0])) == (0.5 + 1 + 1 + 1) / 4


def test_how_unusual_a_photo_is_does_not_grow_with_its_size() -> None:
    small, large = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.zeros(4, 4)
    large[0] = 2
    assert _unusual_shares([small, large], torch.tensor(1.0)).tolist() == [0.25, 0.25]


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


def test_the_fit_is_that_of_a_loop() -> None:
    """The limit is found on photos left out, half by half; a class stands out by the pairs of its photos and these."""
    generator = torch.Generator().manual_seed(2)
    features, tags = photos(FEW_PHOTOS, generator)
    normality = Normality(5, 3)
    fit_normality(normality, features, tags)
    normal = features[:FEW_PHOTOS]

    def fitted(some: list[torch.Tensor]) -> Gaussian:
        rows = torch.cat([each.flatten(0, 1) for each in some])
        covariance = torch.cov(rows.double().T, correction=0)
        return gaussian(rows.double().mean(dim=0), covariance + 0.01 * covariance.diagonal().mean() * torch.eye(5))

    odd, even = fitted(normal[1::2]), fitted(normal[::2])
    left_out = [(odd if number % 2 == 0 else even).distances(each) for number, each in enumerate(normal)]
    torch.testing.assert_close(normality.limit, torch.quantile(torch.cat(left_out), 0.999))
    whole = fitted(normal)
    torch.testing.assert_close(normality.mean, whole.mean)
    torch.testing.assert_close(normality.whiten, whole.whiten)
    assert normality.speaks_for.tolist() == [True, False, False]  # of the last there is no photo


@pytest.mark.parametrize(("share", "speaks"), [(0.65, True), (0.649, False)])
def test_how_often_a_class_must_stand_out(monkeypatch: pytest.MonkeyPatch, share: float, speaks: bool) -> None:
    monkeypatch.setattr("cti.first_look.normal.larger", lambda ours, theirs: share)
    normality = Normality(5, 2)
    fit_normality(normality, *photos(FEW_PHOTOS, torch.Generator().manual_seed(0)))
    assert normality.speaks_for.tolist() == [speaks, speaks]
    assert _unusual_shares([torch.tensor([1.0, 1.5])], torch.tensor(1.0)).tolist() == [0.5]  # above the limit only
