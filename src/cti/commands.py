"""The commands that are no stage of a run: each parses its arguments and returns an exit code and a result."""

import argparse
from pathlib import Path
from typing import Any

Answer = tuple[int, dict[str, Any]]


def quickstart(arguments: list[str]) -> Answer:
    """Rendered shapes through all stages."""
    from cti.quickstart import quickstart as run

    parser = _parser("quickstart")
    parser.add_argument("--out", default="runs/quickstart", help="folder of the run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of training (default: %(default)s)")
    given = parser.parse_args(arguments)
    return 0, run(Path(given.out), given.seed)


def data(arguments: list[str]) -> Answer:
    """`cti data check PATH` and `cti data prepare NAME`."""
    parser = _parser("data")
    actions = parser.add_subparsers(dest="action", required=True)
    check = actions.add_parser("check", help="decode everything once and report; exit code 1 if training would stop")
    check.add_argument("path", nargs="?", default="", help="data folder (default: CTI_DATA)")
    check.add_argument("--config", default=None, help="recipe, file or run folder whose `data` settings to use")
    prepare = actions.add_parser("prepare", help="turn official downloads into what the readers want")
    prepare.add_argument("name", choices=("voc12", "coco14"))
    prepare.add_argument("--root", required=True, help="folder of the archives and of the result")
    given, options = parser.parse_known_args(arguments)
    if given.action == "prepare":
        from cti.data.prepare import prepare as prepare_data

        if options:
            parser.error(f"unrecognized arguments: {' '.join(options)}")
        return 0, {"root": str(prepare_data(given.name, Path(given.root)))}

    from rich.console import Console

    from cti.data.check import check_data
    from cti.data.check_report import render_report
    from cti.settings import load_config

    root = ["--data.root", given.path] if given.path else []
    config = load_config(given.config, [*root, *options]).data
    report = check_data(config)
    Console(stderr=True).print(render_report(report))
    return int(report.stops_training), report.to_dict()


def label(arguments: list[str]) -> Answer:
    """Masks for new photos."""
    from cti.label import label as label_photos

    parser = _parser("label")
    parser.add_argument("photos", nargs="+", help="photos or folders of photos")
    parser.add_argument("--model", required=True, help="run folder, or a model saved by save_pretrained")
    parser.add_argument("--tags", nargs="+", default=None, help="classes in these photos; CTI itself makes the masks")
    parser.add_argument("--out", default="labels", help="folder of the masks (default: %(default)s)")
    given = parser.parse_args(arguments)
    use = "cti" if given.tags else "auto"
    return 0, label_photos([Path(p) for p in given.photos], given.model, tags=given.tags, use=use, out=Path(given.out))


def report(arguments: list[str]) -> Answer:
    """One run's report."""
    from cti.report import write_report

    parser = _parser("report")
    parser.add_argument("run", help="run folder")
    return 0, {"report": str(write_report(Path(parser.parse_args(arguments).run)))}


def compare(arguments: list[str]) -> Answer:
    """Several runs side by side."""
    from cti.report import compare_runs

    parser = _parser("compare")
    parser.add_argument("runs", nargs="+", help="run folders, the baseline first")
    parser.add_argument("--out", default="compare.html", help="file to write (default: %(default)s)")
    given = parser.parse_args(arguments)
    return 0, {"report": str(compare_runs([Path(run) for run in given.runs], Path(given.out)))}


def export(arguments: list[str]) -> Answer:
    """Other formats."""
    from cti.export import FORMATS
    from cti.export import export as export_run

    parser = _parser("export")
    parser.add_argument("run", help="run folder")
    parser.add_argument("--to", required=True, choices=FORMATS, help="format")
    parser.add_argument("--out", default=None, help="file or folder to write (default: in the run folder)")
    given = parser.parse_args(arguments)
    return 0, export_run(Path(given.run), given.to, None if given.out is None else Path(given.out))


def serve(arguments: list[str]) -> Answer:
    """The web page."""
    from cti.web import serve as serve_run

    parser = _parser("serve")
    parser.add_argument("run", help="run folder, or a model saved by save_pretrained")
    parser.add_argument("--folder", default=None, help="folder of photos to review")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="port (default: %(default)s)")
    given = parser.parse_args(arguments)
    serve_run(Path(given.run), host=given.host, port=given.port, folder=Path(given.folder) if given.folder else None)
    return 0, {}


def _parser(name: str) -> argparse.ArgumentParser:
    from cti.cli import COMMANDS

    parser = argparse.ArgumentParser(prog=f"cti {name}", description=f"cti {name}: {COMMANDS[name]}.")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")
    parser.add_argument("--verbose", action="store_true", help="log more, and show tracebacks")
    return parser
