"""The report of one run."""

from pathlib import Path

from cti.apps.report.blocks import Block, Section, Words
from cti.apps.report.page import check_extra, write_page
from cti.apps.report.panels import build_panels, doubt_panels
from cti.apps.report.run_folder import RunFolder, read_run
from cti.apps.report.run_tables import cost_table, data_table, machine_table, metric_charts
from cti.apps.report.score_tables import list_blocks, summary_table
from cti.apps.report.tokens import token_blocks
from cti.evaluate.tables import tag_table, verdict_table
from cti.evaluate.verdict import Verdict, read_verdict

REPORT = "report.html"
NUM_PANELS = 48
NUM_DOUBTS = 24


def write_report(run: Path, out: Path | None = None, num_panels: int = NUM_PANELS) -> Path:
    """Write `report.html` into a run folder, finished or not: one file to be opened without network.

    What the run does not have (yet), such as scores without true masks, is absent from the page.

    Args:
        run: The run folder.
        out: The HTML file; `report.html` in the run folder if not given.
        num_panels: Photos to show, as long as the file stays small enough to be sent.

    Returns:
        The file's path.

    Raises:
        ValueError: if the folder is no run folder.
        ModuleNotFoundError: if the extra `report` is not installed.
    """
    check_extra()
    folder = read_run(run)
    verdict = None if folder.config is None else read_verdict(folder.path)
    sections = [
        Section("verdict", "Verdict without masks", [] if verdict is None else _verdict(folder, verdict)),
        Section("summary", "Summary", _present(summary_table(folder.scores))),
        *(
            Section(f"scores-{name}", f"Scores: {_list_words(folder, name)}", list_blocks(scores, name))
            for name, scores in folder.scores.items()
        ),
        Section("panels", "Photos", _present(build_panels([folder], num_panels))),
        Section("training", "Training", _training(folder)),
        Section(
            "tokens", "Class tokens", token_blocks(folder),
            "Maps (t-SNE) of the tokens of the photos' own classes, block by block: the sooner classes part, the "
            "better their tokens can localise. The silhouette measures it, from -1 to 1 (all apart).",
        ),
        Section("data", "Data", _present(data_table(folder), Words(folder.notes) if folder.notes else None)),
        Section("cost", "Cost", _present(cost_table(folder), machine_table(folder))),
        Section(
            "settings", "Settings",
            [Words((folder.config_text,), code=True, caption="config.yaml")] if folder.config_text else [],
        ),
    ]  # fmt: skip
    return write_page(folder.path / REPORT if out is None else out, folder.name, _subtitle(folder), sections)


def _verdict(folder: RunFolder, verdict: Verdict) -> list[Block]:
    words = Words((*verdict.sentences, f"After corrections: `cti run --config {folder.path}`"))
    return _present(words, verdict_table(verdict), doubt_panels(folder, verdict.doubtful, NUM_DOUBTS))


def _training(folder: RunFolder) -> list[Block]:
    titles = {"train": "CTI", "segment": "Segmentation network"}
    charts = [chart for stage, lines in folder.metrics.items() for chart in metric_charts(lines, titles[stage])]
    return [*charts, *([] if folder.tags is None else [tag_table(folder.tags)])]


def _subtitle(folder: RunFolder) -> str:
    parts = []
    if folder.config is not None:
        parts.append(f"backbone {folder.config.model.backbone}")
    if folder.classes:
        parts.append(f"{len(folder.classes)} classes")
    if folder.photo_set is not None:
        counts = (f"{len(photos)} {name}" for name, photos in folder.photo_set.lists.items() if photos)
        parts.append(f"photos: {', '.join(counts)}")
    if folder.unfinished:
        parts.append(f"not finished: {', '.join(folder.unfinished)}")
    return " · ".join(parts)


def _list_words(folder: RunFolder, name: str) -> str:
    file_name = "" if folder.config is None else getattr(folder.config.data, name, "")
    return f"list {name}" if file_name in ("", name) else f"list {name} ({file_name})"


def _present(*blocks: Block | None) -> list[Block]:
    return [block for block in blocks if block is not None]
