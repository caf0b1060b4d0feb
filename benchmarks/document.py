"""Results as Markdown tables, written between markers of a document."""

import re
from pathlib import Path
from typing import Any

from benchmarks.rows import MEMORY_MUST, MEMORY_STRETCH


def write_between_markers(document: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name:start -->` and `<!-- name:end -->`.

    Raises:
        ValueError: if the document has not these two lines.
    """
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before = document.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(start)}\n.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(before):
        raise ValueError(f"{document} has no lines {start} and {end}.")
    document.write_text(pattern.sub(lambda _: f"{start}\n{text.strip()}\n{end}", before, count=1), encoding="utf-8")


def results_table(results: dict[str, Any]) -> str:
    """The table of all rows and what machine they were measured on."""
    lines = [
        "| work | plain reference | ours | times as fast (lowest to highest) | must | stretch | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        lines.append(_time_line(row))
        if "memory" in row:
            lines.append(_memory_line(row))
    if "help" in results:
        row = results["help"]
        verdict = _verdict(-row["median"], -row["must"], -row["stretch"])
        cells = [
            row["title"], "-", _seconds(row["median"]), "-", f"{row['must']} s", f"{row['stretch']} s", verdict,
        ]  # fmt: skip
        lines.append(_line(cells))
    facts = results["machine"]
    machine = (
        f"{facts['processor']}, {facts['instructions']}, {facts['threads']} threads, {facts['memory_gb']} GB; "
        f"float32 matrix products {facts['gflops_float32']} GFLOP/s; quick bfloat16: "
        f"{'yes' if facts['quick_bfloat16'] else 'no'}; torch {facts['torch']}, Python {facts['python']}, "
        f"{facts['system']}; load before the start {facts['load_before']}; measured {results['date']} "
        f"in {results['minutes']:.0f} minutes."
    )
    return "\n".join(lines) + f"\n\n{machine}"


def _time_line(row: dict[str, Any]) -> str:
    targets = [f"{row[name]:g}x" if row[name] else "-" for name in ("must", "stretch")]
    if "skipped" in row:
        return _line([row["title"], "-", "-", row["skipped"], *targets, ""])
    speedup = row["speedup"]
    cells = [
        row["title"],
        *(f"{_seconds(row[who]['median'])} ({row[who]['per_second']:.3g}/s)" for who in ("reference", "ours")),
        f"{speedup['median']:.3g} ({speedup['lowest']:.3g} to {speedup['highest']:.3g})",
        *targets,
        _verdict(speedup["median"], row["must"], row["stretch"]),
    ]
    return _line(cells)


def _memory_line(row: dict[str, Any]) -> str:
    cells = [
        f"... its peak memory{' with recomputation' if 'recompute' in row['title'] else ''}",
        *(f"{row[who]['peak_gb']:.2f} GB" for who in ("reference", "ours")),
        f"{row['memory']:.2f} of the memory",
        f"{MEMORY_MUST}x",
        f"{MEMORY_STRETCH}x",
        _verdict(-row["memory"], -MEMORY_MUST, -MEMORY_STRETCH),
    ]
    return _line(cells)


def _verdict(value: float, must: float, stretch: float) -> str:
    if not must:
        return ""
    return "stretch" if value >= stretch else "met" if value >= must else "**not met**"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds * 1000:.1f} ms"


def profile_table(shares: dict[str, dict[str, float]]) -> str:
    """Share of processor time by kind of operation, a column per contender."""
    kinds = sorted(
        {kind for column in shares.values() for kind in column}, key=lambda kind: -shares["ours"].get(kind, 0)
    )
    lines = [_line(["kind of operation", *shares]), "|---" * (len(shares) + 1) + "|"]
    lines += [_line([kind, *(f"{column.get(kind, 0):.1%}" for column in shares.values())]) for kind in kinds]
    return "\n".join(lines)
