"""A tiny run, and masks that are hard to say in other formats."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cti.data.images import save_mask
from tiny import make_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("export"))


@pytest.fixture
def drawn_masks() -> dict[str, NDArray[np.uint8]]:
    """Classes 1..3: a ring with something in it, two parts, touching classes, borders, unsure pixels, nothing."""
    rows, columns = np.mgrid[:40, :56]
    distance = np.hypot(rows - 20, columns - 24)
    ring = np.zeros((40, 56), np.uint8)
    ring[(distance > 9) & (distance < 16)] = 1
    ring[distance < 5] = 2
    parts = np.zeros((30, 33), np.uint8)
    parts[2:9, 2:9] = parts[15:30, 20:33] = 3
    parts[9:12, 2:9] = 1
    parts[0, :] = 255
    unsure = np.zeros((16, 12), np.uint8)
    unsure[:4] = 255
    return {"nothing": np.zeros((8, 9), np.uint8), "parts": parts, "ring": ring, "unsure": unsure}


@pytest.fixture
def masks(drawn_masks: dict[str, NDArray[np.uint8]], tmp_path: Path) -> Path:
    """The same as files."""
    for name, mask in drawn_masks.items():
        save_mask(tmp_path / "masks" / f"{name}.png", mask)
    return tmp_path / "masks"


@pytest.fixture
def photos(drawn_masks: dict[str, NDArray[np.uint8]], tmp_path: Path) -> dict[str, Path]:
    """Their photos, one in a folder of its own, one lying on its side (EXIF)."""
    paths = {"nothing": "nothing.jpg", "parts": "parts.jpg", "ring": "holiday/ring.png", "unsure": "unsure.jpg"}
    found = {}
    for name, place in paths.items():
        height, width = drawn_masks[name].shape
        path = tmp_path / "photos" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if name == "parts":
            exif[0x0112] = 6  # shown turned by a quarter
            width, height = height, width
        Image.new("RGB", (width, height), "green").save(path, exif=exif)
        found[name] = path
    return found
