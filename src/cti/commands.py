"""The commands that are no stage of a run: each parses its arguments and returns an exit code and a result."""

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from cti.cli import COMMANDS, add_common_options

Answer = tuple[int, dict[str, Any]]


def quickstart(arguments: list[str]) -> Answer:
    """Rendered shapes through all stages."""
    parser = _parser("quickstart")
    parser.add_argument("--out", default="runs/quickstart", help="folder of the run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of training (default: %(default)s)")
    given = parser.parse_args(arguments)
    from cti.apps.quickstart import quickstart as run
    from cti.files import to_json

    return 0, to_json(run(Path(given.out), given.seed))


def data(arguments: list[str]) -> Answer:
    """`cti data check PATH` and `cti data prepare NAME`."""
    actions = {"check": _check, "prepare": _prepare}
    parser = _parser("data")
    parser.add_argument(
        "action",
        choices=actions,
        help="check: decode everything once and report; prepare: turn official downloads into what the readers want",
    )
    if not arguments or arguments[0] not in actions:
        parser.parse_args(arguments)
    return actions[arguments[0]](arguments[1:])


def _check(arguments: list[str]) -> Answer:
    from cti.settings import config_parser, parse_config

    about = "Decode everything once and report what is wrong; exit code 1 if training would stop. Uses data.* only."
    parser = config_parser("cti data check", about)
    parser.add_argument("path", nargs="?", help="data folder (default: data.root, else CTI_DATA)")
    add_common_options(parser)
    config, given = parse_config(parser, arguments)
    from rich.console import Console

    from cti.data.check import check_data
    from cti.data.check_report import print_report

    report = check_data(replace(config.data, root=given.path or config.data.root))
    print_report(report, Console(stderr=True))
    return int(report.stops_training), report.to_dict()


def _prepare(arguments: list[str]) -> Answer:
    parser = argparse.ArgumentParser(prog="cti data prepare", description="Download, unpack and convert a benchmark.")
    parser.add_argument("name", choices=("voc12", "coco14"), help="PASCAL VOC 2012 with SBD, or COCO 2014")
    parser.add_argument("--root", required=True, help="folder of the archives and of the result")
    add_common_options(parser)
    given = parser.parse_args(arguments)
    from cti.data.prepare import prepare

    return 0, {"root": str(prepare(given.name, Path(given.root)))}


def label(arguments: list[str]) -> Answer:
    """Masks for new photos."""
    parser = _parser("label")
    parser.add_argument("photos", nargs="+", help="photos or folders of photos")
    parser.add_argument("--model", required=True, help="run folder, saved network, or id on the Hugging Face hub")
    parser.add_argument("--tags", nargs="+", default=None, help="classes in every one of these photos")
    parser.add_argument("--labels", default=None, help="file of tags per photo, such as labels.csv")
    parser.add_argument("--out", default="labels", help="folder of the masks (default: %(default)s)")
    parser.add_argument(
        "--use", choices=("cti", "segmenter"), help="which network (default: the segmenter if there is one)"
    )
    parser.add_argument(
        "--threshold", type=threshold, help="background score from 0 to 1, or free (default: the run's)"
    )
    given = parser.parse_args(arguments)
    from cti.predict.label import label as label_photos

    result = label_photos(given.photos, given.model, given.out, given.tags, given.labels, given.use, given.threshold)
    return int(not result.photos), asdict(result)


def threshold(text: str) -> float | Literal["free"]:
    """A background score as it is written on the command line."""
    return "free" if text == "free" else float(text)


def report(arguments: list[str]) -> Answer:
    """One run's report."""
    from cti.apps.report import write_report
    from cti.apps.report.report import NUM_PANELS

    parser = _parser("report")
    parser.add_argument("run", help="run folder, finished or not")
    parser.add_argument("--out", default=None, help="file to write (default: report.html in the run folder)")
    parser.add_argument("--photos", type=int, default=NUM_PANELS, help="photos to show (default: %(default)s)")
    given = parser.parse_args(arguments)
    out = None if given.out is None else Path(given.out)
    return 0, {"report": str(write_report(Path(given.run), out, given.photos))}


def compare(arguments: list[str]) -> Answer:
    """Several runs side by side."""
    from cti.apps.report import compare_runs

    parser = _parser("compare")
    parser.add_argument("runs", nargs="+", help="run folders, the baseline first")
    parser.add_argument("--out", default="compare.html", help="file to write (default: %(default)s)")
    given = parser.parse_args(arguments)
    return 0, {"report": str(compare_runs([Path(run) for run in given.runs], Path(given.out)))}


def export(arguments: list[str]) -> Answer:
    """Other formats."""
    from cti.apps.export import FORMATS

    parser = _parser("export")
    parser.add_argument("run", help="run folder, folder that `cti label` wrote, or (onnx) saved network")
    formats = "; ".join(f"{name}: {text}" for name, text in FORMATS.items())
    parser.add_argument("--to", required=True, choices=FORMATS, metavar="FORMAT", help=formats)
    parser.add_argument("--out", default=None, help="file or folder to write (default: in export/ of the run)")
    parser.add_argument(
        "--stage",
        choices=("train", "masks", "segment"),
        help="whose result (default: the segmenter's masks where it has finished; onnx: every network)",
    )
    parser.add_argument("--list", default="", help="list of the run, or file of photo ids (default: all with a mask)")
    parser.add_argument("--photos", default=None, help="voc-submission: folder of listed photos that are not the run's")
    parser.add_argument("--shape", choices=("polygons", "rle"), default="polygons", help="coco (default: %(default)s)")
    parser.add_argument(
        "--per", choices=("class", "component"), default="class", help="coco: one annotation per ... (default: class)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the folder that is there")
    given = parser.parse_args(arguments)
    from cti.apps.export.run import export as export_run

    images = None if given.photos is None else Path(given.photos)
    result = export_run(
        given.run,
        given.to,
        given.out,
        stage=given.stage,
        listed=given.list,
        images=images,
        shape=given.shape,
        per=given.per,
        overwrite=given.overwrite,
    )
    return 0, result


def serve(arguments: list[str]) -> Answer:
    """The web page."""
    parser = _parser("serve")
    parser.add_argument("run", help="run folder, or a model saved by save_pretrained")
    parser.add_argument("--folder", default=None, help="folder of photos to review")
    parser.add_argument("--out", default=None, help="where the review is kept (default: FOLDER_review)")
    parser.add_argument("--use", choices=("cti", "segmenter"), default=None, help="which network (default: segmenter)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="port (default: %(default)s)")
    parser.add_argument("--max-upload-mb", type=float, default=20, help="largest photo file (default: %(default)s)")
    parser.add_argument("--max-pixels", type=int, default=25_000_000, help="largest photo (default: %(default)s)")
    given = parser.parse_args(arguments)
    from cti.apps.web import serve as serve_run
    from cti.apps.web.guards import Limits

    serve_run(
        given.run,
        host=given.host,
        port=given.port,
        folder=Path(given.folder) if given.folder else None,
        out=Path(given.out) if given.out else None,
        use=given.use,
        limits=Limits(given.max_upload_mb, given.max_pixels),
    )
    return 0, {}


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"cti {name}", description=f"cti {name}: {COMMANDS[name]}.")
    add_common_options(parser)
    return parser
