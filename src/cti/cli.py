"""The command `cti`. Human output goes to stderr; with `--json` stdout is exactly one JSON object.

A command is a function: its options and their help come from its signature and docstring (`cti.arguments`). It is
imported when it is called, so that `cti --help` is quick.
"""

import argparse
import difflib
import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from importlib import import_module
from importlib.metadata import version

from cti.apps.export import FORMATS

COMMANDS: dict[str, tuple[str, str]] = {
    "quickstart": ("cti.commands:quickstart", "every stage on rendered shapes; no download"),
    "run": ("cti.commands:run", "all stages; finished ones are skipped"),
    "first-look": ("cti.commands:first_look", "what the frozen backbone knows of the classes"),
    "train": ("cti.commands:train", "learn the classes from tags"),
    "seeds": ("cti.commands:seeds", "class activation maps from the trained network"),
    "masks": ("cti.commands:masks", "pseudo-masks from the seeds"),
    "segment": ("cti.commands:segment", "train a segmentation network on the pseudo-masks"),
    "evaluate": ("cti.commands:evaluate", "score seeds, masks and segmentations where true masks exist"),
    "report": ("cti.commands:report", "write a run's report.html"),
    "compare": ("cti.commands:compare", "write one report of several runs side by side"),
    "ablate": ("cti.commands:ablate", "run a grid of changed settings over several seeds, and compare"),
    "label": ("cti.commands:label", "masks for new photos"),
    "serve": ("cti.commands:serve", "a web page to try a run and to review its masks"),
    "review": ("cti.commands:review", "take in masks that were corrected elsewhere"),
    "data check": ("cti.commands:check", "look through a data set before training"),
    "data prepare": ("cti.commands:prepare", "convert an official data set"),
    **{f"export {to}": (f"cti.commands:export_{to.replace('-', '_')}", says) for to, says in FORMATS.items()},
}
"""Words of a command -> the function behind it, and what it does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 for a clear error, 2 for a wrong call."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = next((name for name in COMMANDS if words[: name.count(" ") + 1] == name.split()), "")
    if not name:
        parser, asked = _top_parser(words), [word for word in words if word not in ("--help", "-h")]
        if asked and not asked[0].startswith("-") and (len(asked) > 1 or not _is_group(asked[0])):
            parser.error(_unknown(asked))
        parser.parse_args(words if asked and asked[0].startswith("-") else ["--help"])
    rest = words[name.count(" ") + 1 :]
    as_json, verbose, asks = "--json" in rest, "--verbose" in rest, {"--help", "-h", "--help-all"} & set(rest)
    rest = [word for word in rest if word not in ("--json", "--verbose")]
    _start_logging(verbose)
    from cti.arguments import call

    module, function = COMMANDS[name][0].split(":")
    try:
        # What other people's libraries print must not get between stdout and the JSON object.
        with redirect_stdout(sys.stderr) if as_json and not asks else nullcontext():
            # `label` shares photos out by itself (--shard).
            together = name != "label" and _started_together()
            with import_module("cti.train.ranks").with_the_others() if together else nullcontext(True) as leads:
                if not leads:
                    return 0
                code, result = call(getattr(import_module(module), function), f"cti {name}", rest)
    except (ValueError, OSError, ModuleNotFoundError) as error:  # OSError: a full disk, a folder that is not ours
        if verbose:
            raise
        print(f"cti {name}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print(f"cti {name}: stopped; call it again to go on.", file=sys.stderr)  # noqa: T201
        return 130
    if as_json:
        print(json.dumps(result))  # noqa: T201
    return code


def _is_group(word: str) -> bool:
    """Whether a word is the first of several commands, as `export`."""
    return any(name.startswith(f"{word} ") for name in COMMANDS)


def _unknown(words: Sequence[str]) -> str:
    """One sentence about words that are no command."""
    group = words[0] if _is_group(words[0]) else ""
    asked = " ".join(words[:2] if group else words[:1])
    close = difflib.get_close_matches(asked, COMMANDS, 1)
    hint = f"perhaps `cti {close[0]}` is meant; " if close else ""
    return f"there is no command '{asked}'; {hint}`{f'cti {group}'.strip()} --help` lists them."


def _started_together() -> bool:
    """Whether torchrun or srun has started several of this command, of which only the first is to do it."""
    by_torchrun = "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"
    return by_torchrun or os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1"


def _top_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser that lists the commands; those of one group only, if its first word is given."""
    group = next((f"{words[0]} " for name in COMMANDS if words and name.startswith(f"{words[0]} ")), "")
    names = [name for name in COMMANDS if name.startswith(group)]
    width = max(map(len, names))
    listing = "\n".join(f"  {name:<{width}}  {COMMANDS[name][1]}" for name in names)
    parser = argparse.ArgumentParser(
        prog="cti",
        description="From photos with image-level tags to pixel masks and a trained segmentation network.",
        epilog=f"commands:\n{listing}\n\n`cti COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=f"cti {group}COMMAND [options]",
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    parser.add_argument("--version", action="version", version=f"cti {version('cti')}")
    return parser


def _start_logging(verbose: bool) -> None:
    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(console=Console(stderr=True), show_path=False, show_time=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    logging.getLogger("cti").setLevel(logging.DEBUG if verbose else logging.INFO)
    if not verbose:  # which precision is computed in is nothing that a user must know
        logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
