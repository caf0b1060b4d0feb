from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cti.apps.export.png import export_png
from cti.classes import voc_palette
from cti.data.images import save_mask

CLASSES = ("cat", "dog", "sofa")


def test_pillow_reads_what_was_written(
    masks: Path, photos: dict[str, Path], drawn_masks: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    result = export_png(masks, photos, CLASSES, tmp_path / "out")
    assert result.images == 4
    for name, mask in drawn_masks.items():
        with Image.open(tmp_path / "out" / f"{name}.png") as image:
            assert image.mode == "P"
            assert image.getpalette() == voc_palette().ravel().tolist()
            np.testing.assert_array_equal(np.array(image), mask)
    every = np.concatenate([mask.ravel() for mask in drawn_masks.values()])
    expected = {name: int((every == value).sum()) for value, name in enumerate(("background", *CLASSES))}
    assert result.pixels == expected | {"unsure": int((every == 255).sum())}
    assert (tmp_path / "out" / "classes.txt").read_text() == "cat\ndog\nsofa\n"


def test_unusable_masks_are_refused(masks: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="list of photos to export is empty"):
        export_png(masks, {}, CLASSES, tmp_path / "out")
    with pytest.raises(ValueError, match="unknown values 3"):
        export_png(masks, photos, CLASSES[:2], tmp_path / "out")
    save_mask(masks / "ring.png", np.zeros((40, 55), np.uint8))
    with pytest.raises(ValueError, match=r"ring\.png is 55 x 40 px, but .*ring\.png is 56 x 40; make the mask again"):
        export_png(masks, photos, CLASSES, tmp_path / "out")
    (masks / "ring.png").unlink()
    with pytest.raises(ValueError, match=r"lacks the masks of 1 of 4 photos \(ring\)"):
        export_png(masks, photos, CLASSES, tmp_path / "out")
