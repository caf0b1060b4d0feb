"""Several runs side by side, such as the baseline and CTI."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from cti.apps.report.blocks import Block, Row, Section, Words
from cti.apps.report.page import check_extra, write_page
from cti.apps.report.panels import build_panels
from cti.apps.report.run_folder import RunFolder, read_run
from cti.apps.report.run_tables import cost_table, loss_comparison, settings_table
from cti.apps.report.score_tables import curve_chart
from cti.apps.report.tokens import run_tokens, tsne_charts
from cti.data import Photo
from cti.evaluate.bootstrap import Interval, mean_difference
from cti.evaluate.confusion import Counts
from cti.evaluate.list_scores import covers
from cti.evaluate.masks import count_masks
from cti.evaluate.scores import MASKS, PSEUDO_MASKS, SEED_FIXED, SEED_FREE, ListScores, segmentation_name
from cti.evaluate.seeds import count_seeds
from cti.evaluate.tables import SWEPT_NOTE, class_table, measures
from cti.tables import MISSING, Cell, Table, percent, row

logger = logging.getLogger(__name__)

NUM_PANELS = 36
RESAMPLES = 1000


def compare_runs(runs: list[Path], out: Path, title: str = "Runs side by side", before: Sequence[Section] = ()) -> Path:
    """Write a page with runs side by side: scores, differences, curves, classes, the same photos, settings.

    Differences are against the first run, with a paired bootstrap over the photos that all runs have results for.

    Args:
        runs: Run folders, at least two, the baseline first.
        out: The HTML file to write.
        title: Title of the page.
        before: Sections to begin with.

    Returns:
        `out`.

    Raises:
        ValueError: for fewer than two runs, a folder that is no run, or runs of different classes.
        ModuleNotFoundError: if the extra `report` is not installed.
    """
    check_extra()
    if len(runs) < 2:
        raise ValueError(f"{len(runs)} run was given; name at least two to compare.")
    folders = _named([read_run(run) for run in runs])
    known = [folder for folder in folders if folder.classes]
    for folder in known[1:]:
        if folder.classes != known[0].classes:
            raise ValueError(
                f"{folder.path} has the classes {', '.join(folder.classes)}, but {known[0].path} has "
                f"{', '.join(known[0].classes)}; only runs of the same classes can be compared."
            )
    shared = [name for name in folders[0].scores if all(name in folder.scores for folder in folders)]
    notes = tuple(f"{folder.name}: {note}" for folder in folders for note in folder.notes)
    panels = build_panels(folders, NUM_PANELS)
    sections = [
        *before,
        *(Section(f"scores-{name}", f"Scores: list {name}", _score_blocks(folders, name)) for name in shared),
        Section("panels", "The same photos", [] if panels is None else [panels]),
        Section("training", "Training", _training(folders)),
        Section("tokens", "Class tokens: t-SNE by block", _tokens(folders)),
        Section("settings", "Settings", _settings(folders)),
        Section("cost", "Cost", _costs(folders)),
        Section("data", "Data", [Words(notes)] if notes else []),
    ]
    names = " · ".join(folder.name for folder in folders)
    return write_page(Path(out), title, names, sections)


def paired_areas(
    folder: RunFolder, list_name: str, photos: Sequence[Photo], classes: Sequence[str]
) -> dict[str, Counts]:
    """Per-photo areas (n, 3, K) of whatever the run has for all of the photos, by the names of `ListScores.by_name`."""
    areas: dict[str, Counts] = {}
    if folder.config is None:
        return areas
    seeds = folder.scores[list_name].first_seeds
    if seeds is not None and covers(folder.path / "seeds", photos, ".npz"):
        counts = count_seeds(folder.path / "seeds", photos, classes, seeds.threshold, keep_areas=True)
        areas[SEED_FIXED] = np.stack(counts.fixed_areas)
        if counts.free_areas:
            areas[SEED_FREE] = np.stack(counts.free_areas)
    masks = {PSEUDO_MASKS: folder.path / "masks" / "pseudo"}
    for variant in folder.config.predict.variants:
        masks[segmentation_name(variant)] = folder.path / "segment" / "predictions" / variant
    if "segment" in folder.manifests:
        masks[MASKS] = folder.path / "masks"
    areas |= {
        name: count_masks(path, photos, classes).areas for name, path in masks.items() if covers(path, photos, ".png")
    }
    return areas


def differences(folders: Sequence[RunFolder], list_name: str) -> list[dict[str, Interval | None]]:
    """Paired bootstrap of each further run against the first, by what both have; empty without photos or masks."""
    photo_set = folders[0].photo_set
    photos = [] if photo_set is None else [photo for photo in photo_set.lists[list_name] if photo.mask is not None]
    if photo_set is None or not photos:
        return [{} for _ in folders[1:]]
    try:
        base, *others = [paired_areas(folder, list_name, photos, photo_set.classes) for folder in folders]
    except (OSError, ValueError) as error:
        logger.warning("The differences have no intervals: %s", error)
        return [{} for _ in folders[1:]]
    return [
        {name: mean_difference([areas[name]], [base[name]], RESAMPLES) for name in areas if name in base}
        for areas in others
    ]


def _score_blocks(folders: Sequence[RunFolder], list_name: str) -> list[Block]:
    scores = {folder.name: folder.scores[list_name] for folder in folders}
    blocks: list[Block] = [_summary(scores, differences(folders, list_name), list_name)]
    kinds = {run: seeds for run, run_scores in scores.items() if (seeds := run_scores.first_seeds) is not None}
    if kinds:
        blocks.append(curve_chart(kinds, f"mIoU of the seeds against the threshold, list {list_name}"))
    by_run = {run: run_scores.by_name for run, run_scores in scores.items()}
    for measure in next(iter(by_run.values())):
        columns = {run: products[measure] for run, products in by_run.items() if measure in products}
        table = class_table(columns, list_name)
        if table is not None and len(columns) > 1:
            blocks.append(replace(table, caption=f"{measure}: {table.caption}", folded=measure == SEED_FREE))
    return blocks


def _summary(
    scores: Mapping[str, ListScores], intervals: Sequence[Mapping[str, Interval | None]], list_name: str
) -> Table:
    by_run = {run: measures(run_scores) for run, run_scores in scores.items()}
    base, *others = by_run
    rows = []
    for measure in dict.fromkeys(measure for mious in by_run.values() for measure in mious):
        mious = [mious.get(measure) for mious in by_run.values()]
        gains = [
            _difference(miou, mious[0], paired.get(measure)) for miou, paired in zip(mious[1:], intervals, strict=True)
        ]
        rows.append(row(measure, *map(percent, mious), *gains))
    header = ("mIoU, %", *by_run, *(f"{other} - {base}" for other in others))
    note = SWEPT_NOTE
    if any(intervals):
        note += f" Differences in points, with the 95 % interval of {RESAMPLES} paired resamples of the photos."
    return Table(f"Mean IoU, list {list_name}", header, tuple(rows), note=note)


def _difference(value: float | None, base: float | None, interval: Interval | None) -> Cell:
    if value is None or base is None:
        return Cell(MISSING)
    if interval is None:
        return Cell(f"{100 * (value - base):+.1f}")
    return Cell(f"{100 * interval.value:+.1f}", note=f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}")


def _training(folders: Sequence[RunFolder]) -> list[Block]:
    titles = {"train": "CTI: loss", "segment": "Segmentation network: loss"}
    charts = (
        loss_comparison({folder.name: folder.metrics.get(stage, ()) for folder in folders}, title)
        for stage, title in titles.items()
    )
    return [chart for chart in charts if chart is not None]


def _tokens(folders: Sequence[RunFolder]) -> list[Block]:
    """A row per block, a column per run."""
    by_run = [tsne_charts(run_tokens(folder), f"{folder.name}, ") for folder in folders]
    by_block = zip_longest(*by_run)  # networks may differ in depth
    return [Row(tuple(chart for chart in charts if chart is not None)) for charts in by_block]


def _settings(folders: Sequence[RunFolder]) -> list[Block]:
    table = settings_table({folder.name: folder.settings() for folder in folders})
    configs = [
        Words((folder.config_text,), code=True, caption=f"{folder.name}: config.yaml")
        for folder in folders
        if folder.config_text
    ]
    return [*([] if table is None else [table]), *configs]


def _costs(folders: Sequence[RunFolder]) -> list[Block]:
    tables = ((folder, cost_table(folder)) for folder in folders)
    return [replace(table, caption=f"{folder.name}: cost of each stage") for folder, table in tables if table]


def _named(folders: list[RunFolder]) -> list[RunFolder]:
    """Runs of equal names get their parent folder's name in front."""
    names = [folder.name for folder in folders]
    return [
        replace(folder, name=f"{folder.path.parent.name}/{folder.name}") if names.count(folder.name) > 1 else folder
        for folder in folders
    ]
