"""Several runs side by side, such as the baseline and CTI."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from cti.apps.report.blocks import MISSING, Block, Cell, Row, Section, Table, Words
from cti.apps.report.page import check_extra, write_page
from cti.apps.report.panels import build_panels
from cti.apps.report.run_folder import RunFolder, read_run
from cti.apps.report.run_tables import cost_table, loss_comparison, settings_table
from cti.apps.report.score_tables import SWEPT_NOTE, Scores, class_table, confusions, curve_chart, measures, percent
from cti.apps.report.tokens import run_tokens, tsne_charts
from cti.data import Photo
from cti.evaluate import Interval, paired_difference, score_masks, score_seeds
from cti.evaluate.confusion import Counts

logger = logging.getLogger(__name__)

NUM_PANELS = 36
RESAMPLES = 1000
SEED_FIXED, SEED_FREE = "seed, fixed", "seed, threshold-free"


def compare_runs(runs: list[Path], out: Path) -> Path:
    """Write a page with runs side by side: scores, differences, curves, classes, the same photos, settings.

    Differences are against the first run, with a paired bootstrap over the photos that all runs have results for.

    Args:
        runs: Run folders, at least two, the baseline first.
        out: The HTML file to write.

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
        *(Section(f"scores-{name}", f"Scores: list {name}", _score_blocks(folders, name)) for name in shared),
        Section("panels", "The same photos", [] if panels is None else [panels]),
        Section("training", "Training", _training(folders)),
        Section("tokens", "Class tokens: t-SNE by block", _tokens(folders)),
        Section("settings", "Settings", _settings(folders)),
        Section("cost", "Cost", _costs(folders)),
        Section("data", "Data", [Words(notes)] if notes else []),
    ]
    names = " · ".join(folder.name for folder in folders)
    return write_page(Path(out), "Runs side by side", names, sections)


def paired_areas(
    folder: RunFolder, list_name: str, photos: Sequence[Photo], classes: Sequence[str]
) -> dict[str, Counts]:
    """Per-photo areas (n, 3, K) of whatever the run has for all of the photos, by the names of `confusions`."""
    found: dict[str, Counts] = {}
    if folder.config is None:
        return found
    seeds = folder.path / "seeds"
    kind = next(iter(folder.scores[list_name].get("seeds", {}).values()), None)
    if kind is not None and _covers(seeds, photos, "npz"):
        scores = score_seeds(seeds, photos, classes, kind["fixed"]["threshold"], bootstrap=1)
        assert scores.fixed_areas is not None
        found[SEED_FIXED] = scores.fixed_areas
        if scores.free_areas is not None:
            found[SEED_FREE] = scores.free_areas
    masks = {"pseudo-masks": folder.path / "masks"}
    for variant in folder.config.predict.variants:
        masks[f"segmentation, {variant}"] = folder.path / "segment" / "predictions" / variant
    for name, path in masks.items():
        if _covers(path, photos, "png"):
            areas = score_masks(path, photos, classes, bootstrap=1).areas
            assert areas is not None
            found[name] = areas
    return found


def differences(folders: Sequence[RunFolder], list_name: str) -> list[dict[str, Interval]]:
    """Paired bootstrap of each further run against the first, by what both have; empty without photos or masks."""
    photo_set = folders[0].photo_set
    photos = [] if photo_set is None else [photo for photo in photo_set.lists[list_name] if photo.mask is not None]
    if photo_set is None or not photos:
        return [{} for _ in folders[1:]]
    try:
        areas = [paired_areas(folder, list_name, photos, photo_set.classes) for folder in folders]
    except (OSError, ValueError) as error:
        logger.warning("The differences have no intervals: %s", error)
        return [{} for _ in folders[1:]]
    return [
        {name: paired_difference(own[name], areas[0][name], RESAMPLES) for name in own if name in areas[0]}
        for own in areas[1:]
    ]


def _score_blocks(folders: Sequence[RunFolder], list_name: str) -> list[Block]:
    scores = {folder.name: folder.scores[list_name] for folder in folders}
    blocks: list[Block | None] = [_summary(scores, differences(folders, list_name), list_name)]
    kinds = {name: next(iter(one["seeds"].values())) for name, one in scores.items() if one.get("seeds")}
    blocks.append(curve_chart(kinds, f"mIoU of the seeds against the threshold, list {list_name}"))
    matrices = {name: confusions(one) for name, one in scores.items()}
    for measure in next(iter(matrices.values())):
        columns = {name: own[measure] for name, own in matrices.items() if measure in own}
        table = class_table(columns, list_name)
        if table is not None and len(columns) > 1:
            folded = measure == SEED_FREE
            blocks.append(replace(table, caption=f"{measure}: {table.caption}", folded=folded))
    return [block for block in blocks if block is not None]


def _summary(scores: Mapping[str, Scores], intervals: Sequence[Mapping[str, Interval]], list_name: str) -> Table:
    values = {name: measures(one) for name, one in scores.items()}
    base, *others = values
    rows = []
    for measure in dict.fromkeys(measure for own in values.values() for measure in own):
        cells = [Cell(percent(own.get(measure))) for own in values.values()]
        for other, paired in zip(others, intervals, strict=True):
            cells.append(_difference(values[other].get(measure), values[base].get(measure), paired.get(measure)))
        rows.append((measure, tuple(cells)))
    header = ("mIoU, %", *values, *(f"{other} - {base}" for other in others))
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


def _covers(folder: Path, photos: Sequence[Photo], suffix: str) -> bool:
    return all((folder / f"{photo.id}.{suffix}").is_file() for photo in photos)


def _named(folders: list[RunFolder]) -> list[RunFolder]:
    """Runs of equal names get their parent folder's name in front."""
    names = [folder.name for folder in folders]
    return [
        replace(folder, name=f"{folder.path.parent.name}/{folder.name}") if names.count(folder.name) > 1 else folder
        for folder in folders
    ]
