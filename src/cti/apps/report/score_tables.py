"""What a report shows of the scores beside their tables: the summary of all lists, curves, confusions."""

from collections.abc import Mapping, Sequence

import numpy as np

from cti.apps.report.blocks import Block, Chart
from cti.apps.report.charts import Series, line_chart
from cti.evaluate.scores import ClassScores, ListScores, SeedScores
from cti.evaluate.tables import BASELINE_NOTE, SWEPT_NOTE, list_tables, measures
from cti.tables import Cell, Table, percent, row


def summary_table(lists: Mapping[str, ListScores]) -> Table | None:
    """mIoU of seeds, pseudo-masks and segmentations, a row per list."""
    by_list = {name: measures(scores) for name, scores in lists.items()}
    names = list(dict.fromkeys(name for mious in by_list.values() for name in mious))
    if not names:
        return None
    rows = [row(name, *(percent(mious.get(key)) for key in names)) for name, mious in by_list.items()]
    return Table("mIoU in %", ("list", *names), tuple(rows), note=f"{SWEPT_NOTE} {BASELINE_NOTE}")


def list_blocks(scores: ListScores, list_name: str) -> list[Block]:
    """Everything about the scores of one list: summaries, curves, details, confusions."""
    tables, columns = list_tables(scores, list_name), scores.by_name
    last = list(columns)[-1:]  # the last product of the pipeline is shown unfolded
    return [
        *(table for table in tables if not table.folded),
        *seed_charts(scores.seeds, list_name),
        *(table for table in tables if table.folded),
        *(confusion_table(name, column, list_name, name not in last) for name, column in columns.items()),
    ]


def confusion_table(name: str, scores: ClassScores, list_name: str, folded: bool) -> Table:
    """The confusion matrix, each row the share of a true class's pixels."""
    labels, counts = list(scores.iou), np.asarray(scores.confusion, float)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    caption = f"Confusion of {name}, list {list_name}: % of a true class's pixels (rows) predicted as (columns)"
    rows = tuple(row(label, *map(_shade, values)) for label, values in zip(labels, shares, strict=True))
    return Table(caption, ("true", *labels), rows, style="heat", folded=folded)


def heat_table(caption: str, names: Sequence[str], values: np.ndarray, note: str = "") -> Table:
    """A (n, n) matrix of values from -1 to 1 as shades, in hundredths."""
    rows = tuple(row(name, *map(_shade, shares)) for name, shares in zip(names, values, strict=True))
    return Table(caption, ("", *names), rows, style="heat", note=note)


def seed_charts(kinds: Mapping[str, SeedScores], list_name: str) -> list[Chart]:
    """Scores of the seeds against the threshold: mIoU of all kinds, precision and recall of the first."""
    if not kinds:
        return []
    details = f"{next(iter(kinds)) or 'seed'}: precision and recall against the threshold, list {list_name}"
    return [
        curve_chart(kinds, f"mIoU against the threshold, list {list_name}"),
        precision_chart(next(iter(kinds.values())), details),
    ]


def curve_chart(kinds: Mapping[str, SeedScores], caption: str) -> Chart:
    """mIoU against the threshold, one line per kind (or run).

    Args:
        kinds: At least one.
        caption: What the chart shows.
    """
    series = [
        Series(name or "seed", seeds.curve.thresholds, _percents(seeds.curve.miou), colour=index)
        for index, (name, seeds) in enumerate(kinds.items())
    ]
    first = next(iter(kinds.values()))
    baselines = [(100 * score, f"baseline: {name}") for name, score in first.baselines.items() if score is not None]
    return line_chart(
        caption, series, "background score (threshold)", "mIoU, %",
        verticals=[(first.threshold, "fixed")],
        horizontals=[max(baselines)] if baselines else (),
    )  # fmt: skip


def precision_chart(seeds: SeedScores, caption: str) -> Chart:
    """Precision and recall against the threshold, means over the classes."""
    curve = seeds.curve
    series = [
        Series("precision", curve.thresholds, _percents(curve.precision), colour=0),
        Series("recall", curve.thresholds, _percents(curve.recall), colour=1),
    ]
    x_label, y_label = "background score (threshold)", "mean over classes, %"
    return line_chart(caption, series, x_label, y_label, verticals=[(seeds.threshold, "fixed")])


def _shade(value: float) -> Cell:
    if np.isnan(value):
        return Cell("")
    return Cell(f"{100 * value:.0f}".replace("-0", "0"), share=float(np.clip(value, -1, 1)))


def _percents(values: Sequence[float | None]) -> list[float]:
    return [np.nan if value is None else 100 * value for value in values]
