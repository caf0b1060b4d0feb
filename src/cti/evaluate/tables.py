"""Scores as tables in percent (files and JSON hold fractions), the same on the terminal and in the report."""

from collections.abc import Mapping
from dataclasses import replace

from cti.evaluate.bootstrap import Interval
from cti.evaluate.scores import ClassScores, ListScores, MaskScores, SeedScores, mean_defined
from cti.evaluate.segment_tags import Alarms
from cti.evaluate.tags import TagScores
from cti.evaluate.verdict import Verdict
from cti.tables import MISSING, Cell, NamedCells, Table, bar, percent, row

SWEPT = "swept, uses pixel labels"
SWEPT_NOTE = "Swept: at the best threshold, which was found with true masks; the other numbers need none."
BASELINE_NOTE = "Baselines are what the tags alone give, without a look at the photo."
MASKS_NOTE = "Masks and pseudo-masks use the photos' tags, the segmentation does not."


def list_tables(scores: ListScores, list_name: str) -> list[Table]:
    """Everything about the scores of one list, the summaries first, details folded."""
    columns = scores.by_name
    tables = [
        seed_table(scores, list_name),
        mask_table(scores, list_name),
        step_table(scores.steps, list_name),
        normal_table(scores, list_name),
        None
        if scores.segment_tags is None
        else segment_tag_table(scores.segment_tags, scores.segment_alarms, list_name),
        class_table(columns, list_name),
        *(detail_table(name, column, list_name) for name, column in columns.items()),
    ]
    return [table for table in tables if table is not None]


def measures(scores: ListScores) -> dict[str, float | None]:
    """mIoU by what is compared, in the order of the pipeline, the best baseline first."""
    mious: dict[str, float | None] = {}
    if (seeds := scores.first_seeds) is not None:
        mious = {"best baseline": seeds.best_baseline, f"seed, {SWEPT}": seeds.best.miou}
    return mious | {name: column.miou for name, column in scores.by_name.items()}


def seed_table(scores: ListScores, list_name: str) -> Table | None:
    """Kinds of seeds above what tags alone give."""
    kinds = [*scores.seeds.values(), *scores.seeds_predicted_tags.values()]
    if not kinds:
        return None
    first = kinds[0]
    baselines = [row(f"baseline: {name}", *[percent(score)] * 3, "") for name, score in first.baselines.items()]
    rows = [
        *(_seed_row(seeds, "") for seeds in scores.seeds.values()),
        *(_seed_row(seeds, ", predicted tags") for seeds in scores.seeds_predicted_tags.values()),
        *baselines,
    ]
    return Table(
        f"Seeds, list {list_name}: mIoU in % over {first.num_photos} photos",
        ("seeds", SWEPT, f"fixed at {first.threshold:g}", "threshold-free", "CAM overlap"),
        tuple(rows),
        footer=len(baselines),
        note=f"{SWEPT_NOTE} {BASELINE_NOTE}",
    )


def mask_table(scores: ListScores, list_name: str) -> Table | None:
    """Pseudo-masks, segmentations and masks, with their ignored pixels counted both ways."""
    masks = scores.masks_by_name
    if not masks:
        return None
    rows = [
        row(
            name,
            Cell(percent(scored.as_background.miou), note=interval_text(scored.as_background.interval)),
            percent(scored.confident.miou),
            percent(scored.coverage),
        )
        for name, scored in masks.items()
    ]
    num_photos = max(scored.num_photos for scored in masks.values())
    return Table(
        f"Masks, list {list_name}: % over {num_photos} photos",
        ("masks", "mIoU", "confident pixels only", "pixels confident"),
        tuple(rows),
        note=f"{MASKS_NOTE} mIoU counts ignored pixels as background.",
    )


def step_table(steps: Mapping[str, MaskScores], list_name: str) -> Table | None:
    """What each refinement step makes of the seeds, by the argmax of every pixel.

    Args:
        steps: Names of the steps so far (`seed`, `pamr`, `pamr+affinity`) -> scores, in the order of the chain.
        list_name: The list of photos.
    """
    if not steps:
        return None
    mious = {name: masks.as_background.miou for name, masks in steps.items()}
    start = next(iter(mious.values()))
    rows = [row(name, percent(miou), _gain(miou, start)) for name, miou in mious.items()]
    header = ("after", "mIoU", "gain over the seed")
    return Table(f"Refinement steps, list {list_name}: mIoU in % of the argmax of every pixel", header, tuple(rows))


def normal_table(scores: ListScores, list_name: str) -> Table | None:
    """How much is called foreground on photos that show none of the classes."""
    if not scores.normal:
        return None
    num_photos = max(shares.num_photos for shares in scores.normal.values())
    rows = [row(name, percent(shares.photos), percent(shares.pixels, 2)) for name, shares in scores.normal.items()]
    return Table(
        f"Foreground on normal photos, list {list_name}: % over {num_photos} photos without tags",
        ("", "photos with any", "pixels"),
        tuple(rows),
        note="No mask is needed for these; 0 is right.",
    )


def class_table(columns: Mapping[str, ClassScores], list_name: str) -> Table | None:
    """IoU per class, a column for each thing that is scored."""
    if not columns:
        return None
    names = next(iter(columns.values())).iou
    rows = [row(name, *(bar(column.iou.get(name)) for column in columns.values())) for name in names]
    rows.append(row("mean", *(bar(column.miou) for column in columns.values())))
    caption = f"IoU per class, list {list_name}, %"
    return Table(caption, ("class", *columns), tuple(rows), style="bars", footer=1, note=_absent_note(columns))


def detail_table(name: str, scores: ClassScores, list_name: str) -> Table:
    """Precision, recall and false-positive rate per class."""
    columns = (scores.precision, scores.recall, scores.false_positive_rate)
    rows = [row(label, *(bar(column[label]) for column in columns)) for label in scores.iou]
    rows.append(row("mean", *(bar(mean_defined(column.values())) for column in columns)))
    header = ("class", "precision", "recall", "false-positive rate")
    caption = f"Precision and recall of {name}, list {list_name}, %"
    return Table(caption, header, tuple(rows), style="bars", footer=1, folded=True)


def verdict_table(verdict: Verdict) -> Table:
    """What is known about each class without any mask."""
    rows = [
        row(
            name,
            str(one.photos),
            bar(one.average_precision),
            bar(one.auroc),
            bar(one.f1),
            percent(one.usual_share),
            str(one.masks),
            str(one.empty),
        )
        for name, one in verdict.classes.items()
    ]
    header = ("class", "photos", "tag AP", "tag AUROC", "tag F1", "usual share of a photo", "masks", "empty")
    note = "In %. Tags on photos not learned from; an empty mask holds none of a class that its photo is tagged with."
    return Table("Classes", header, tuple(rows), style="bars", note=note)


def tag_table(tags: TagScores) -> Table:
    """How well tags are predicted, class by class; needs no mask."""
    rows = [
        row(
            name,
            bar(precision),
            bar(tags.auroc.get(name)),
            bar(tags.f1.get(name)),
            f"{tags.thresholds[name]:.2f}" if name in tags.thresholds else MISSING,
        )
        for name, precision in tags.average_precision.items()
    ]
    rows.append(row("mean", bar(tags.mean_average_precision), bar(tags.mean_auroc), bar(tags.mean_f1), ""))
    header = ("class", "average precision", "AUROC", "F1", "threshold (logit)")
    note = "F1 at the thresholds, which were chosen on the tags of the same photos."
    if tags.left_out:
        note += f" No photo has the class {', '.join(tags.left_out)}."
    caption = "Tags of photos not trained on, %"
    return Table(caption, header, tuple(rows), style="bars", footer=1, note=note, folded=True)


def segment_tag_table(tags: TagScores, alarms: Alarms | None, list_name: str) -> Table:
    """How well the segmenter knows the tags of photos; needs no mask."""
    table = replace(tag_table(tags), caption=f"Tags by the segmenter, list {list_name}, photos not trained on, %")
    header = (*table.header[:-1], "threshold (probability)")
    note = f"The score of a class is its largest at any pixel. {table.note}"
    if alarms is not None:
        note += (
            f" Where {percent(alarms.found)} % of {alarms.photos} photos with a class are found by their best score, "
            f"so are {percent(alarms.false_alarms)} % of {alarms.normal} normal ones."
        )
    return replace(table, header=header, folded=False, note=note)


def interval_text(interval: Interval | None) -> str:
    """The ends of an interval in percent; empty without one."""
    return "" if interval is None else f"{percent(interval.low)} to {percent(interval.high)}"


def _seed_row(seeds: SeedScores, suffix: str) -> NamedCells:
    free = seeds.threshold_free
    return row(
        f"{seeds.kind or 'seed'}{suffix}",
        Cell(percent(seeds.best.miou), note=f"at {seeds.best_threshold:.2f}"),
        Cell(percent(seeds.fixed.miou), note=interval_text(seeds.fixed.interval)),
        MISSING if free is None else Cell(percent(free.miou), note=interval_text(free.interval)),
        percent(seeds.cam_overlap),
    )


def _gain(value: float | None, start: float | None) -> str:
    return MISSING if value is None or start is None else f"{100 * (value - start):+.1f}"


def _absent_note(columns: Mapping[str, ClassScores]) -> str:
    """Over how many classes the means run; column by column where they differ."""
    sentences = {name: _absent_sentence(column) for name, column in columns.items()}
    if len(set(sentences.values())) == 1:
        return next(iter(sentences.values()))
    return " ".join(f"{name}: {sentence}" for name, sentence in sentences.items())


def _absent_sentence(scores: ClassScores) -> str:
    num_classes, absent = len(scores.iou), scores.absent
    mean_over = f"The mean runs over {num_classes - len(absent)} of {num_classes} classes (background included)"
    return f"{mean_over}; neither true nor predicted: {', '.join(absent)}." if absent else f"{mean_over}."
