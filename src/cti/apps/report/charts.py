"""Line and scatter charts as inline SVG whose ink and colours follow the page, in light and in dark."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cti.apps.report.blocks import Chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SERIES = 8  # colours of the style sheet: --s0 .. --s7
MAX_POINTS = 300
FONT = 10
# Matplotlib wants real colours: these stand for the page's own and are replaced in the SVG.
_INK, _LINES = "#fe00f0", "#fe00f1"
_SIZE = (4.8, 3.1)  # inches of 72 px: close to a phone's width, so that text keeps its size there


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Args:
        name: Name for the legend.
        x: (n,) rising.
        y: (n,) NaN where undefined.
        colour: Index into the page's palette; odd ones are also dashed, to be told apart without colours.
    """

    name: str
    x: ArrayLike
    y: ArrayLike
    colour: int = 0


def line_chart(
    caption: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str = "",
    *,
    logarithmic: bool = False,
    verticals: Sequence[tuple[float, str]] = (),
    horizontals: Sequence[tuple[float, str]] = (),
    note: str = "",
) -> Chart:
    """Lines over a common x; long series are averaged over neighbouring points.

    Args:
        caption: What the chart shows.
        series: At least one.
        x_label: With unit.
        y_label: With unit.
        logarithmic: Scale of y, if every value is above 0.
        verticals: Values of x to mark, with words.
        horizontals: Values of y to mark, with words.
        note: A sentence below.
    """
    figure, axes = _canvas()
    for line in series:
        x, y = thinned(np.asarray(line.x, float), np.asarray(line.y, float))
        style = "--" if line.colour % 2 else "-"
        marker = "o" if x.size < 2 else None
        axes.plot(x, y, style, color=_series_colour(line.colour), linewidth=1.6, marker=marker, markersize=4)
    if logarithmic and all(np.nanmin(line.y) > 0 for line in series):
        axes.set_yscale("log")
    else:
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.6g}")
    for x_mark, words in verticals:
        axes.axvline(x_mark, color=_LINES, linewidth=1, linestyle=":")
        axes.annotate(words, (x_mark, 1.01), xycoords=("data", "axes fraction"), ha="center", fontsize=FONT, color=_INK)
    for y_mark, words in horizontals:
        axes.axhline(y_mark, color=_LINES, linewidth=1, linestyle=":")
        axes.annotate(
            words,
            (0.995, y_mark),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=FONT,
            color=_INK,
        )
    if all((np.mod(line.x, 1) == 0).all() for line in series):
        axes.locator_params(axis="x", nbins=6, integer=True)  # there is no step 2.5
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(color=_LINES, alpha=0.35, linewidth=0.6)
    ends = "; ".join(_described(line) for line in series)
    legend = tuple((line.name, f"var(--s{line.colour % SERIES})", line.colour % 2 == 1) for line in series if line.name)
    return Chart(caption, _svg(figure, f"{caption}. {ends}"), legend if len(legend) > 1 else (), note)


def scatter_chart(
    caption: str, points: NDArray[np.float64], groups: NDArray[np.int64], names: Sequence[str], colours: Sequence[str]
) -> Chart:
    """Points in the plane, coloured by group, each group's name at its median; axes without numbers.

    Args:
        caption: What the chart shows.
        points: (n, 2).
        groups: (n,) 0-based.
        names: Names of the groups.
        colours: Colours of the groups, as #rrggbb.
    """
    figure, axes = _canvas()
    for group in np.unique(groups):
        members = points[groups == group]
        axes.scatter(members[:, 0], members[:, 1], s=14, color=colours[group], alpha=0.85, linewidths=0)
        axes.annotate(
            names[group], tuple(np.median(members, axis=0)), ha="center", va="center", fontsize=FONT, color=_INK
        )
    axes.spines[:].set_visible(True)
    axes.set_xticks([])
    axes.set_yticks([])
    words = f"{caption}. {len(points)} points of {np.unique(groups).size} classes"
    return Chart(caption, _svg(figure, words))


@dataclass(frozen=True)
class Intervals:
    """Values with intervals, one a row of a chart.

    Args:
        name: Name for the legend.
        values: (n,) NaN where undefined.
        low: (n,) lower ends.
        high: (n,) upper ends.
        colour: Index into the page's palette.
    """

    name: str
    values: ArrayLike
    low: ArrayLike
    high: ArrayLike
    colour: int = 0


def interval_chart(
    caption: str, rows: Sequence[str], series: Sequence[Intervals], x_label: str, note: str = ""
) -> Chart:
    """Points with whiskers, a row each, and a line at 0.

    Args:
        caption: What the chart shows.
        rows: Names of the n rows, from above.
        series: At least one.
        x_label: With unit.
        note: A sentence below.
    """
    figure, axes = _canvas()
    figure.set_size_inches(1.35 * _SIZE[0], 0.9 + 0.34 * len(rows))
    words = []
    for place, points in enumerate(series):
        values, low, high = (np.asarray(ends, float) for ends in (points.values, points.low, points.high))
        y = np.arange(len(rows)) + 0.22 * (place - (len(series) - 1) / 2)
        ends = np.nan_to_num(np.maximum([values - low, high - values], 0))
        colour = _series_colour(points.colour)
        axes.errorbar(values, y, xerr=ends, fmt="o", markersize=4, color=colour, elinewidth=1.4)
        words += [f"{points.name}, {row}: {value:.3g}" for row, value in zip(rows, values, strict=True)]
    axes.axvline(0, color=_LINES, linewidth=1)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(x_label)
    axes.grid(axis="x", color=_LINES, alpha=0.35, linewidth=0.6)
    legend = tuple((points.name, f"var(--s{points.colour % SERIES})", False) for points in series)
    return Chart(caption, _svg(figure, f"{caption}. {'; '.join(words)}"), legend, note)


def svg_file(chart: Chart) -> str:
    """A chart as a file of its own, in the page's light colours, its legend at the top."""
    style = (resources.files("cti.apps.report") / "style.css").read_text(encoding="utf-8")
    colours: dict[str, str] = {}
    for name, colour in re.findall(r"--(\w+): (#\w+)", style):
        colours.setdefault(name, colour)  # the dark ones come second
    words = "".join(f'<tspan fill="{colour}" dx="8">{escape(name)}</tspan>' for name, colour, _ in chart.legend if name)
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    text = chart.svg.replace("<svg", head, 1)
    text = text.replace("<defs>", f'<rect width="100%" height="100%" fill="{colours["paper"]}"/>\n<defs>', 1)
    text = text.replace("</svg>", f'<text y="11" font-size="10" font-family="sans-serif">{words}</text></svg>')
    return re.sub(r"var\(--(\w+)\)", lambda match: colours[match[1]], text)


def thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most about `MAX_POINTS` points: means of equally many neighbours each."""
    group = -(-x.size // MAX_POINTS)
    if group <= 1:
        return x, y
    starts = np.arange(0, x.size, group)
    counts = np.diff(np.append(starts, x.size))
    return np.add.reduceat(x, starts) / counts, np.add.reduceat(y, starts) / counts


def _canvas() -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure  # slow to import, and only reports draw

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    axes.tick_params(colors=_INK, labelsize=FONT)
    for spine in axes.spines.values():
        spine.set_color(_LINES)
    axes.spines[["top", "right"]].set_visible(False)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(_INK)
        label.set_fontsize(FONT)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.6g}")
    return figure, axes


def _svg(figure: "Figure", words: str) -> str:
    from matplotlib import rc_context

    buffer = io.StringIO()
    # The salt makes the ids of clip paths this chart's own, and the same on every run.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": words}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"\n\s*", "\n", text)
    text = text.replace(_INK, "var(--ink)").replace(_LINES, "var(--line)")
    text = re.sub(r"#fe01(0\d)", lambda match: f"var(--s{int(match[1])})", text)
    label = escape(words, quote=True)
    return re.sub(
        r'<svg height="[^"]*"( version="[^"]*")?|<svg', f'<svg role="img" aria-label="{label}"', text, count=1
    )


def _series_colour(index: int) -> str:
    return f"#fe01{index % SERIES:02d}"


def _described(series: Series) -> str:
    x, y = np.asarray(series.x, float), np.asarray(series.y, float)
    known = ~np.isnan(y)
    if not known.any():
        return f"{series.name}: no value"
    return (
        f"{series.name or 'value'}: from {y[known][0]:.3g} at {x[known][0]:.3g} to {y[known][-1]:.3g} "
        f"at {x[known][-1]:.3g}, highest {y[known].max():.3g}"
    )
