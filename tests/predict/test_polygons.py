import numpy as np
import pytest
from numpy.typing import NDArray

from cti.predict.polygons import pixel_polygons, region_polygons

pytestmark = pytest.mark.filterwarnings("ignore:OpenCV")
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


def ring_of_holes(count: int) -> NDArray[np.bool_]:
    """A plate with a row of holes: a cut from one hole to the outline may not run through the next."""
    plate = np.ones((9, 4 * count + 9), bool)
    plate[3:6, [4 * index + 5 for index in range(count)]] = False
    return plate


@pytest.mark.parametrize(
    "region",
    [rings(40), ~rings(33), np.ones((5, 8), bool), np.eye(6, dtype=bool), ring_of_holes(5), np.ones((1, 1), bool)],
    ids=["rings", "between rings", "everything", "diagonal", "holes", "a pixel"],
)
@pytest.mark.parametrize("rounding", [np.trunc, np.round])
def test_pixel_polygons_draw_the_region_whichever_way_corners_are_rounded(
    region: NDArray[np.bool_], rounding: np.ufunc
) -> None:
    sv = pytest.importorskip("supervision", reason="needs the extra labelling")
    drawn = np.zeros(region.shape, bool)
    for polygon in pixel_polygons(region):
        assert len(np.unique(polygon, axis=0)) >= 4
        drawn |= sv.polygon_to_mask(rounding(polygon).astype(np.int32), region.shape[::-1]).astype(bool)
    np.testing.assert_array_equal(drawn, region)
