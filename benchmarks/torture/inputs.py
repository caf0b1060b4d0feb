"""Mutated inputs, read in a process of their own: which are neither read nor refused with a sentence of ours?"""

import json
import logging
import multiprocessing
import os
import random
import resource
import signal
import time
import traceback
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cti

SECONDS = 20
MEMORY = 2 * 2**30  # bytes
_STUCK = SECONDS + 20  # seconds after which a process that does not even hear its alarm is ended
_FACTS = "inputs.jsonl"
_SOURCE = str(Path(cti.__file__).parent)


class Hang(BaseException):
    """An input takes too long. No `except Exception` stops it."""


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Args:
        index: Its number, of which it is made with the seed.
        kind: What it was before it was mutated.
        file: Its file that was mutated.
        outcome: `read`, `sentence` (refused by us), `traceback` (another error, or a library's bare words), `hang`,
            `memory` or `died`.
        says: The error.
    """

    index: int
    kind: str
    file: str
    outcome: str
    says: str = ""


def torture_inputs(work: Path, count: int, seed: int, say: Any) -> dict[str, Any]:
    """Read `count` mutated inputs; those of an earlier call in the same folder are not read again.

    Returns:
        Counts of outcomes, and all faults.
    """
    facts = work / _FACTS
    work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    while (done := len(_read(facts))) < count:
        say(f"{done} of {count} inputs")
        process = multiprocessing.get_context("forkserver").Process(target=_read_all, args=(work, done, count, seed))
        process.start()
        _watch(process, facts)
        if len(_read(facts)) == done and process.exitcode:
            raise RuntimeError(f"the reading process ended with {process.exitcode} before its first input")
    outcomes = _read(facts)[:count]
    faults = [asdict(one) for one in outcomes if one.outcome not in ("read", "sentence")]
    return {
        "inputs": count,
        "seconds": round(time.monotonic() - started),
        "kinds": len({one.kind for one in outcomes}),
        "outcomes": dict(Counter(one.outcome for one in outcomes)),
        "faults": faults,
    }


def _watch(process: Any, facts: Path) -> None:
    """Wait for a process; it is ended, and the input it was at noted, if it is stuck or dies."""
    begun: Path = facts.with_suffix(".begun")
    while process.is_alive():
        process.join(1)
        if process.is_alive() and begun.exists() and time.time() - begun.stat().st_mtime > _STUCK:
            process.kill()
            process.join()
            _note(facts, Outcome(**json.loads(begun.read_text()), outcome="hang", says="does not hear its alarm"))
            return
    if process.exitcode and begun.exists():
        last = json.loads(begun.read_text())
        if last["index"] == len(_read(facts)):
            _note(facts, Outcome(**last, outcome="died", says=f"exit code {process.exitcode}"))


def _read(facts: Path) -> list[Outcome]:
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    return [Outcome(**json.loads(line)) for line in lines]


def _note(facts: Path, outcome: Outcome) -> None:
    with facts.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(asdict(outcome)) + "\n")


def _read_all(work: Path, start: int, count: int, seed: int) -> None:
    """Mutate and read inputs one after the other."""
    import shutil

    import torch

    from benchmarks.torture.specimens import write_specimens

    torch.set_num_threads(1)
    os.environ |= {"XDG_CACHE_HOME": str(work / "cache"), "HF_HUB_OFFLINE": "1"}
    logging.disable(logging.CRITICAL)
    shutil.rmtree(work / "specimens", ignore_errors=True)
    specimens = write_specimens(work / "specimens")
    for specimen in specimens.values():
        with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere), redirect_stdout(nowhere):
            specimen.read(specimen.folder)  # as they are they are read, and everything is imported now
    _limit_memory()
    signal.signal(signal.SIGALRM, _alarm)
    for index in range(start, count):
        rng = random.Random(f"{seed}-{index}")
        kind = rng.choice(sorted(specimens))
        _read_one(work / _FACTS, index, kind, specimens[kind], rng)
        shutil.rmtree(work / "cache", ignore_errors=True)


def _read_one(facts: Path, index: int, kind: str, specimen: Any, rng: random.Random) -> None:
    from benchmarks.torture.mutate import mutate

    files = sorted(path for path in specimen.folder.rglob("*") if path.is_file())
    texts = [path for path in files if path.suffix in (".csv", ".tsv", ".json", ".jsonl", ".yaml", ".xml")]
    path = rng.choice(texts if texts and rng.random() < 0.7 else files)
    name = str(path.relative_to(specimen.folder))
    facts.with_suffix(".begun").write_text(json.dumps({"index": index, "kind": kind, "file": name}))
    whole = path.read_bytes()
    path.write_bytes(mutate(whole, path.suffix, rng))
    try:
        outcome, says = _outcome(specimen)
    finally:
        path.write_bytes(whole)
    _note(facts, Outcome(index, kind, name, outcome, says))


def _outcome(specimen: Any) -> tuple[str, str]:
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere), redirect_stdout(nowhere):
            specimen.read(specimen.folder)
    except Hang:
        return "hang", "".join(traceback.format_exc()[-1500:])
    except MemoryError as error:
        return "memory", _named(error)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        if "fit into memory" in str(error):
            return "memory", _named(error)
        return ("sentence" if _is_ours(error) else "traceback"), _named(error)
    except Exception as error:  # noqa: BLE001  # every other one is what we look for
        return "traceback", _named(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "read", ""


def _is_ours(error: BaseException) -> bool:
    """Whether we worded an error; of a library's words only the system's own, which name the file, will do."""
    if isinstance(error, OSError) and error.filename is not None:
        return True
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return _SOURCE in last and type(error) not in (UnicodeDecodeError, json.JSONDecodeError)


def _named(error: BaseException) -> str:
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if _SOURCE in frame.filename]
    place = f" at {Path(places[-1].filename).name}:{places[-1].lineno}" if places else ""
    return f"{type(error).__name__}: {str(error)[:300]}{place}"


def _limit_memory() -> None:
    """Allow this process `MEMORY` more than it has now."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    now = int(status["VmData"].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (now + MEMORY, now + MEMORY))


def _alarm(number: int, frame: Any) -> None:
    raise Hang
