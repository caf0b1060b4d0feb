"""Scores of the stage `scores` (its dicts, fractions) as tables and charts, in percent."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cti.apps.report.blocks import MISSING, Block, Cell, Chart, Table
from cti.apps.report.charts import Series, line_chart

SWEPT = "swept, uses pixel labels"
SWEPT_NOTE = "Swept: at the best threshold, which was found with true masks; the other numbers need none."
FLOOR_NOTE = "Baselines are what the tags alone give, without a look at the photo."
Scores = Mapping[str, Any]


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as percent; a dash where it is undefined."""
    return MISSING if fraction is None or np.isnan(fraction) else f"{100 * fraction:.{digits}f}"


def summary_table(lists: Mapping[str, Scores]) -> Table | None:
    """mIoU of seeds, pseudo-masks and segmentation, a row per list."""
    names = list(dict.fromkeys(name for scores in lists.values() for name in measures(scores)))
    rows = [(name, tuple(Cell(percent(measures(scores).get(key))) for key in names)) for name, scores in lists.items()]
    return Table("mIoU in %", ("list", *names), tuple(rows), note=f"{SWEPT_NOTE} {FLOOR_NOTE}") if rows else None


def measures(scores: Scores) -> dict[str, float | None]:
    """mIoU by what is compared, in the order of the pipeline, the best floor first."""
    found: dict[str, float | None] = {}
    seeds = next(iter(scores.get("seeds", {}).values()), None)
    if seeds is not None:
        baselines = [floor for floor in seeds["baselines"].values() if floor is not None]
        found |= {"best floor": max(baselines, default=None), f"seed, {SWEPT}": seeds["best"]["miou"]}
    return found | {name: one["miou"] for name, one in confusions(scores).items()}


def seed_table(scores: Scores, list_name: str) -> Table | None:
    """Kinds of seeds above their baselines."""
    kinds = {**scores.get("seeds", {})}
    predicted = scores.get("seeds_predicted_tags", {})
    rows = [*_seed_rows(kinds, ""), *_seed_rows(predicted, ", predicted tags")]
    if not rows:
        return None
    first = next(iter({**predicted, **kinds}.values()))
    baselines = first.get("baselines", {})
    for name, floor in baselines.items():
        rows.append((f"floor: {name}", (*[Cell(percent(floor))] * 3, Cell(""))))
    fixed = first["fixed"]["threshold"]
    header = ("seeds", SWEPT, f"fixed at {fixed:g}", "threshold-free", "CAM overlap")
    caption = f"Seeds, list {list_name}: mIoU in % over {first['num_photos']} photos"
    note = f"{SWEPT_NOTE} {FLOOR_NOTE}{_left_out(first)}"
    return Table(caption, header, tuple(rows), footer=len(baselines), note=note)


def mask_table(scores: Scores, list_name: str) -> Table | None:
    """Pseudo-masks and segmentations."""
    rows, num_photos, notes = [], 0, ""
    for name, one in mask_like(scores):
        interval = _interval(one.get("interval"))
        rows.append(
            (
                name,
                (
                    Cell(percent(one["unsure_as_background"]["miou"]), note=interval),
                    Cell(percent(one["unsure_ignored"]["miou"])),
                    Cell(percent(one["coverage"])),
                ),
            )
        )
        num_photos, notes = one["num_photos"], notes + _left_out(one)
    if not rows:
        return None
    header = ("masks", "mIoU", "unsure pixels ignored", "pixels decided")
    caption = f"Pseudo-masks and segmentation, list {list_name}: % over {num_photos} photos"
    return Table(caption, header, tuple(rows), note=f"mIoU counts unsure pixels as background.{notes}")


def mask_like(scores: Scores) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and scores of the pseudo-masks and of each variant of the segmentation."""
    if scores.get("masks"):
        yield "pseudo-masks", scores["masks"]
    for variant, one in scores.get("segment", {}).items():
        yield f"segmentation, {variant}", one


def confusions(scores: Scores) -> dict[str, dict[str, Any]]:
    """Name -> scores of one confusion matrix: the first kind of seed, the masks, each segmentation."""
    found: dict[str, dict[str, Any]] = {}
    kind = next(iter(scores.get("seeds", {}).values()), None)
    if kind is not None:
        found["seed, fixed"] = kind["fixed"]
        if kind.get("threshold_free"):
            found["seed, threshold-free"] = kind["threshold_free"]
    return found | {name: one["unsure_as_background"] for name, one in mask_like(scores)}


def class_table(columns: Mapping[str, Scores], list_name: str) -> Table | None:
    """IoU per class as bars, one column per confusion matrix."""
    if not columns:
        return None
    names = list(next(iter(columns.values()))["iou"])
    rows = [(name, tuple(_bar(one["iou"].get(name)) for one in columns.values())) for name in names]
    rows.append(("mean", tuple(_bar(one["miou"]) for one in columns.values())))
    return Table(f"IoU per class, list {list_name}, %", ("class", *columns), tuple(rows), style="bars", footer=1)


def detail_table(name: str, scores: Scores, list_name: str) -> Table:
    """Precision, recall and false-positive rate per class."""
    keys = ("precision", "recall", "false_positive_rate")
    rows = [(label, tuple(_bar(scores[key].get(label)) for key in keys)) for label in scores["iou"]]
    means = (scores["mean_precision"], scores["mean_recall"], None)
    rows.append(("mean", tuple(_bar(value) for value in means)))
    header = ("class", "precision", "recall", "false-positive rate")
    caption = f"Precision and recall of {name}, list {list_name}, %"
    return Table(caption, header, tuple(rows), style="bars", footer=1, folded=True)


def confusion_table(name: str, scores: Scores, list_name: str, folded: bool) -> Table:
    """The confusion matrix, each row the share of a true class's pixels."""
    labels, counts = list(scores["iou"]), np.asarray(scores["confusion"], float)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    rows = [(label, tuple(_shade(value) for value in row)) for label, row in zip(labels, shares, strict=True)]
    caption = f"Confusion of {name}, list {list_name}: % of a true class's pixels (rows) predicted as (columns)"
    return Table(caption, ("true", *labels), tuple(rows), style="heat", folded=folded)


def curve_chart(kinds: Mapping[str, Scores], caption: str) -> Chart | None:
    """mIoU against the threshold, one line per kind (or run)."""
    if not kinds:
        return None
    series = [
        Series(name or "seed", one["curve"]["thresholds"], _percents(one["curve"]["miou"]), colour=place)
        for place, (name, one) in enumerate(kinds.items())
    ]
    first = next(iter(kinds.values()))
    baselines = [(100 * value, f"floor: {name}") for name, value in first["baselines"].items() if value is not None]
    return line_chart(
        caption, series, "background score (threshold)", "mIoU, %",
        verticals=[(first["fixed"]["threshold"], "fixed")],
        horizontals=[max(baselines)] if baselines else (),
    )  # fmt: skip


def precision_chart(one: Scores, caption: str) -> Chart:
    """Precision and recall against the threshold, means over the classes."""
    curve = one["curve"]
    series = [
        Series(key, curve["thresholds"], _percents(curve[key]), colour=place)
        for place, key in enumerate(("precision", "recall"))
    ]
    verticals = [(one["fixed"]["threshold"], "fixed")]
    return line_chart(caption, series, "background score (threshold)", "mean over classes, %", verticals=verticals)


def tag_table(result: Scores) -> Table | None:
    """Average precision of the tags on photos not trained on."""
    tags = result.get("tags")
    if not tags:
        return None
    thresholds = tags["thresholds"]
    rows = [
        (name, (_bar(value), Cell(f"{thresholds[name]:.2f}" if name in thresholds else MISSING)))
        for name, value in tags["average_precision"].items()
    ]
    rows.append(("mean", (_bar(tags["map"]), Cell(""))))
    f1 = tags["f1"]
    note = "" if f1 is None else f"Mean F1 of the tags at these thresholds: {percent(f1)} %."
    header = ("class", "average precision, %", "threshold (logit)")
    return Table("Tags of photos not trained on", header, tuple(rows), style="bars", footer=1, note=note, folded=True)


def list_blocks(scores: Scores, list_name: str) -> list[Block]:
    """Everything about the scores of one list, the summary first."""
    columns = confusions(scores)
    chosen = list(columns)[-1:]  # the last product of the pipeline is shown unfolded
    kinds = scores.get("seeds", {})
    details = f"{next(iter(kinds), '') or 'seed'}: precision and recall against the threshold, list {list_name}"
    blocks: list[Block | None] = [
        seed_table(scores, list_name),
        mask_table(scores, list_name),
        curve_chart(kinds, f"mIoU against the threshold, list {list_name}"),
        *(precision_chart(one, details) for one in list(kinds.values())[:1]),
        class_table(columns, list_name),
        *(detail_table(name, one, list_name) for name, one in columns.items()),
        *(confusion_table(name, one, list_name, name not in chosen) for name, one in columns.items()),
    ]
    return [block for block in blocks if block is not None]


def heat_table(caption: str, names: Sequence[str], values: np.ndarray, note: str = "") -> Table:
    """A (n, n) matrix of values from -1 to 1 as shades, in hundredths."""
    rows = [(name, tuple(_shade(value) for value in row)) for name, row in zip(names, values, strict=True)]
    return Table(caption, ("", *names), tuple(rows), style="heat", note=note)


def _seed_rows(kinds: Scores, suffix: str) -> list[tuple[str, tuple[Cell, ...]]]:
    rows: list[tuple[str, tuple[Cell, ...]]] = []
    for kind, one in kinds.items():
        free, intervals = one.get("threshold_free"), one.get("intervals", {})
        best = one["best"]
        cells = (
            Cell(percent(best["miou"]), note=f"at {best['threshold']:.2f}"),
            Cell(percent(one["fixed"]["miou"]), note=_interval(intervals.get("fixed"))),
            Cell(percent(free["miou"]), note=_interval(intervals.get("threshold_free"))) if free else Cell(MISSING),
            Cell(percent(one.get("cam_overlap"))),
        )
        rows.append((f"{kind or 'seed'}{suffix}", cells))
    return rows


def _interval(interval: Scores | None) -> str:
    return "" if interval is None else f"{percent(interval['low'])} to {percent(interval['high'])}"


def _left_out(scores: Scores) -> str:
    missing = scores.get("missing", [])
    return f" {len(missing)} photos without a result were left out." if missing else ""


def _bar(value: float | None) -> Cell:
    return Cell(percent(value), share=value)


def _shade(value: float) -> Cell:
    if np.isnan(value):
        return Cell("")
    return Cell(f"{100 * value:.0f}".replace("-0", "0"), share=float(np.clip(value, -1, 1)))


def _percents(values: Sequence[float | None]) -> list[float]:
    return [np.nan if value is None else 100 * value for value in values]
