"""A tiny segmenter and a few drawn photos with masks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cti.config import SegmentConfig
from cti.data.images import save_mask
from cti.data.photos import Photo

COLOURS = np.array([[40, 40, 40], [220, 40, 40], [40, 220, 40], [40, 40, 220]], dtype=np.uint8)


@pytest.fixture
def tiny() -> SegmentConfig:
    """A two-block ViT on patches of 8 pixels."""
    return SegmentConfig(
        backbone="vit", weights="none", embed_dim=32, depth=2, num_heads=2, patch_size=8, crop_size=32, drop_path=0.0
    )


@pytest.fixture
def drawn(tmp_path: Path) -> tuple[list[Photo], Path]:
    """Photos whose colours say the class of every pixel, and the folder of their masks; 3 classes."""
    rng = np.random.default_rng(0)
    photos = []
    for index in range(6):
        height, width = int(rng.integers(40, 60)), int(rng.integers(40, 60))
        mask = np.zeros((height, width), dtype=np.uint8)
        for value in (1 + index % 3, 1 + (index + 1) % 3):
            top, left = rng.integers(0, height - 20), rng.integers(0, width - 20)
            mask[top : top + 20, left : left + 20] = value
        path = tmp_path / "photos" / f"p{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(COLOURS[mask]).save(path)
        save_mask(tmp_path / "masks" / f"p{index}.png", mask)
        photos.append(Photo(f"p{index}", path, tuple(sorted({int(v) - 1 for v in np.unique(mask) if v}))))
    return photos, tmp_path / "masks"
