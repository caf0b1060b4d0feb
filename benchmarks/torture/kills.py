"""Runs that are ended at random moments and called again: are they the same as one that was left alone?"""

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.torture.runs import differences, finished_run, left_overs, start

_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_FACTS = "kills.jsonl"


def torture_runs(work: Path, minutes: float, seed: int, say: Any) -> dict[str, Any]:
    """Kill runs for some minutes; in the same folder a later call adds to what an earlier one found.

    Each run is killed up to six times, at moments drawn anew for each time, and then left to finish.

    Returns:
        Counts of kills by signal and of runs, and all faults: runs that differ, or in which something was left over.
    """
    facts = work / _FACTS
    words, undisturbed = finished_run(work / "undisturbed")
    shutil.rmtree(work / "again", ignore_errors=True)
    begun = time.monotonic()
    finished_run_again(words, work / "again")
    usual = time.monotonic() - begun
    if different := differences(undisturbed, work / "again"):
        raise RuntimeError(f"two undisturbed runs differ, so that kills tell nothing: {', '.join(different)}")
    deadline = time.monotonic() + 60 * minutes
    index = len(facts.read_text().splitlines()) if facts.exists() else 0
    while time.monotonic() < deadline:
        if index % 10 == 0:
            say(f"{index} runs killed")
        found = _kill(words, work / "killed", usual, random.Random(f"{seed}-{index}"))
        found |= {"index": index, "different": differences(undisturbed, work / "killed")}
        with facts.open("a") as handle:
            handle.write(json.dumps(found) + "\n")
        index += 1
    lines = [json.loads(line) for line in facts.read_text().splitlines()]
    signals = Counter(name for line in lines for name in line["kills"])
    return {
        "runs": len(lines),
        "kills": sum(signals.values()),
        "signals": dict(signals),
        "seconds_undisturbed": round(usual, 1),
        "faults": [line for line in lines if line["different"] or line["left_over"] or line["exit_code"]],
    }


def finished_run_again(words: list[str], out: Path) -> None:
    """The same run in another folder."""
    process = start(_into(words, out))
    process.join()


def _kill(words: list[str], run: Path, usual: float, rng: random.Random) -> dict[str, Any]:
    shutil.rmtree(run, ignore_errors=True)
    kills: list[str] = []
    for _ in range(rng.randint(2, 6)):
        process = start(_into(words, run))
        process.join(rng.uniform(0, usual))
        if not process.is_alive():
            break
        number = rng.choice(_SIGNALS)
        os.kill(process.pid or 0, number)
        process.join(20)
        kills.append(number.name if not process.is_alive() else f"{number.name} unheard")
        process.kill()
        process.join()
    last = start(_into(words, run))
    last.join()
    return {"kills": kills, "exit_code": last.exitcode, "left_over": left_overs(run)}


def _into(words: list[str], out: Path) -> list[str]:
    place = words.index("--out") + 1
    return [*words[:place], str(out), *words[place + 1 :]]
