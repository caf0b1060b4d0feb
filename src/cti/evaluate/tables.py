"""Scores as tables for the terminal, in percent (files and JSON hold fractions)."""

from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Group
from rich.table import Table

from cti.classes import BACKGROUND
from cti.evaluate.bootstrap import Interval
from cti.evaluate.confusion import ConfusionMatrix, mean
from cti.evaluate.masks import MaskScores
from cti.evaluate.seeds import SeedScores


def seed_tables(kinds: Sequence[SeedScores], title: str = "Seeds") -> Group:
    """Kinds of seeds of the same photos side by side above their baselines, and the first kind class by class.

    Args:
        kinds: Scores, the kind that later stages use first.
        title: What was scored, e.g. the list of photos.
    """
    first = kinds[0]
    table = Table(title=f"{title}: mIoU in % over {first.num_photos} photos", title_justify="left")
    table.add_column("")
    table.add_column("swept, uses pixel labels", justify="right")
    table.add_column(f"fixed at {first.threshold:g}", justify="right")
    table.add_column("threshold-free", justify="right")
    table.add_column("CAM overlap", justify="right")
    for scores in kinds:
        free = scores.threshold_free
        table.add_row(
            scores.kind or "seed",
            f"{percent(scores.best.miou)} at {scores.best.threshold:.2f}",
            percent(scores.fixed.miou) + _range(scores.fixed_interval),
            "" if free is None else percent(free.miou) + _range(scores.free_interval),
            percent(scores.overlap),
        )
    table.add_section()
    for name, floor in first.baselines.items():
        table.add_row(f"floor: {name}", percent(floor), percent(floor), percent(floor), style="dim")
    notes = [_classes_note(first.fixed.confusion, first.classes)]
    if first.missing:
        notes.append(f"{len(first.missing)} photos without a seed were left out: {_few(first.missing)}.")
    free = first.threshold_free
    columns = {"IoU swept": first.best.confusion, "IoU fixed": first.fixed.confusion}
    if free is not None:
        columns["IoU threshold-free"] = free.confusion
    return Group(table, *notes, _class_table(first.classes, columns, first.fixed.confusion, "at the fixed threshold"))


def mask_tables(scores: MaskScores, title: str = "Masks") -> Group:
    """Masks, with their unsure pixels counted both ways, and class by class."""
    table = Table(title=f"{title}: mIoU in % over {scores.num_photos} photos", title_justify="left")
    table.add_column("")
    table.add_column("mIoU", justify="right")
    table.add_column("pixels decided", justify="right")
    resolved = percent(scores.resolved.miou) + _range(scores.interval)
    if scores.coverage == 1:
        table.add_row("every pixel decided", resolved, percent(1))
    else:
        table.add_row("unsure pixels as background", resolved, percent(1))
        table.add_row("unsure pixels ignored", percent(scores.decided.miou), percent(scores.coverage))
    notes = [_classes_note(scores.resolved, scores.classes)]
    if scores.missing:
        notes.append(f"{len(scores.missing)} photos without a mask were left out: {_few(scores.missing)}.")
    return Group(table, *notes, _class_table(scores.classes, {"IoU": scores.resolved}, scores.resolved, ""))


def step_table(steps: Mapping[str, MaskScores], title: str) -> Table:
    """What each refinement step makes of the seeds, every pixel decided by argmax.

    Args:
        steps: Names of the steps so far (`seed`, `pamr`, `pamr+affinity`) -> scores, in the order of the chain.
        title: What was scored.
    """
    table = Table(title=f"{title}: mIoU in %, every pixel decided", title_justify="left")
    for name in ("after", "mIoU", "gain over the seed"):
        table.add_column(name, justify="left" if name == "after" else "right")
    start = next(iter(steps.values())).resolved.miou
    for name, scores in steps.items():
        table.add_row(name, percent(scores.resolved.miou), f"{100 * (scores.resolved.miou - start):+.1f}")
    return table


def percent(fraction: float) -> str:
    """A fraction as percent with one decimal; a dash where it is undefined."""
    return "-" if np.isnan(fraction) else f"{100 * fraction:.1f}"


def _class_table(
    classes: tuple[str, ...], ious: dict[str, ConfusionMatrix], detail: ConfusionMatrix, where: str
) -> Table:
    table = Table(title=f"Per class in %{where and f'; precision, recall and false positives {where}'}")
    table.title_justify = "left"
    table.add_column("class")
    for name in (*ious, "precision", "recall", "false-positive rate"):
        table.add_column(name, justify="right")
    columns = [*(matrix.iou for matrix in ious.values()), detail.precision, detail.recall, detail.false_positive_rate]
    for value, name in enumerate([BACKGROUND, *classes]):
        table.add_row(name, *(percent(column[value]) for column in columns))
    table.add_section()
    table.add_row("mean", *(percent(float(mean(column))) for column in columns))
    return table


def _classes_note(matrix: ConfusionMatrix, classes: tuple[str, ...]) -> str:
    names = [BACKGROUND, *classes]
    absent = [name for value, name in enumerate(names) if value not in matrix.classes_in_mean]
    mean_over = f"The mean runs over {len(matrix.classes_in_mean)} of {len(names)} classes (background included)"
    return f"{mean_over}; neither true nor predicted: {', '.join(absent)}." if absent else f"{mean_over}."


def _range(interval: Interval | None) -> str:
    return "" if interval is None else f" ({percent(interval.low)} to {percent(interval.high)})"


def _few(ids: tuple[str, ...]) -> str:
    return ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
