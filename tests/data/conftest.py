"""Tiny data sets, written to a temporary folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cti.data import save_mask


@pytest.fixture
def write_photo() -> Callable[..., Path]:
    """Write a small picture that differs by `seed`; the suffix says the format."""

    def write(path: Path, size: tuple[int, int] = (12, 8), seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def folder_set(tmp_path: Path, write_photo: Callable[..., Path]) -> Callable[..., Path]:
    """Write a folder data set: file name -> tags cell; masks of value 1 for the photos named in `masks`."""

    def write(rows: dict[str, str], masks: tuple[str, ...] = (), **lists: list[str]) -> Path:
        root = tmp_path / "set"
        for seed, name in enumerate(rows):
            write_photo(root / "images" / name, seed=seed)
        lines = ["image,tags", *(f'{name},"{tags}"' for name, tags in rows.items())]
        (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for name in masks:
            save_mask((root / "masks" / name).with_suffix(".png"), np.ones((8, 12), dtype=np.uint8))
        for name, members in lists.items():
            (root / "lists").mkdir(exist_ok=True)
            (root / "lists" / f"{name}.txt").write_text("\n".join(members) + "\n", encoding="utf-8")
        return root

    return write
