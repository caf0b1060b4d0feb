"""Files of seeds: what is written is read, whatever the number of classes, and what cannot be is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cti.data.seed_file import Seed, read_seed, write_seed


def _seed(classes: int, background: bool, scale: float = 1.0) -> Seed:
    maps = scale * np.random.default_rng(classes).normal(size=(1 + classes, 3, 4)).astype(np.float32)
    return Seed(tuple(range(1, 2 * classes, 2)), (24, 32), maps[1:], maps[0] if background else None)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("classes", [0, 1, 2, 4])
def test_what_is_written_is_read(tmp_path: Path, classes: int, background: bool) -> None:
    """Each kind has its own maps, to half precision of each map's range; the first kind is read if none is named."""
    first, second = _seed(classes, background), _seed(classes, background, 1e6)
    write_seed(tmp_path / "a.npz", {"refined": first, "patch": second})
    for kind, expected, scale in (("", first, 1.0), ("refined", first, 1.0), ("patch", second, 1e6)):
        found = read_seed(tmp_path / "a.npz", kind)
        assert (found.class_indices, found.size) == (expected.class_indices, expected.size)
        np.testing.assert_allclose(found.maps, expected.maps, atol=2e-3 * scale)
        assert (found.background is None) is (expected.background is None)
        if found.background is not None:
            np.testing.assert_allclose(found.background, expected.background, atol=2e-3 * scale)
    with pytest.raises(ValueError, match="has no 'fused' maps"):
        read_seed(tmp_path / "a.npz", "fused")


@pytest.mark.parametrize(
    "change",
    [
        {"class_indices": np.array([-1, 2])},
        {"class_indices": np.array([1])},
        {"size": np.array([0, 4])},
        {"size": np.array([4, 0])},
        {"has_background/refined": np.array(False)},
        {"maps/refined": np.full((3, 3, 4), np.nan, np.float16)},
    ],
)
def test_contents_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    write_seed(tmp_path / "a.npz", {"refined": _seed(2, background=True)})
    with np.load(tmp_path / "a.npz") as arrays:
        content = dict(arrays)
    np.savez(tmp_path / "a.npz", **(content | change))
    with pytest.raises(ValueError, match=r"a\.npz is not a seed file .*delete it and run `cti seeds` again"):
        read_seed(tmp_path / "a.npz")
