"""Measure everything and write it down: `python -m benchmarks [--quick] [--only NAME ...] [--out FOLDER]`."""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.setting import SMALL, Setting

DOCUMENT = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "docs" / "bench"
EXTRAS = ("help", "profile", "curves")


def main() -> None:
    arguments = _arguments()
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(arguments.threads)
    # Only now: libraries read these variables when they are loaded.
    from benchmarks.contest import facts, profile
    from benchmarks.curves import CONTENDERS, draw_curves, measure_curves
    from benchmarks.document import profile_table, results_table, write_between_markers
    from benchmarks.rows import ROWS, measure, measure_help

    names = [*(row.name for row in ROWS), *EXTRAS]
    wanted = arguments.only or names
    if unknown := set(wanted) - set(names):
        sys.exit(f"There is no {', '.join(sorted(unknown))}; choose from {', '.join(names)}.")
    setting = replace(SMALL if arguments.quick else Setting(), threads=arguments.threads)
    started = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - started:6.0f} s  {text}", file=sys.stderr, flush=True)

    results: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "quick": arguments.quick,
        "setting": asdict(setting),
        "machine": facts(setting),
        "rows": [],
    }
    say(json.dumps(results["machine"]))
    for row in ROWS:
        if row.name in wanted:
            say(row.title)
            results["rows"].append(measure(row, setting, results["machine"]["quick_bfloat16"]))
    if "help" in wanted:
        say("cti --help")
        results["help"] = measure_help(1 if arguments.quick else 7)
    if "profile" in wanted:
        say("profile")
        few = replace(setting, batch=min(setting.batch, 4))
        quick = results["machine"]["quick_bfloat16"]
        contenders = ("reference", "ours", *(("reference+bf16", "ours+bf16") if quick else ()))
        results["profile"] = {who: profile("step", who, few) for who in contenders}
    if "curves" in wanted:
        results["curves"] = measure_curves(setting, arguments.quick, say)
        for row in results["rows"]:
            if row["name"] == "step_float32":  # the largest batch has been measured already
                point = {"x": setting.batch, "photos": setting.batch, **{who: row[who] for who in CONTENDERS}}
                results["curves"]["batch"].append(point)
    results["minutes"] = (time.perf_counter() - started) / 60

    table = results_table(results)
    print(table)
    if arguments.quick:
        say("a tiny network: these figures show that the benchmark runs, nothing else")
    if "profile" in results:
        print("", profile_table(results["profile"]), sep="\n")
    if arguments.out is None and (arguments.quick or arguments.only):
        return  # parts and tries are shown, not kept
    out = arguments.out or FIGURES
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if "curves" in results:
        draw_curves(results["curves"], out)
    if arguments.out is None:
        write_between_markers(DOCUMENT, "bench", table)
        write_between_markers(DOCUMENT, "profile", profile_table(results["profile"]))


def _arguments() -> argparse.Namespace:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny network: whether it runs, not how fast it is")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these rows, help, profile, curves")
    parser.add_argument("--threads", type=int, default=cores, help="threads of every contender (default: all cores)")
    parser.add_argument(
        "--out", type=Path, help="folder for results.json and figures; by default docs/bench, and docs/performance.md "
        "gets the tables, unless --quick or --only is given"
    )  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    main()
