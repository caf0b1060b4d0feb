"""Contenders that take turns: A B A B, each in a process of its own, so that memory and allocator are its own too."""

import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.setting import SMALL, Setting

TURNS_BEFORE = 1  # to warm up; not counted


@dataclass(frozen=True)
class Measured:
    """One contender's turns.

    Args:
        seconds: Of each turn.
        per_second: Photos per second of the median turn.
        peak_gb: Largest resident memory above that of the loaded libraries, in 10^9 bytes.
    """

    seconds: tuple[float, ...]
    per_second: float
    peak_gb: float

    @property
    def median(self) -> float:
        """Seconds of the median turn."""
        return statistics.median(self.seconds)


def compare(
    work: str, contenders: Sequence[str], setting: Setting, tolerance: float = 1e-3, repeats: int = 0
) -> dict[str, Measured]:
    """Let contenders do the same work in turns.

    Args:
        work: A name of `benchmarks.works`.
        contenders: `reference` and variants of `ours`.
        setting: Sizes.
        tolerance: Largest difference of their answers, absolute and relative.
        repeats: Turns that count; 0 = the setting's.

    Raises:
        AssertionError: if they do not come to the same answer.
    """
    players = [_Player(work, contender, setting) for contender in contenders]
    try:
        answers = [player.ask("answer") for player in players]
        for contender, answer in zip(contenders[1:], answers[1:], strict=True):
            np.testing.assert_allclose(
                answer, answers[0], rtol=tolerance, atol=tolerance, err_msg=f"{work}: {contender}, {contenders[0]}"
            )
        seconds: list[list[float]] = [[] for _ in players]
        for _ in range(TURNS_BEFORE + (repeats or setting.repeats)):
            results = []
            for player, times in zip(players, seconds, strict=True):
                taken, result = player.ask("run")
                times.append(taken)
                results.append(result)
            for result in results[1:]:
                np.testing.assert_array_equal(result, results[0])
        ends = [player.ask("end") for player in players]
    finally:
        for player in players:
            player.close()
    return {
        contender: Measured(tuple(times[TURNS_BEFORE:]), count / statistics.median(times[TURNS_BEFORE:]), peak / 1e9)
        for contender, times, (count, peak) in zip(contenders, seconds, ends, strict=True)
    }


def profile(work: str, contender: str, setting: Setting) -> dict[str, float]:
    """Share of a repetition's processor time by kind of operation, the largest first."""
    player = _Player(work, contender, setting)
    try:
        return player.ask("profile")
    finally:
        player.close()


def facts(setting: Setting) -> dict[str, Any]:
    """What machine this is."""
    player = _Player("", "", setting)
    try:
        return player.ask("facts")
    finally:
        player.close()


class _Player:
    """A process that does one contender's work when asked to. All start from one that has loaded the libraries."""

    def __init__(self, work: str, contender: str, setting: Setting) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["benchmarks.works"])
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_play, args=(theirs, work, contender, setting), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, question: str) -> Any:
        self.connection.send(question)
        try:
            return self.connection.recv()
        except EOFError:
            raise RuntimeError(f"A benchmark process died while asked for '{question}'; see above.") from None

    def close(self) -> None:
        self.connection.close()
        self.process.join()


def _play(connection: Connection, name: str, contender: str, setting: Setting) -> None:
    import torch

    from benchmarks.machine import machine_facts
    from benchmarks.works import build

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: setting.threads])
    torch.set_num_threads(setting.threads)
    work, before = None, 0
    if name:
        build(name, contender, SMALL).run()  # loads the pages of all libraries that the work uses
        before = _resident()
        work = build(name, contender, setting)
    while True:
        try:
            question = connection.recv()
        except EOFError:
            return
        if question == "facts":
            connection.send(machine_facts())
            continue
        assert work is not None
        if question == "answer":
            connection.send(work.answer())
        elif question == "run":
            started = time.perf_counter()
            result = work.run()
            connection.send((time.perf_counter() - started, result))
        elif question == "profile":
            connection.send(_profile(work.run))
        else:
            connection.send((work.count, _peak() - before))


def _resident() -> int:
    """Resident memory of this process in bytes; its peak where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _peak()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


_KINDS = {
    "matrix products": ("aten::mm", "aten::addmm"),
    "attention": ("aten::_scaled_dot_product", "aten::bmm", "aten::baddbmm", "aten::_softmax"),
    "GELU": ("aten::gelu",),
    "layer norm": ("aten::native_layer_norm",),
    "convolutions": ("aten::mkldnn_convolution", "aten::convolution", "aten::_slow_conv", "aten::thnn_conv"),
    "copies": ("aten::copy_", "aten::cat", "aten::index", "aten::gather"),
    "sums and means": ("aten::sum", "aten::mean", "aten::amax", "aten::amin"),
    "filling with zeros": ("aten::fill_", "aten::zero_"),
}


def _profile(run: Any) -> dict[str, float]:
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    run()
    with torch_profile(activities=[ProfilerActivity.CPU]) as recorded:
        run()
    shares: dict[str, float] = defaultdict(float)
    for event in recorded.events():
        shares[_kind(event)] += event.self_cpu_time_total
    total = sum(shares.values())
    return {kind: time / total for kind, time in sorted(shares.items(), key=lambda item: -item[1])}


def _kind(event: Any) -> str:
    ancestor = event
    while ancestor is not None:
        if ancestor.name.startswith("Optimizer.step"):
            return "AdamW"
        ancestor = ancestor.cpu_parent
    for kind, beginnings in _KINDS.items():
        if event.name.startswith(beginnings):
            return kind
    return "other"
