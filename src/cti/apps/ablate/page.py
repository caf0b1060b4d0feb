"""The plot of a grid's differences, and the page that shows its runs side by side."""

import logging
from pathlib import Path

import numpy as np

from cti.apps.ablate.grid import run_folder
from cti.apps.ablate.numbers import FIXED, FREE, TOKENS
from cti.apps.ablate.results import AblationResult, tables
from cti.apps.report import page as report_page
from cti.apps.report.blocks import Block, Chart, Section
from cti.apps.report.charts import Intervals, Series, interval_chart, line_chart, svg_file
from cti.apps.report.compare import compare_runs
from cti.files import write_text

logger = logging.getLogger(__name__)

PLOT, PAGE = "ablation.svg", "ablation.html"


def write_page(result: AblationResult, out: Path) -> None:
    """Write the plot and, where the extra `report` is installed, the page; the runs of the first seed are compared."""
    plot = difference_chart(result)
    if plot is not None:
        write_text(out / PLOT, svg_file(plot))
    charts = [chart for chart in (plot, token_chart(result)) if chart is not None]
    blocks: list[Block] = [*tables(result), *charts]
    sections = [Section("ablation", result.grid.title, blocks)]
    runs = [run_folder(out, name, min(seeds)) for name, seeds in result.seeds.items() if seeds]
    try:
        if len(runs) > 1:
            compare_runs(runs, out / PAGE, result.grid.title, sections)
        else:
            report_page.check_extra()
            report_page.write_page(out / PAGE, result.grid.title, "", sections)
    except ModuleNotFoundError as error:
        logger.warning("%s", error)


def difference_chart(result: AblationResult) -> Chart | None:
    """mIoU of every variant less those it is compared with, with intervals; None if nothing can be compared."""
    start = next((measure.removesuffix(FIXED) for measure in result.measures if measure.endswith(f", {FIXED}")), None)
    pairs = [
        (variant.name, other)
        for variant in result.grid.variants
        for other in result.grid.others(variant)
        if result.seeds[variant.name] and result.seeds[other]
    ]
    if start is None or not pairs:
        return None
    series = []
    for colour, what in enumerate((FIXED, FREE)):
        points = []
        for name, other in pairs:
            summary = result.summaries[name].get(start + what)
            gain = None if summary is None else summary.differences.get(other)
            ends = (gain and gain.interval) or (np.nan, np.nan)
            points.append((np.nan if gain is None else gain.mean, *ends))
        values, low, high = 100 * np.array(points, float).T
        if not np.isnan(values).all():
            series.append(Intervals(what, values, low, high, colour))
    if not series:
        return None
    rows = [name if other == result.grid.baseline else f"{name} less {other}" for name, other in pairs]
    caption = f"{result.grid.title}: mIoU ({start.removesuffix(', ')}) less that of {result.grid.baseline}"
    return interval_chart(caption, rows, series, "points of mIoU", note="With 95 % intervals over photos.")


def token_chart(result: AblationResult) -> Chart | None:
    """How alike the class tokens are after each block, a line per variant; None without any number."""
    series = []
    for colour, (name, summaries) in enumerate(result.summaries.items()):
        found = {int(m.rsplit(" ", 1)[1]): s.mean for m, s in summaries.items() if m.startswith(TOKENS)}
        if found:
            series.append(Series(name, list(found), list(found.values()), colour=colour))
    if not series:
        return None
    caption = "Cosine of the tokens of different classes in a photo (lower = better told apart)"
    return line_chart(caption, series, "after block", "mean cosine")
