"""Bands say what the whole says."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cti.data import stretched
from cti.data.seed_file import to_cams
from cti.data.stretched import Stretched, bands, count_values

SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of a few rows."""
    monkeypatch.setattr(stretched, "BAND", 100)


@settings(deadline=None)
@given(st.tuples(st.integers(1, 9), st.integers(1, 9)), SIDES, st.integers(0, 3), st.booleans(), st.integers(0, 99))
def test_bands_are_rows_of_the_whole(
    grid: tuple[int, int], size: tuple[int, int], planes: int, norm: bool, seed: int
) -> None:
    """Against plain interpolation, and `to_cams` where maps are normalised: over all bands, not in each."""
    maps = torch.randn(planes, *grid, generator=torch.Generator().manual_seed(seed))
    plain = to_cams(maps, size) if norm else F.interpolate(maps[None], size, mode="bilinear")[0] if planes else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretched, "BAND", 100)
        tall = Stretched(maps, size, norm)
        rows = list(bands(size, planes))
        assert all(planes * (each.stop - each.start) * size[1] <= 100 or each.stop - each.start == 1 for each in rows)
        found = torch.cat([tall.rows(each) for each in rows], dim=1)
    assert found.shape == (planes, *size)
    if plain is not None:
        torch.testing.assert_close(found, plain, rtol=1e-5, atol=2e-6)
    assert [each.start for each in rows] == [0, *(each.stop for each in rows[:-1])]
    assert rows[-1].stop == size[0]


def test_a_photo_of_one_band_is_the_same_to_the_last_digit() -> None:
    maps = torch.rand(2, 7, 9)
    assert torch.equal(Stretched(maps, (50, 71), norm=True).rows(slice(0, 50)), to_cams(maps, (50, 71)))
    plain = F.interpolate(maps[None], (50, 71), mode="bilinear", align_corners=False)[0]
    assert torch.equal(Stretched(maps, (50, 71)).rows(slice(3, 9)), plain[:, 3:9])


def test_a_band_never_stretches_the_whole(narrow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    interpolate = F.interpolate

    def noted(*arguments: object, **more: object) -> torch.Tensor:
        made.append((result := interpolate(*arguments, **more)).numel())  # type: ignore[arg-type]
        return result

    monkeypatch.setattr(F, "interpolate", noted)
    tall = Stretched(torch.rand(2, 5, 5), (60, 10), norm=True)
    for rows in bands((60, 10), 2):
        tall.rows(rows)
    assert made
    assert max(made) <= 100


def test_counting_by_bands(narrow: None) -> None:
    mask = np.random.default_rng(0).integers(0, 256, (37, 23), dtype=np.uint8)
    assert (count_values(mask) == np.bincount(mask.ravel(), minlength=256)).all()
