"""What `make torture` counts: changes are drawn by seed alone, and a fault that is there is seen."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.torture.inputs import SECONDS, Hang, _outcome
from benchmarks.torture.mutate import mutate
from benchmarks.torture.runs import differences, left_overs
from benchmarks.torture.specimens import Specimen

from cti.data.text import read_foreign_json


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".png", ".npz", ".safetensors"])
def test_every_change_is_one_and_drawn_by_its_seed(suffix: str) -> None:
    content = b'{"a": [1, "cat"], "b": {"c": null}}\n' * 3
    made = [mutate(content, suffix, random.Random(f"0-{index}")) for index in range(100)]
    assert content not in made
    assert made == [mutate(content, suffix, random.Random(f"0-{index}")) for index in range(100)]
    assert len(set(made)) > 50


def raising(error: BaseException) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (lambda folder: None, "read"),
        (lambda folder: read_foreign_json(folder / "a.json"), "sentence"),
        (lambda folder: (folder / "none").read_bytes(), "sentence"),
        (lambda folder: json.loads((folder / "a.json").read_text()), "traceback"),  # a library's bare words
        (raising(ValueError("not from the package")), "traceback"),
        (raising(KeyError("tags")), "traceback"),
        (raising(RecursionError()), "traceback"),
        (raising(MemoryError()), "memory"),
        (raising(Hang()), "hang"),
    ],
)
def test_a_fault_is_told_from_a_sentence(tmp_path: Path, read: Callable[[Path], object], outcome: str) -> None:
    (tmp_path / "a.json").write_text("{")
    assert _outcome(Specimen(tmp_path, read))[0] == outcome
    assert SECONDS == 20


def test_runs_differ_by_results_and_not_by_times(tmp_path: Path) -> None:
    for name, seconds in (("one", 1.0), ("other", 2.0)):
        (tmp_path / name / "train").mkdir(parents=True)
        manifest = {"seconds": seconds, "finished": f"2026-01-0{seconds:.0f}T10:00:00", "result": {"photos": 4}}
        (tmp_path / name / "train" / "manifest.json").write_text(json.dumps(manifest))
        (tmp_path / name / ".lock").touch()
    one, other = tmp_path / "one", tmp_path / "other"
    assert differences(one, other) == []
    assert left_overs(other) == []
    (other / "train" / ".a.x.tmp.png").touch()
    (other / "train" / "a.png").touch()
    (other / "train" / "manifest.json").write_text(json.dumps({"result": {"photos": 5}}))
    assert differences(one, other) == ["train/a.png", "train/manifest.json"]
    assert left_overs(other) == ["train/.a.x.tmp.png"]
