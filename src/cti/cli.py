"""The command `cti`. Human output goes to stderr; with `--json` stdout is exactly one JSON object.

Each command's parser and imports are made only when that command is called, so that `cti --help` is quick.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from typing import Any

COMMANDS: dict[str, str] = {
    "quickstart": "train on rendered shapes, no download: tags -> seeds -> masks -> segmenter -> scores",
    "run": "all stages of a configuration; finished ones are skipped",
    "first-look": "what the frozen backbone knows of the classes: a linear head and its first maps",
    "train": "learn the classes from tags",
    "seeds": "class activation maps from the trained network",
    "masks": "pseudo-masks from the seeds",
    "segment": "train a segmentation network on the pseudo-masks",
    "evaluate": "score seeds, masks and segmentations where true masks exist",
    "label": "masks for new photos",
    "report": "write a run's report.html",
    "compare": "write one report of several runs side by side",
    "export": "masks and networks in other formats",
    "serve": "a web page to try a run and to review its masks",
    "data": "check a data set, or prepare an official one",
}

_STAGES = ("run", "first-look", "train", "seeds", "masks", "segment", "evaluate")
_SHORT = {
    "--weights": "--model.weights",
    "--epochs": "--train.epochs",
    "--size": "--model.image_size",
    "--preview": "--runtime.preview",
    "--allow-missing": "--runtime.allow_missing=true",
    "--overwrite": "--runtime.overwrite=true",
}
"""Short forms of common settings."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 for a clear error, 2 for a wrong call."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] not in COMMANDS:
        _top_parser().parse_args(arguments or ["--help"])
    name, rest = arguments[0], arguments[1:]
    as_json, verbose = "--json" in rest, "--verbose" in rest
    rest = [word for word in rest if word not in ("--json", "--verbose")]
    _start_logging(verbose)
    try:
        # What other people's libraries print must not get between stdout and the JSON object.
        with redirect_stdout(sys.stderr) if as_json and "--help" not in rest else nullcontext():
            code, result = _call(name, rest)
    except (ValueError, OSError, ModuleNotFoundError) as error:  # OSError: a full disk, a folder that is not ours
        if verbose:
            raise
        print(f"cti {name}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print(f"cti {name}: stopped; call it again to go on.", file=sys.stderr)  # noqa: T201
        return 130
    if as_json:
        print(json.dumps(result, default=str))  # noqa: T201
    return code


def _call(name: str, arguments: list[str]) -> tuple[int, dict[str, Any]]:
    """Exit code and result of one command."""
    if name in _STAGES:
        return 0, _run_stage(name, arguments)
    from cti import commands

    command: Callable[[list[str]], tuple[int, dict[str, Any]]] = getattr(commands, name)
    return command(arguments)


def _run_stage(name: str, arguments: list[str]) -> Any:
    from cti.settings import config_parser, parse_config

    parser = config_parser(f"cti {name}", f"cti {name}: {COMMANDS[name]}.")
    if name == "run":
        parser.add_argument("photos", nargs="?", default="", help="folder of photos (data.root); implies --config own")
        stages = ("first-look", "train", "seeds", "masks", "segment", "evaluate")
        parser.add_argument("--stop-after", choices=stages, default=None, help="last stage to run")
    if name in ("seeds", "evaluate"):
        parser.add_argument("--official", default="", help="checkpoint in the CTI authors' names to use for the seeds")
    add_common_options(parser)
    for short, long in _SHORT.items():
        parser.add_argument(f"{short}", nargs="?", default=None, help=f"short for {long}")
    config, namespace = parse_config(parser, _expanded(name, arguments))

    from cti import pipeline
    from cti.files import to_json
    from cti.run import Run

    if name == "run":
        if namespace.get("stop_after"):
            last = config.stages.index(namespace["stop_after"].replace("-", "_"))
            config = replace(config, stages=config.stages[: last + 1])
        return {stage: to_json(result) for stage, result in pipeline.run(config).items()}
    if namespace.get("official"):
        seeds = config.seeds if name == "seeds" else replace(config.seeds, lists=("score",))
        result = pipeline.seeds(Run(replace(config, seeds=seeds)), namespace["official"])
        if name == "seeds":
            return to_json(result)
    return to_json(pipeline.STAGES[name.replace("-", "_")](Run(config)))


def _expanded(name: str, arguments: list[str]) -> list[str]:
    """The arguments with short forms written out, and `cti run PHOTOS` as what it stands for."""
    words = []
    for word in arguments:
        option, equals, value = word.partition("=")
        words.append(_SHORT.get(option, option) + equals + value)
    if name == "run" and words and not words[0].startswith("-"):
        photos = ["--data.root", words[0]]
        words = [*photos, *words[1:]] if "--config" in words else ["--config", "own", *photos, *words[1:]]
    return words


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Options that `main` takes off before parsing; listed for `--help`."""
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")
    parser.add_argument("--verbose", action="store_true", help="log more, and show tracebacks")


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="cti",
        description="From photos with image-level tags to pixel masks and a trained segmentation network.",
        epilog=f"commands:\n{listing}\n\n`cti COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="cti COMMAND [options]",
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    from importlib.metadata import version

    parser.add_argument("--version", action="version", version=f"cti {version('cti')}")
    return parser


def _start_logging(verbose: bool) -> None:
    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(console=Console(stderr=True), show_path=False, show_time=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    logging.getLogger("cti").setLevel(logging.DEBUG if verbose else logging.INFO)
