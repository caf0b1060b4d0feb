import numpy as np
import pytest
from numpy.typing import NDArray

from cti.apps.export.polygons import region_polygons

codes = pytest.importorskip("pycocotools.mask", reason="needs the extra coco")


def drawn(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The region's polygons as COCO's own code draws them."""
    height, width = region.shape
    polygons = [polygon.ravel().tolist() for polygon in region_polygons(region)]
    return codes.decode(codes.merge(codes.frPyObjects(polygons, height, width))).astype(bool)


def rings(size: int) -> NDArray[np.bool_]:
    """Rings within rings: regions in the holes of regions."""
    rows, columns = np.mgrid[:size, :size]
    return np.hypot(rows - size / 2, columns - size / 2) % 6 < 3


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.8, 0.98])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 2), (24, 31)])
def test_noise_comes_back_pixel_by_pixel(share: float, size: tuple[int, int]) -> None:
    region = np.random.default_rng(int(100 * share) + size[0]).random(size) < share
    region[0, 0] = True
    np.testing.assert_array_equal(drawn(region), region)


@pytest.mark.parametrize(
    "region",
    [rings(40), ~rings(33), np.ones((5, 8), bool), np.eye(6, dtype=bool), np.pad(np.ones((1, 9), bool), 3)],
    ids=["rings", "between rings", "everything", "diagonal", "a line"],
)
def test_shapes_come_back_pixel_by_pixel(region: NDArray[np.bool_]) -> None:
    np.testing.assert_array_equal(drawn(region), region)


def test_one_polygon_for_each_part_whatever_its_holes() -> None:
    region = np.zeros((20, 30), bool)
    region[2:12, 2:20] = True
    region[4:6, 4:6] = region[7:9, 10:14] = False
    region[15:18, 5:9] = True
    polygons = region_polygons(region)
    assert len(polygons) == 2
    for polygon in polygons:
        assert polygon.shape[1] == 2
        assert polygon.min() >= 0
        assert (polygon.max(axis=0) <= (30, 20)).all()


def test_nothing_has_no_polygon() -> None:
    assert region_polygons(np.zeros((4, 5), bool)) == []
