from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cti.data.images import load_mask, save_mask
from cti.data.photos import Photo
from cti.segment.masks import MaskFolder, count_pixels, real_mask

Drawn = tuple[list[Photo], Path]


def test_pixels_are_counted(drawn: Drawn) -> None:
    photos, folder = drawn
    expected = np.zeros(4, dtype=np.int64)
    for photo in photos:
        mask = load_mask(folder / f"{photo.id}.png")
        for value in range(4):
            expected[value] += (mask == value).sum()
    assert count_pixels(photos, MaskFolder(folder, 3), 3).tolist() == expected.tolist()


@pytest.mark.parametrize(("value", "what"), [(0, "only background"), (255, "no labelled pixel at all")])
def test_masks_without_foreground_are_refused(drawn: Drawn, value: int, what: str) -> None:
    photos, _ = drawn
    with pytest.raises(ValueError, match=f"6 masks hold {what}, so there is no class to learn"):
        count_pixels(photos, lambda photo: np.full_like(_own(photo, drawn[1]), value), 3)


@pytest.mark.parametrize(
    ("values", "warnings"),
    [
        ([0, 1, 2, 3], []),
        ([255, 1, 2, 3], ["No mask has a background pixel; the segmenter will call every pixel foreground."]),
        ([0, 2, 2, 255], ["No mask holds the classes with the indices [0, 2]; they will not be learned."]),
    ],
)
def test_what_will_not_be_learned_is_said(
    drawn: Drawn, caplog: pytest.LogCaptureFixture, values: list[int], warnings: list[str]
) -> None:
    def mask_of(photo: Photo) -> np.ndarray:
        own = _own(photo, drawn[1])
        return np.resize(np.array(values, np.uint8), own.shape)

    count_pixels(drawn[0], mask_of, 3)
    assert [record.getMessage() for record in caplog.records] == warnings


def test_a_mask_of_another_size_is_named(drawn: Drawn) -> None:
    photos, folder = drawn
    save_mask(folder / "p2.png", np.ones((5, 7), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"mask of p2 is 7 x 5 px, but .*p2.png is"):
        count_pixels(photos, MaskFolder(folder, 3), 3)


def test_a_mask_of_other_classes_is_named(drawn: Drawn) -> None:
    photos, folder = drawn
    with pytest.raises(ValueError, match="unknown values 3"):
        count_pixels(photos, MaskFolder(folder, 2), 2)
    with pytest.raises(ValueError, match="hold the values"):
        count_pixels(photos, MaskFolder(folder, 9), 2)


def test_missing_masks_are_counted_and_named(drawn: Drawn, caplog: pytest.LogCaptureFixture) -> None:
    photos, folder = drawn
    source = MaskFolder(folder, 3)
    assert source.covered(photos) == tuple(photos)
    for name in ("p1", "p4"):
        (folder / f"{name}.png").unlink()
    with pytest.raises(ValueError, match=r"lacks the masks of 2 of 6 photos \(p1, p4\)"):
        source.covered(photos)
    assert [photo.id for photo in source.covered(photos, allow_missing=True)] == ["p0", "p2", "p3", "p5"]
    assert [record.getMessage() for record in caplog.records] == ["2 of 6 photos have no mask and are left out: p1, p4"]
    with pytest.raises(ValueError, match="no mask for any of 6 photos"):
        MaskFolder(folder / "nowhere", 3).covered(photos, allow_missing=True)


def test_an_empty_list(drawn: Drawn) -> None:
    source = MaskFolder(drawn[1], 3)
    with pytest.raises(ValueError, match="list of photos to train the segmenter on is empty"):
        source.covered([])
    with pytest.raises(ValueError, match="list of photos to train the segmenter on is empty"):
        count_pixels([], source, 3)


def test_real_masks(drawn: Drawn) -> None:
    class Source:
        def load(self) -> np.ndarray:
            return np.ones((2, 2), dtype=np.uint8)

    photo = drawn[0][0]
    assert real_mask(replace(photo, mask=Source())).tolist() == [[1, 1], [1, 1]]
    with pytest.raises(ValueError, match="p0 has no mask in the data set"):
        real_mask(photo)


def _own(photo: Photo, folder: Path) -> np.ndarray:
    return load_mask(folder / f"{photo.id}.png")
