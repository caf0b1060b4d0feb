"""The benchmark: its plain references agree with the fast code, its document, and that it runs end to end."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.document import profile_table, results_table, write_between_markers
from benchmarks.rows import NO_BFLOAT16, ROWS, measure
from benchmarks.setting import SMALL
from benchmarks.works import PARTS, build

REPOSITORY = Path(__file__).resolve().parents[1]


SAME = [row for row in ROWS if not row.bfloat16 and row.name != "seeds"]  # `seeds` is of another size, on purpose


@pytest.mark.parametrize("row", SAME, ids=lambda row: row.name)
def test_contenders_agree(row: Any) -> None:
    plain, ours = (build(row.work, contender, SMALL) for contender in (row.reference, row.ours))
    expected = plain.answer()
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(ours.answer(), expected, rtol=1e-4, atol=1e-4)
    assert plain.count == ours.count > 0


def test_smaller_seeds_are_maps_of_the_photos_size() -> None:
    same, small = (build("seeds", contender, SMALL) for contender in ("ours", "ours+small"))
    maps = small.answer()
    assert maps.shape == same.answer().shape
    assert maps.min() >= 0
    assert 0.9 < maps.max() <= 1
    assert np.abs(maps - same.answer()).max() > 0.01  # else it would not be smaller
    assert small.count == same.count


def test_scoring_is_equal_to_the_last_bit_and_counts_every_photo() -> None:
    plain, ours = (build("scoring", contender, SMALL) for contender in ("reference", "ours"))
    total = 0
    for _ in range(PARTS):
        counts = plain.run()
        np.testing.assert_array_equal(ours.run(), counts)
        total += counts[0].sum()
    height, width = SMALL.photo
    assert 0.5 < total / (height * width * SMALL.scored) < 1  # some pixels are to be ignored


def test_bfloat16_is_never_measured_where_it_is_slow() -> None:
    row = next(row for row in ROWS if row.bfloat16)
    assert measure(row, SMALL, quick_bfloat16=False)["skipped"] == NO_BFLOAT16


def results() -> dict[str, Any]:
    entry = {"seconds": [2.0], "median": 2.0, "per_second": 8.0, "peak_gb": 4.0}
    half = {"seconds": [1.0], "median": 1.0, "per_second": 16.0, "peak_gb": 2.0}
    step = {
        "name": "step_float32", "title": "step", "must": 1.4, "stretch": 3, "reference": entry, "ours": half,
        "speedup": {"median": 2.0, "lowest": 1.9, "highest": 2.1}, "memory": 0.7,
    }  # fmt: skip
    skipped = {"name": "b", "title": "bf16 step", "must": 3.5, "stretch": 5, "skipped": NO_BFLOAT16}
    machine = dict.fromkeys(("processor", "instructions", "threads", "memory_gb", "gflops_float32", "torch", "python",
                             "system", "load_before", "quick_bfloat16"), 0)  # fmt: skip
    return {"rows": [step, skipped], "machine": machine, "date": "2026-01-01", "minutes": 3.0,
            "help": {"title": "help", "median": 0.2, "must": 0.5, "stretch": 0.3}}  # fmt: skip


def test_table_says_what_is_met() -> None:
    lines = results_table(results()).splitlines()
    assert lines[2] == "| step | 2.00 s (8/s) | 1.00 s (16/s) | 2 (1.9 to 2.1) | 1.4x | 3x | met |"
    assert lines[3] == "| ... its peak memory | 4.00 GB | 2.00 GB | 0.70 of the memory | 0.6x | 0.4x | **not met** |"
    assert lines[4] == f"| bf16 step | - | - | {NO_BFLOAT16} | 3.5x | 5x |  |"
    assert lines[5] == "| help | - | 0.20 s | - | 0.5 s | 0.3 s | stretch |"


def test_profile_table() -> None:
    shares = {"reference": {"GELU": 0.25, "other": 0.75}, "ours": {"AdamW": 0.6, "GELU": 0.4}}
    assert profile_table(shares).splitlines()[2:] == [
        "| AdamW | 0.0% | 60.0% |",
        "| GELU | 25.0% | 40.0% |",
        "| other | 75.0% | 0.0% |",
    ]


def test_tables_go_between_their_markers(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("a\n<!-- bench:start -->\nold\n<!-- bench:end -->\nb\n")
    write_between_markers(document, "bench", r"new \1")
    assert document.read_text() == "a\n<!-- bench:start -->\nnew \\1\n<!-- bench:end -->\nb\n"
    with pytest.raises(ValueError, match="profile:start"):
        write_between_markers(document, "profile", "x")


def test_the_document_has_the_markers() -> None:
    text = (REPOSITORY / "docs" / "performance.md").read_text()
    assert all(f"<!-- {name}:{end} -->\n" in text for name in ("bench", "profile") for end in ("start", "end"))


@pytest.mark.slow
def test_it_runs_end_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--threads", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, env=dict(os.environ), capture_output=True, text=True, check=True)
    written = json.loads((tmp_path / "results.json").read_text())
    assert [row["name"] for row in written["rows"]] == [row.name for row in ROWS]
    for row in written["rows"]:
        if "skipped" not in row:
            assert row["speedup"]["lowest"] > 0
    assert {"step_cost.png", "seeds_cost.png"} <= {path.name for path in tmp_path.iterdir()}
    for shares in written["profile"].values():
        assert sum(shares.values()) == pytest.approx(1)
    assert results_table(written) in done.stdout
    assert written["setting"]["batch"] == dataclasses.asdict(SMALL)["batch"]
