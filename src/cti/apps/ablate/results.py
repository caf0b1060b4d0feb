"""From the numbers of runs to means, spreads and paired differences, and the table of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from cti.apps.ablate.grid import Grid
from cti.apps.ablate.numbers import FIXED, FREE, OVERLAP, TAGS, TOKENS, RunNumbers, area_array
from cti.evaluate.bootstrap import LEVEL, Interval, mean_difference
from cti.files import to_json, write_json, write_text
from cti.tables import MISSING, Cell, Table, row, to_markdown

RESULT, TABLE = "ablation.json", "ablation.md"


@dataclass(frozen=True)
class Difference:
    """A variant less another one, seed by seed.

    Args:
        mean: Mean over the seeds.
        by_seed: Seed -> difference.
        spread: Standard deviation over the seeds; None for one seed.
        over_seeds: 95 % interval of the mean by Student's t over the seeds; None for one seed.
        over_photos: 95 % interval of the mean over photos drawn anew, the same for all runs; mIoU only.
    """

    mean: float
    by_seed: dict[int, float]
    spread: float | None
    over_seeds: tuple[float, float] | None
    over_photos: Interval | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval to show: over photos where there is one, else over seeds."""
        return self.over_seeds if self.over_photos is None else (self.over_photos.low, self.over_photos.high)


@dataclass(frozen=True)
class Summary:
    """One measure of one variant.

    Args:
        mean: Mean over the seeds.
        spread: Standard deviation over the seeds; None for one seed.
        by_seed: Seed -> value.
        differences: Other variant -> this one less that one.
    """

    mean: float
    spread: float | None
    by_seed: dict[int, float]
    differences: dict[str, Difference]


@dataclass(frozen=True)
class AblationResult:
    """What a grid came to.

    Args:
        grid: The grid.
        repeats: Seeds that were asked for.
        seeds: Variant -> seeds that have been run.
        summaries: Variant -> measure -> its summary; measures are those of `RunNumbers.values`.
        kept: Run -> which network was kept, where it is not the last one.
        seconds: Variant -> mean time of training.
        failures: Run -> why it failed.
    """

    grid: Grid
    repeats: int
    seeds: dict[str, tuple[int, ...]]
    summaries: dict[str, dict[str, Summary]]
    kept: dict[str, str]
    seconds: dict[str, float]
    failures: dict[str, str]

    @property
    def exit_code(self) -> int:
        """1 if a run failed."""
        return int(bool(self.failures))

    @property
    def measures(self) -> list[str]:
        """All measures, in their order."""
        return list(dict.fromkeys(measure for measures in self.summaries.values() for measure in measures))


def summarise(
    grid: Grid, repeats: int, numbers: Mapping[tuple[str, int], RunNumbers], failures: Mapping[str, str]
) -> AblationResult:
    """Sum up what has been run so far.

    Args:
        grid: The grid.
        repeats: Seeds that were asked for.
        numbers: Numbers by variant and seed.
        failures: Run -> why it failed.
    """
    by_variant = {
        variant.name: {seed: found for (name, seed), found in numbers.items() if name == variant.name}
        for variant in grid.variants
    }
    summaries = {}
    for variant in grid.variants:
        runs = by_variant[variant.name]
        others = {name: by_variant[name] for name in grid.others(variant)}
        measures = dict.fromkeys(measure for found in runs.values() for measure in found.values)
        made = {measure: _summary(measure, runs, others) for measure in measures}
        summaries[variant.name] = {measure: summary for measure, summary in made.items() if summary is not None}
    return AblationResult(
        grid,
        repeats,
        {name: tuple(runs) for name, runs in by_variant.items()},
        summaries,
        {f"{name}, seed {seed}": found.kept for (name, seed), found in numbers.items() if found.kept},
        {name: float(np.mean([run.seconds for run in runs.values()])) for name, runs in by_variant.items() if runs},
        dict(failures),
    )


def _summary(
    measure: str, runs: Mapping[int, RunNumbers], others: Mapping[str, Mapping[int, RunNumbers]]
) -> Summary | None:
    values = _values(measure, runs)
    if not values:
        return None
    differences = {name: _difference(measure, runs, other) for name, other in others.items()}
    return Summary(
        float(np.mean(list(values.values()))),
        _spread(list(values.values())),
        values,
        {name: difference for name, difference in differences.items() if difference is not None},
    )


def _difference(measure: str, runs: Mapping[int, RunNumbers], others: Mapping[int, RunNumbers]) -> Difference | None:
    ours, theirs = _values(measure, runs), _values(measure, others)
    paired = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
    if not paired:
        return None
    gains = list(paired.values())
    mean, spread, count = float(np.mean(gains)), _spread(gains), len(gains)
    over_seeds = None
    if spread is not None:
        half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * spread / count**0.5
        over_seeds = (mean - half, mean + half)
    over_photos = None
    if all(measure in found[seed].areas for seed in paired for found in (runs, others)):
        areas, baselines = ([area_array(found[seed].areas[measure]) for seed in paired] for found in (runs, others))
        over_photos = mean_difference(areas, baselines)
    return Difference(mean, paired, spread, over_seeds, over_photos)


def _values(measure: str, runs: Mapping[int, RunNumbers]) -> dict[int, float]:
    found = {seed: run.values.get(measure) for seed, run in sorted(runs.items())}
    return {seed: value for seed, value in found.items() if value is not None}


def _spread(values: list[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def tables(result: AblationResult) -> list[Table]:
    """A table for each list and kind of map that was scored: a row per variant and comparison."""
    scored = [measure.removesuffix(f", {FIXED}") for measure in result.measures if measure.endswith(f", {FIXED}")]
    return [_table(result, start, folded=place > 0) for place, start in enumerate(scored)]


def _table(result: AblationResult, start: str, folded: bool) -> Table:
    last = max((measure for measure in result.measures if measure.startswith(TOKENS)), key=_block, default=TOKENS)
    columns = {
        f"mIoU, {FIXED}": f"{start}, {FIXED}",
        f"mIoU, {FREE}": f"{start}, {FREE}",
        TAGS: TAGS,
        OVERLAP: f"{start}, {OVERLAP}",
        last: last,
    }
    rows = []
    run = [variant for variant in result.grid.variants if result.seeds[variant.name]]
    for variant in run:
        found = result.summaries[variant.name]
        cells = [_mean_cell(found.get(measure)) for measure in columns.values()]
        rows.append(row(variant.name, str(len(result.seeds[variant.name])), *cells, variant.says))
        for other in result.grid.others(variant):
            gains = [_gain_cell(found.get(measure), other) for measure in columns.values()]
            if any(gain.text != MISSING for gain in gains):
                rows.append(row(f"... less {other}", "", *gains, ""))
    not_run = ", ".join(variant.name for variant in result.grid.variants if variant not in run)
    note = (
        "In percent: mean ± standard deviation over the seeds. Below it the difference, seed by seed, with a 95 % "
        "interval: of mIoU over 1000 paired resamples of the photos, of the others by Student's t over the seeds. "
        + (f"Not run: {not_run}. " if not_run else "")
        + " ".join(f"{run}: {why}" for run, why in (result.kept | result.failures).items())
    )
    header = ("variant", "runs", *columns, "the paper")
    return Table(f"{result.grid.title}: {start}", header, tuple(rows), folded=folded, note=note.strip())


def _block(measure: str) -> int:
    return int(measure.rsplit(" ", 1)[1])


def _mean_cell(summary: Summary | None) -> Cell:
    return Cell(MISSING if summary is None else f"{100 * summary.mean:.1f}{_plus_minus(summary.spread)}")


def _gain_cell(summary: Summary | None, other: str) -> Cell:
    gain = None if summary is None else summary.differences.get(other)
    if gain is None:
        return Cell(MISSING)
    interval = gain.interval
    note = "" if interval is None else f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}"
    return Cell(f"{100 * gain.mean:+.1f}{_plus_minus(gain.spread)}", note=note)


def _plus_minus(spread: float | None) -> str:
    return "" if spread is None else f" ± {100 * spread:.1f}"


def write_summary(result: AblationResult, out: Path) -> None:
    """Write the numbers as JSON and the tables as Markdown."""
    write_json(out / RESULT, to_json(result))
    write_text(out / TABLE, "\n\n".join(map(to_markdown, tables(result))) + "\n")
