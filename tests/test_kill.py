"""A real run, killed at several moments and called again, ends as if it had never been killed."""

import signal
import time
from pathlib import Path

import pytest
import torch

from cti.data import load_mask
from cti.data.seed_file import read_seed
from cti.files import MANIFEST, atomic_path, read_json, read_manifest
from cti.method.checkpoint import load_model
from slow_run import start
from tiny import options, tiny_shapes

STAGES = ("train", "seeds", "masks", "segment", "evaluate")


def kill_when(words: list[str], folder: Path, pattern: str) -> None:
    """Start a run and kill it as soon as `folder` holds a file of that pattern."""
    process = start(words)
    deadline = time.monotonic() + 300
    while not any(folder.glob(pattern)):
        assert process.is_alive(), f"the run ended before {folder / pattern} was there"
        assert time.monotonic() < deadline, f"{folder / pattern} never came"
        time.sleep(0.002)
    process.kill()  # SIGKILL: no handler runs, no block is left in order
    process.join()
    assert process.exitcode == -signal.SIGKILL


def check_nothing_half_is_finished(run: Path) -> None:
    """Every file with a final name can be read, and a stage with a manifest has all it needs."""
    for path in run.rglob("*.npz"):
        if not path.name.startswith("."):
            read_seed(path)
    for path in (*(run / "masks").rglob("*.png"), *(run / "segment").rglob("*.png")):
        if not path.name.startswith("."):
            load_mask(path)
    for path in run.rglob("*.json"):
        if not path.name.startswith("."):
            read_json(path)
    if read_manifest(run / "train") is not None:
        load_model(run / "train")
    for stage, files in (("seeds", "*.npz"), ("masks", "*.png")):
        if read_manifest(run / stage) is not None:
            whole = [path for path in (run / stage).glob(files) if not path.name.startswith(".")]
            assert len(whole) >= 9, f"{stage} counts as finished with {len(whole)} files"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_run_killed_again_and_again_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    photos = tiny_shapes(tmp_path / "shapes")
    words, undisturbed = (
        ["run", *options(photos, tmp_path / name, train__epochs="3", runtime__checkpoint_every="1")]
        for name in ("killed", "undisturbed")
    )
    run = tmp_path / "killed"
    moments = [
        (run / "train", "stage.json"),  # before the first step
        (run / "train", "state.pt"),  # in the middle of training
        (run / "train", ".model.*"),  # while the network is written
        (run / "seeds", "shapes_*.npz"),  # after some seeds
        (run / "masks" / "pseudo", "shapes_*.png"),  # after some pseudo-masks
        (run / "segment", "state.pt"),  # segmenter trained, not yet stored
        (run / "segment" / "predictions" / "single", "shapes_*.png"),  # after some predictions and masks
        (run / "masks", "photos.csv"),  # all masks made, the stage not yet finished
        (run / "evaluate", "stage.json"),  # while scoring
    ]
    for folder, pattern in moments:
        kill_when(words, folder, pattern)
        check_nothing_half_is_finished(run)

    for process in (start(words), start(undisturbed)):
        process.join()
        assert process.exitcode == 0
    for stage in STAGES:
        assert read_manifest(run / stage) is not None
    # Training is the same to the last bit. Seeds of photos that share another batch differ by rounding.
    first, second = (load_model(tmp_path / name / "train")[0].state_dict() for name in ("killed", "undisturbed"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    for path in (tmp_path / "undisturbed" / "seeds").glob("*.npz"):
        assert torch.allclose(read_seed(run / "seeds" / path.name).cams(), read_seed(path).cams(), atol=5e-3)
    for folder in ("masks", "masks/pseudo"):
        paths = list((tmp_path / "undisturbed" / folder).glob("*.png"))
        assert len(paths) == 12
        for path in paths:
            assert (load_mask(run / folder / path.name) == load_mask(path)).mean() > 0.97
    scores = [
        read_json(tmp_path / name / "evaluate" / MANIFEST)["result"]["lists"] for name in ("killed", "undisturbed")
    ]
    for name in ("score", "val"):
        killed, undisturbed = (found[name]["seeds"]["refined"]["fixed"]["miou"] for found in scores)
        assert killed == pytest.approx(undisturbed, abs=0.02)


def test_a_file_that_was_being_written_is_no_result(tmp_path: Path) -> None:
    """What a kill leaves in the middle of `atomic_path` has a name that no stage reads."""
    with atomic_path(tmp_path / "shapes_00001.npz") as temporary:
        assert temporary.name.startswith(".")
        assert not list(tmp_path.glob("shapes_*"))
