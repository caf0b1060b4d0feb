"""What a run was told, what it logged and what it cost."""

from collections.abc import Mapping, Sequence

from cti.apps.report.blocks import Chart
from cti.apps.report.charts import MAX_POINTS, Series, line_chart
from cti.apps.report.run_folder import RunFolder
from cti.tables import MISSING, Table, row

Lines = Sequence[Mapping[str, float]]
_TAG_LOSSES = ("loss", "loss/classification")
_NAMES = {
    "loss": "total",
    "lr": "learning rate",
    "tag_map": "mAP of the tags, photos not trained on",
    "accuracy": "right, of the labelled pixels",
    "labelled": "labelled, of all pixels",
}


def metric_charts(lines: Lines, title: str) -> list[Chart]:
    """Losses, learning rate and whatever else was logged in a training run."""
    names = list(dict.fromkeys(name for line in lines for name in line if name not in ("step", "epoch")))
    tag_losses = [name for name in names if name in _TAG_LOSSES]
    other_losses = [name for name in names if name.startswith("loss/") and name not in _TAG_LOSSES]
    values = [name for name in names if name not in ("lr", *tag_losses, *other_losses)]
    thin = len(_column(lines, "loss")[0]) > MAX_POINTS
    note = "Points are means of neighbouring log lines." if thin else ""
    charts = []
    if tag_losses:
        charts.append(line_chart(f"{title}: loss", _series(lines, tag_losses), "step", note=note))
    if other_losses:  # orders of magnitude below the others, and apart
        series = _series(lines, other_losses)
        charts.append(line_chart(f"{title}: further losses", series, "step", logarithmic=True, note=note))
    if "lr" in names:
        charts.append(line_chart(f"{title}: learning rate", _series(lines, ["lr"]), "step"))
    if len(values) == 1:
        charts.append(line_chart(f"{title}: {_NAMES.get(values[0], values[0])}", _series(lines, values), "step"))
    elif values:
        charts.append(line_chart(f"{title}: shares", _series(lines, values), "step"))
    return charts


def loss_comparison(runs: Mapping[str, Lines], caption: str) -> Chart | None:
    """Total loss of several runs in one chart."""
    series = [
        Series(name, *_column(lines, "loss"), colour=index)
        for index, (name, lines) in enumerate(runs.items())
        if _column(lines, "loss")[0]
    ]
    return line_chart(caption, series, "step", "loss") if series else None


def cost_table(run: RunFolder) -> Table | None:
    """Time, speed and memory of each finished stage."""
    if not run.manifests:
        return None
    rows = [
        row(
            stage,
            duration(manifest.seconds),
            _rounded(manifest.photos_per_second, "{:.1f}"),
            _rounded(manifest.costs.peak_memory_gb, "{:.1f} GB"),
            _rounded(manifest.costs.waited, "{:.0%}"),
            manifest.finished[:16].replace("T", " "),
        )
        for stage, manifest in run.manifests.items()
    ]
    rows.append(row("all", duration(sum(manifest.seconds or 0 for manifest in run.manifests.values())), *[""] * 4))
    header = ("stage", "time", "photos/s", "peak memory", "waited for data", "finished")
    note = f"Not finished: {', '.join(run.unfinished)}." if run.unfinished else ""
    return Table("Cost of each stage", header, tuple(rows), footer=1, note=note)


def data_table(run: RunFolder) -> Table | None:
    """Photos per class and list."""
    if run.photo_set is None:
        return None
    lists = {name: photos for name, photos in run.photo_set.lists.items() if photos}
    counts = {name: run.photo_set.count_tags(name) for name in lists}
    rows = [row(label, *(str(count[label]) for count in counts.values())) for label in run.photo_set.classes]
    rows.append(row("all photos", *(str(len(photos)) for photos in lists.values())))
    return Table("Photos with a class as a tag, by list", ("class", *lists), tuple(rows), footer=1)


def machine_table(run: RunFolder) -> Table | None:
    """Versions and machine, of the stage that finished last."""
    entries: dict[str, object] = {}
    for manifest in run.manifests.values():
        entries |= {**manifest.machine, **manifest.versions}
    if not entries:
        return None
    return Table("Machine and versions", ("", ""), tuple(row(name, str(value)) for name, value in entries.items()))


def settings_table(runs: Mapping[str, Mapping[str, object]]) -> Table | None:
    """The settings in which runs differ."""
    names = sorted({name for settings in runs.values() for name in settings} - {"out"})
    rows = []
    for name in names:
        values = [settings.get(name, MISSING) for settings in runs.values()]
        if any(value != values[0] for value in values):
            rows.append(row(name, *map(str, values)))
    if not rows:
        return None
    return Table("Settings in which the runs differ", ("setting", *runs), tuple(rows))


def duration(seconds: float | None) -> str:
    """Seconds as `1 h 02 min`, `3 min 20 s` or `4.2 s`."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _rounded(value: float | None, pattern: str) -> str:
    return MISSING if value is None else pattern.format(value)


def _series(lines: Lines, names: Sequence[str]) -> list[Series]:
    return [
        Series(_NAMES.get(name, name.removeprefix("loss/")), *_column(lines, name), colour=index)
        for index, name in enumerate(names)
    ]


def _column(lines: Lines, name: str) -> tuple[list[float], list[float]]:
    known = [line for line in lines if name in line]
    return [line["step"] for line in known], [line[name] for line in known]
