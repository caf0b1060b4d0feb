"""Damaged files of a finished run: does `cti run --verify` name every one, and is the run made whole again?"""

import json
import os
import random
import shutil
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import cti
from benchmarks.torture.mutate import mutate

_FACTS = "damages.jsonl"
_MENDED = 25  # of so many damaged files one is mended too, which takes a run of its own


def torture_files(work: Path, count: int, seed: int, say: Any) -> dict[str, Any]:
    """Damage one file of a finished run after another; those of an earlier call in the same folder are not repeated.

    Returns:
        Counts of outcomes: `named` by the check; faults are `unmentioned`, `refused` (no check), `traceback` and `not
        mended`.
    """
    from benchmarks.torture.runs import finished_run

    facts = work / _FACTS
    words, sound = finished_run(work / "sound")
    files = sorted(path.relative_to(sound) for path in sound.glob("*/**/*") if _counts(path, sound))
    done = len(facts.read_text().splitlines()) if facts.exists() else 0
    for index in range(done, count):
        if index % 200 == 0:
            say(f"{index} of {count} damaged files")
        rng = random.Random(f"{seed}-{index}")
        # The kind of file is drawn first: there are many masks and one manifest.
        kinds = sorted({_kind(path) for path in files})
        kind = rng.choice(kinds)
        path = rng.choice([path for path in files if _kind(path) == kind])
        outcome, says = _damage(sound, work / "damaged", path, rng, words if index % _MENDED == 0 else [])
        with facts.open("a") as handle:
            handle.write(json.dumps({"index": index, "file": str(path), "outcome": outcome, "says": says}) + "\n")
    lines = [json.loads(line) for line in facts.read_text().splitlines()][:count]
    return {
        "damages": count,
        "kinds": len({_kind(path) for path in files}),
        "outcomes": dict(Counter(line["outcome"] for line in lines)),
        "faults": [line for line in lines if line["outcome"] not in ("named", "named, mended")],
    }


def _counts(path: Path, run: Path) -> bool:
    """Whether a file belongs to the results of a stage."""
    return path.is_file() and not path.name.startswith(".")


def _kind(path: Path) -> str:
    """A kind of file: its folder, and its name unless it is one of many."""
    many = path.suffix in (".npz", ".png") or path.name.startswith("events.")
    return f"{path.parent}/*{path.suffix}" if many else str(path)


def _damage(sound: Path, run: Path, name: Path, rng: random.Random, words: list[str]) -> tuple[str, str]:
    from benchmarks.torture.runs import differences
    from cti.cli import main
    from cti.run import Run
    from cti.verify import verify

    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(sound, run)
    path = run / name
    if rng.random() < 0.1:
        path.unlink()
    else:
        path.write_bytes(mutate(path.read_bytes(), path.suffix, rng))
    mentioned = True
    try:
        found = verify(Run.open(run))
        mentioned = str(name) in found
        if not mentioned:
            return "unmentioned", ", ".join(found)
    except (ValueError, OSError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1].filename
        if str(path) not in str(error) or str(Path(cti.__file__).parent) not in last:
            return "traceback", f"{type(error).__name__}: {str(error)[:300]}"
        return "refused", str(error)[:300]
    except Exception as error:  # noqa: BLE001  # every other one is what we look for
        return "traceback", "".join(traceback.format_exception(error)[-3:])[-600:]
    if not words:
        return "named", ""
    with Path(os.devnull).open("w") as nowhere:
        from contextlib import redirect_stderr, redirect_stdout

        with redirect_stderr(nowhere), redirect_stdout(nowhere):
            code = main(["run", "--config", str(run)])
    different = differences(sound, run)
    if code or different:
        return "not mended", f"exit code {code}, different: {', '.join(different[:5])}"
    return "named, mended", ""
