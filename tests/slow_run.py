"""`cti` in a process of its own in which files take a while to appear, so that a kill hits the middle of a stage."""

import multiprocessing
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any


def start(words: list[str]) -> ForkServerProcess:
    """Start `cti WORDS`. The process is forked from one that has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cti.pipeline", "cti.cli"])
    process = context.Process(target=_slow_cti, args=(words,))
    process.start()
    return process


def _slow_cti(words: list[str]) -> None:
    import torch

    from cti.cli import main

    replace = Path.replace

    def slow_replace(path: Path, target: Any) -> Path:
        time.sleep(0.03)
        return replace(path, target)

    Path.replace = slow_replace  # type: ignore[method-assign]
    torch.set_num_threads(1)
    sys.exit(main(words))
