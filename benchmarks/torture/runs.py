"""A tiny run of all stages, and what makes two of them the same."""

import json
import multiprocessing
import re
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tiny import options, tiny_shapes

_PASSING = (
    "seconds",
    "finished",
    "digest",
    "files",
    "out",
    "root",
    "machine",
    "versions",
    "cost",
    "taken_from",
    "picture",
    "per_second",
    "memory",
    "waited",
)
"""What two equal runs may say differently: times, places, and digests of files that say them."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:")
_COMPARED = (".npz", ".png", ".safetensors", ".txt", ".csv", ".jsonl", ".json")


def finished_run(folder: Path) -> tuple[list[str], Path]:
    """Make a tiny run, unless it is there already.

    Returns:
        (the words of the command that made it, its folder).
    """
    photos = folder.parent / "shapes"
    if not photos.is_dir():
        tiny_shapes(photos)
    words = ["run", *options(photos, folder, train__epochs="2", runtime__checkpoint_every="1")]
    process = start(words)
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the undisturbed run ended with {process.exitcode}: cti {' '.join(words)}")
    return words, folder


def start(words: list[str]) -> ForkServerProcess:
    """Start `cti WORDS` in a process forked from one that has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cti.pipeline", "cti.cli", "cti.commands"])
    process = context.Process(target=_cti, args=(words,))
    process.start()
    return process


def _cti(words: list[str]) -> None:
    import os
    import sys

    import torch

    from cti.cli import main

    torch.set_num_threads(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.exit(main(words))


def differences(expected: Path, run: Path) -> list[str]:
    """Results that two runs do not share, byte by byte; of JSON, what is no time and no place."""
    names = {
        path.relative_to(folder)
        for folder in (expected, run)
        for path in folder.rglob("*")
        if path.suffix in _COMPARED and not path.name.startswith(".") and path.name != "history.json"
    }
    return sorted(str(name) for name in names if _content(expected / name) != _content(run / name))


def left_overs(run: Path) -> list[str]:
    """Hidden files and folders, but for the lock."""
    return sorted(str(path.relative_to(run)) for path in run.rglob(".*") if path.name != ".lock")


def _content(path: Path) -> Any:
    if not path.is_file():
        return None
    if path.suffix == ".json":
        return _lasting(json.loads(path.read_text(encoding="utf-8")))
    if path.name == "metrics.jsonl":
        return [_lasting(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return path.read_bytes()


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(inner) for key, inner in value.items() if not any(word in key for word in _PASSING)}
    if isinstance(value, list):
        return [_lasting(inner) for inner in value]
    return "a time" if isinstance(value, str) and _TIME.match(value) else value
