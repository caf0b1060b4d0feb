"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bfloat16", choices=("yes", "no"), help="pretend that this processor is (not) quick at bfloat16")


@pytest.fixture(scope="session", autouse=True)
def _quick_bfloat16(request: pytest.FixtureRequest) -> Iterator[None]:
    """With --bfloat16, all that is left to `precision: auto` computes as on a processor of that kind."""
    answer = request.config.getoption("--bfloat16")
    with pytest.MonkeyPatch.context() as patch:
        if answer is not None:
            patch_bfloat16(patch, quick=answer == "yes")
        yield


def patch_bfloat16(patch: pytest.MonkeyPatch, quick: bool) -> None:
    """Let torch say that the processor multiplies bfloat16 quickly, or that it does not."""
    for instructions in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        patch.setattr(torch.cpu, instructions, lambda: quick)


@pytest.fixture(params=[False, True], ids=["float32-processor", "bfloat16-processor"])
def either_processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run a test as on a processor without and with quick bfloat16; the value says which."""
    patch_bfloat16(monkeypatch, quick=request.param)
    return bool(request.param)


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
