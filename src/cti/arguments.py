"""A function as a command: options and help from its signature and docstring.

Parameters before `*` are given without a name, those after it as options; a sequence takes several words. A parameter
`config` becomes one option per setting, of which `--help` shows the sections that the command reads.
"""

import inspect
import logging
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args, get_origin

from docstring_parser import parse
from jsonargparse import ArgumentParser

from cti.config import ONLY_TRAINING, Config
from cti.settings import add_settings, config_of, parse_words

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

SHORT = {
    "--weights": "--model.weights",
    "--epochs": "--train.epochs",
    "--size": "--model.image_size",
    "--long-side": "--seeds.long_side --segment.long_side",
    "--preview": "--runtime.preview",
    "--allow-missing": "--runtime.allow_missing=true",
    "--overwrite": "--runtime.overwrite=true",
    "--retrain": "--runtime.retrain=true",
}
"""Short forms of common settings."""


_MAY_TRAIN = ("run", "train")
_ONLY_TRAINING = re.compile(rf"--(size|epochs|model\.image_size|{ONLY_TRAINING})")
"""Options of these commands that matter where CTI is trained."""

ALONE = {"fix": "clean.csv"}
"""Options that may stand alone, and what they then mean."""


def reads(*sections: str) -> Callable[[F], F]:
    """Say which sections of the configuration a command reads: those that its `--help` shows."""

    def mark(function: F) -> F:
        function.__dict__["sections"] = sections
        return function

    return mark


def call(function: Callable[..., Any], prog: str, words: Sequence[str]) -> tuple[int, Any]:
    """Parse the words of a command and call its function.

    Args:
        function: The command.
        prog: What is called, for its help.
        words: What follows.

    Returns:
        The exit code (`exit_code` of the result, if it has one), and the result as JSON can hold it.

    Raises:
        ValueError: for an unknown setting or a wrong value.
    """
    given, takes_config = words, "config" in inspect.signature(function).parameters
    parser = command_parser(function, prog, all_settings="--help-all" in words)
    if takes_config:
        words = _with_recipe(function, _written_out(words))
    if "--help-all" in words:
        words = ["--help"]
    namespace = parse_words(parser, words)
    named = {name: namespace[name] for name in inspect.signature(function).parameters if name != "config"}
    if not takes_config:
        result = function(**named)
    else:
        config = config_of(parser, namespace)
        if function.__name__ in _MAY_TRAIN and (sentence := _unused(config, given)):
            logger.warning("%s", sentence)
        result = function(config=config, **named)

    from cti.files import to_json  # after the parsing: help need not wait for it

    as_json = result.to_dict() if hasattr(result, "to_dict") else to_json(result) if result is not None else {}
    return int(getattr(result, "exit_code", 0)), as_json


def command_parser(function: Callable[..., Any], prog: str, all_settings: bool = False) -> ArgumentParser:
    """The parser of a command.

    Args:
        function: The command; its docstring gives the texts.
        prog: What is called.
        all_settings: Show all settings in its help, not only those of the sections that it reads.
    """
    document, signature = parse(function.__doc__ or ""), inspect.signature(function)
    texts = {parameter.arg_name: parameter.description or "" for parameter in document.params}
    about = "\n\n".join(filter(None, (document.short_description, document.long_description)))
    parser = ArgumentParser(
        prog=prog,
        description=about,
        usage=f"{prog} {_usage(function)}",
        exit_on_error="config" not in signature.parameters,  # wrong settings get a sentence of ours
        allow_abbrev=False,
    )
    for name, parameter in signature.parameters.items():
        if name != "config":
            _add(parser, parameter, parameter.annotation, texts.get(name, ""))
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")
    parser.add_argument("--verbose", action="store_true", help="log more, and show tracebacks")
    if "config" in signature.parameters:
        shorts = "; ".join(f"{short} = {long.replace(' --', ' and ')}" for short, long in SHORT.items())
        parser.add_argument("--help-all", action="store_true", help=f"show every setting. Short forms: {shorts}")
        add_settings(parser, None if all_settings else function.__dict__.get("sections", ()))
    return parser


def _add(parser: ArgumentParser, parameter: inspect.Parameter, hint: Any, text: str) -> None:
    if hint is bool:
        option = f"--{parameter.name.rstrip('_').replace('_', '-')}"
        parser.add_argument(option, dest=parameter.name, action="store_true", help=text)
        return
    several = get_origin(_without_none(hint)) in (tuple, list, Sequence)
    required = parameter.default is inspect.Parameter.empty
    settings: dict[str, Any] = {"help": text, "type": get_args(_without_none(hint))[0] if several else hint}
    if several:
        settings["nargs"] = "+"
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
        settings |= {"required": True} if required else {"default": parameter.default}
        if parameter.name in ALONE:
            settings |= {"nargs": "?", "const": ALONE[parameter.name]}
        option = f"--{parameter.name.rstrip('_').replace('_', '-')}"
        parser.add_argument(option, dest=parameter.name, **settings)
    else:
        if not required:
            settings |= {"nargs": "?", "default": parameter.default}
        parser.add_argument(parameter.name, **settings)


def _without_none(hint: Any) -> Any:
    inner = [part for part in get_args(hint) if part is not type(None)]
    return inner[0] if type(None) in get_args(hint) and len(inner) == 1 else hint


def _usage(function: Callable[..., Any]) -> str:
    positional = [
        parameter.name.upper() if parameter.default is inspect.Parameter.empty else f"[{parameter.name.upper()}]"
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY and parameter.name != "config"
    ]
    return " ".join([*positional, "[options]"])


def _with_recipe(function: Callable[..., Any], words: list[str]) -> list[str]:
    """`cti run PHOTOS` as what it stands for: the recipe for one's own photos, or the run to begin with, on it."""
    parameters = inspect.signature(function).parameters
    photos = "photos" in parameters and bool(words) and not words[0].startswith("-")
    if _value(words, "--config"):
        recipe = []
    elif "from_" in parameters and (run := _value(words, "--from")):
        recipe = ["--config", run]
    else:
        recipe = ["--config", "own"] if photos else []
    if photos:
        at_root = words.index("--config") + 2 if "--config" in words else 0
        return [*words[1:at_root], *recipe, f"--data.root={words[0]}", *words[max(at_root, 1) :], words[0]]
    return [*recipe, *words]


def _unused(config: Config, words: Sequence[str]) -> str:
    """A sentence about options of a training that does not take place, as the first look is enough; else empty."""
    options = (word.partition("=")[0] for word in words)
    unused = [option for option in options if _ONLY_TRAINING.fullmatch(option)]
    if not unused or not config.look_is_enough:
        return ""
    return (
        f"{', '.join(unused)}: for a training that does not take place, because the first look is enough "
        f"(train.warm_start: {config.train.warm_start}); --train.warm_start on trains from there, --long-side sets the "
        "size at which photos are seen."
    )


def _value(words: list[str], option: str) -> str:
    """What follows an option, or is given to it with an equals sign; empty without it."""
    for number, word in enumerate(words, 1):
        name, equals, value = word.partition("=")
        if name == option:
            return value if equals else "".join(words[number : number + 1])
    return ""


def _written_out(words: Sequence[str]) -> list[str]:
    """The words of a command line with the settings that short forms stand for; `--long-side` stands for two."""
    made: list[str] = []
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        names = SHORT[option].split() if option in SHORT else [option]
        if len(names) > 1:
            value, equals = value if equals else next(rest, ""), "="
        made += [f"{name}{equals}{value}" for name in names]
    return made
