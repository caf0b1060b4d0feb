"""The comparisons of the table, with the targets that were set before anything was measured."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.contest import Measured, compare
from benchmarks.setting import Setting

NO_BFLOAT16 = "not measured here: no quick bfloat16"


@dataclass(frozen=True)
class Row:
    """One comparison.

    Args:
        name: Key in the results.
        title: What is done.
        work: A name of `benchmarks.works`.
        ours: The contender beside `reference`.
        reference: The contender that is 1.
        must: How many times as fast it must be; 0 = no target.
        stretch: How many times as fast it might be.
        bfloat16: Whether it says something only where bfloat16 is quick.
        memory: Whether peak memory is part of it.
        tolerance: Largest difference of the answers.
        repeats: Turns that count; 0 = the setting's.
    """

    name: str
    title: str
    work: str
    ours: str = "ours"
    reference: str = "reference"
    must: float = 0
    stretch: float = 0
    bfloat16: bool = False
    memory: bool = False
    tolerance: float = 1e-3
    repeats: int = 0


ROWS = (
    Row("step_default", "training step, our default on quick bfloat16, against float32", "step", "ours+bf16",
        must=3.5, stretch=5, bfloat16=True, memory=True, tolerance=0.05),
    Row("step_bfloat16", "training step, both under bfloat16 autocast", "step", "ours+bf16", "reference+bf16",
        must=1.5, stretch=2, bfloat16=True, memory=True, tolerance=0.05),
    Row("step_float32", "training step, both float32", "step", must=1.4, stretch=1.6, memory=True),
    Row("step_recompute", "training step, both float32, ours with `train.recompute`", "step", "ours+recompute",
        memory=True, repeats=2),
    Row("seeds_same_size", "seeds of a photo, both at its own size", "seeds"),
    # CAMs of another size differ; how little that matters to their scores is measured on real photos (docs/results.md).
    Row("seeds", "seeds of a photo, ours at long side 336, our recipe", "seeds", "ours+small", must=3, stretch=5,
        tolerance=1),
    Row("scoring", "scoring at 100 thresholds, bit-equal", "scoring", must=20, stretch=100),
    Row("pamr", "refinement: PAMR of a photo", "pamr"),
    Row("walk", "refinement: random walk of a photo", "walk", repeats=1),
    Row("segmenter_step", "segmenter: training step", "segmenter_step", repeats=2),
    Row("segmenter_prediction", "segmenter: prediction of a photo", "segmenter_prediction"),
)  # fmt: skip

MEMORY_MUST, MEMORY_STRETCH = 0.6, 0.4
HELP_MUST, HELP_STRETCH = 0.5, 0.3  # seconds


def measure(row: Row, setting: Setting, quick_bfloat16: bool) -> dict[str, Any]:
    """A row's result, ready for JSON."""
    result: dict[str, Any] = {"name": row.name, "title": row.title, "must": row.must, "stretch": row.stretch}
    if row.bfloat16 and not quick_bfloat16:
        return {**result, "skipped": NO_BFLOAT16}
    found = compare(row.work, (row.reference, row.ours), setting, row.tolerance, row.repeats or _turns(row, setting))
    plain, ours = found[row.reference], found[row.ours]
    result |= {"reference": _entry(plain), "ours": _entry(ours)}
    result["speedup"] = _spread(a / b for a, b in zip(plain.seconds, ours.seconds, strict=True))
    if row.memory:
        result["memory"] = ours.peak_gb / plain.peak_gb
    return result


def _turns(row: Row, setting: Setting) -> int:
    from benchmarks.works import PARTS

    # The warm-up turn of scoring takes the first part of the photos; it comes round again as the last.
    return PARTS if row.work == "scoring" else setting.repeats


def _entry(measured: Measured) -> dict[str, Any]:
    return {**asdict(measured), "median": measured.median}


def _spread(ratios: Iterable[float]) -> dict[str, float]:
    values = sorted(ratios)
    return {"median": statistics.median(values), "lowest": values[0], "highest": values[-1]}


def measure_help(repeats: int) -> dict[str, Any]:
    """Wall time of `cti --help`, a process each."""
    script = Path(sys.executable).with_name("cti")
    command = [str(script)] if script.is_file() else [sys.executable, "-c", "from cti.cli import main; main()"]
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        subprocess.run([*command, "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    seconds = seconds[1:]
    return {
        "name": "help",
        "title": "`cti --help`",
        "seconds": seconds,
        "median": statistics.median(seconds),
        "must": HELP_MUST,
        "stretch": HELP_STRETCH,
    }
