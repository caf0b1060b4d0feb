"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # the tests' tensors are tiny; a second thread only costs

REPOSITORY = Path(__file__).resolve().parents[1]


def _found(variable: str, beside: str) -> Path | None:
    """The path named by an environment variable, else what lies in the `shared` folder beside the checkout."""
    named = os.environ.get(variable)
    path = Path(named) if named else REPOSITORY.parent / "shared" / beside
    return path if path.exists() else None


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the data check's cache out of the user's own."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def animals_root() -> Path:
    """Real photos: the voc12-animals folder."""
    path = _found("CTI_DATA", "voc12-animals")
    if path is None:
        pytest.skip("no real photos: set CTI_DATA to the voc12-animals folder")
    return path


@pytest.fixture(scope="session")
def distilled_weights() -> Path:
    """Pre-trained ViT-S/14 weights."""
    path = _found("CTI_WEIGHTS", "weights/vit_small_patch14_distilled.safetensors")
    if path is None:
        pytest.skip("no pre-trained weights: set CTI_WEIGHTS to vit_small_patch14_distilled.safetensors")
    return path


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the oracle's numbers."""
    return Path(__file__).parent / "golden"
