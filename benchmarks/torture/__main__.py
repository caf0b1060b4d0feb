"""Rerun the figures of docs/reliability.md: `python -m benchmarks.torture [--inputs N] [--damages N] [--minutes M]`."""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="mutated inputs")
    parser.add_argument("--damages", type=int, default=1000, help="damaged files of a finished run")
    parser.add_argument("--minutes", type=float, default=10, help="time for kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder to work in; given again, it goes on there")
    parser.add_argument("--out", type=Path, help="JSON file of the figures; default: they are printed")
    arguments = parser.parse_args()

    from benchmarks.machine import machine_facts
    from benchmarks.torture.damages import torture_files
    from benchmarks.torture.inputs import torture_inputs
    from benchmarks.torture.kills import torture_runs

    started = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - started:6.0f} s  {text}", file=sys.stderr, flush=True)

    work = (arguments.work or Path(tempfile.mkdtemp(prefix="torture."))).resolve()
    say(f"working in {work}")
    figures: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "seed": arguments.seed, "machine": machine_facts()}
    if arguments.inputs:
        figures["inputs"] = torture_inputs(work / "inputs", arguments.inputs, arguments.seed, say)
    if arguments.damages:
        figures["damages"] = torture_files(work / "damages", arguments.damages, arguments.seed, say)
    if arguments.minutes:
        figures["kills"] = torture_runs(work / "kills", arguments.minutes, arguments.seed, say)
    text = json.dumps(figures, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    sys.exit(any(part.get("faults") for part in figures.values() if isinstance(part, dict)))


if __name__ == "__main__":
    main()
