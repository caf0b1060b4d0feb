"""Reading and writing configurations: recipes by name, YAML files, run folders, command-line overrides.

jsonargparse makes the options out of the dataclasses of `config.py`; unknown keys are errors.
"""

import argparse
import difflib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, DefaultHelpFormatter, Namespace  # type: ignore[attr-defined]

from cti.config import Config
from cti.files import parse_yaml

CONFIG_FILE = "config.yaml"


class _RecipeOrFile(ActionConfigFile):
    """`--config` that takes the name of a shipped recipe, a YAML file or a run folder."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        super().__call__(parser, namespace, _content(find_config(str(values))), option_string)  # type: ignore[no-untyped-call]
        if Path(str(values)).is_dir():
            namespace["out"] = str(values)  # a run is where it lies, wherever it was made


def recipes() -> dict[str, Path]:
    """The shipped recipes by name."""
    folder = Path(str(resources.files("cti") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_config(name: str) -> Path:
    """The YAML file behind a recipe's name, a file's path or a run folder.

    Raises:
        ValueError: if it is none of them; the message lists the recipes.
    """
    path = Path(name)
    if path.is_dir() and (path / CONFIG_FILE).is_file():
        return path / CONFIG_FILE
    if path.is_file():
        return path
    if name in recipes():
        return recipes()[name]
    raise ValueError(
        f"There is no configuration '{name}': give a YAML file, a run folder with {CONFIG_FILE}, or one of the "
        f"recipes {', '.join(recipes())}."
    )


_TEXTS = ("classes", "normal")  # lists of `data` whose items are names: 3, yes and null too
_TEXT_OPTIONS = tuple(f"--data.{name}" for name in _TEXTS)


def _content(path: Path) -> str:
    """A configuration file as JSON, read as UTF-8 whatever the platform's encoding is."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        content, words = parse_yaml(text), parse_yaml(text, yaml.BaseLoader)
    except ValueError as error:
        raise argparse.ArgumentError(None, f"{path} cannot be read as YAML in UTF-8: {error}") from error
    content = content or {}
    if not isinstance(content, dict):
        raise argparse.ArgumentError(None, f"{path} is no configuration: give sections such as `train:` with settings")
    data: Any = content.get("data")
    for name in _TEXTS:
        if isinstance(data, dict) and isinstance(data.get(name), list):
            data[name] = words["data"][name]
    _drop_empty(content, Config())
    try:
        return json.dumps(content, default=str)
    except TypeError as error:
        raise argparse.ArgumentError(None, f"{path} has a setting whose name is no text ({error})") from error


def _drop_empty(content: Any, settings: Any) -> None:
    """Leave out sections of which nothing is said (`train:`), as if they were not there."""
    for name in [name for name in content if is_dataclass(getattr(settings, str(name), None))]:
        if content[name] is None:
            del content[name]
        elif isinstance(content[name], dict):
            _drop_empty(content[name], getattr(settings, str(name)))


def _as_text(words: Sequence[str]) -> list[str]:
    """The words of a command line; in lists of names, 3 and yes become "3" and "yes"."""
    made: list[str] = []
    for word in words:
        option, equals, value = word.partition("=")
        if equals and option in _TEXT_OPTIONS:
            made.append(f"{option}={_list_of_text(value)}")
        else:
            made.append(_list_of_text(word) if made and made[-1] in _TEXT_OPTIONS else word)
    return made


def _list_of_text(value: str) -> str:
    try:
        items = parse_yaml(value, yaml.BaseLoader)
    except ValueError:
        return value
    return json.dumps(items) if isinstance(items, list) else value


class _OneLine(DefaultHelpFormatter):
    """Help with one line a setting: its default, and as much of its description as fits."""

    def _format_action(self, action: argparse.Action) -> str:
        if "." not in action.dest or action.help == argparse.SUPPRESS:
            return super()._format_action(action)
        default = _cut(json.dumps(action.default).replace('"', ""), 16)
        return _cut(f"{f'  --{action.dest} {default}':<36} {action.help}", self._width) + "\n"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3].rstrip()}..."


def add_settings(parser: ArgumentParser, shown: Sequence[str] | None = None) -> None:
    """Add `--config` and an option for every field of `Config` to a parser.

    Args:
        parser: The parser.
        shown: Sections of which its help shows a line per setting, with `--config` and `--out`; None = all, in full.
    """
    parser.add_argument("--config", action=_RecipeOrFile, help="recipe name, YAML file or run folder")
    parser.add_class_arguments(Config, as_group=False)
    if shown is None:
        return
    parser.formatter_class = _OneLine
    for action in parser._actions:
        section, dot, _ = action.dest.partition(".")
        unasked = section in Config.__dataclass_fields__ and section != "out" and not (dot and section in shown)
        if unasked or (dot and action.default == argparse.SUPPRESS):  # the latter load one section from a file
            action.help = argparse.SUPPRESS


def parse_words(parser: ArgumentParser, words: Sequence[str]) -> Namespace:
    """Parse a command line.

    Args:
        parser: From `add_settings`, or without settings.
        words: Without the program's name.

    Raises:
        ValueError: for an unknown recipe, key or value.
    """
    try:
        return parser.parse_args(_as_text(words), env=False)
    except argparse.ArgumentError as error:
        raise ValueError(_sentence(str(error))) from error


def config_of(parser: ArgumentParser, namespace: Namespace) -> Config:
    """The checked configuration in what was parsed.

    Raises:
        ValueError: for a value that a section refuses.
    """
    try:
        made = parser.instantiate(namespace)
    except argparse.ArgumentError as error:
        raise ValueError(_sentence(str(error))) from error
    return Config(**{name: made[name] for name in Config.__dataclass_fields__})


def load_config(name: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """A configuration from a recipe, file or run folder, changed by options as on the command line.

    Args:
        name: Recipe, YAML file or run folder; None = the defaults.
        overrides: For example `["--train.lr", "1e-4"]`.

    Raises:
        ValueError: for an unknown recipe, key or value.
    """
    parser = ArgumentParser(prog="cti", exit_on_error=False, allow_abbrev=False)
    add_settings(parser)
    words = ([] if name is None else ["--config", str(name)]) + list(overrides)
    return config_of(parser, parse_words(parser, words))


def dump_config(config: Config) -> str:
    """The whole configuration as YAML; `load_config` reads it back to an equal one."""
    plain = json.loads(json.dumps(asdict(config), default=os.fspath))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "tuple": "a list such as [a, b]"}


def _sentence(message: str) -> str:
    """jsonargparse's complaint as one line that says what to do."""
    line = " ".join(message.split()).removesuffix(".")
    if found := re.search(r"unrecognized arguments: --([\w.-]+)|Option '([\w.]+)' is not accepted", line):
        return _unknown(found[1] or found[2])
    if found := re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", line):
        return _unknown(f"{found[1]}.{found[2]}")
    if found := re.search(r'Parser key "([\w.]+)": Expected a (.+)\. Got value: (.*)', line):
        name, kind, value = found.groups()
        choices = ", ".join(re.findall(r"'([^']+)'", kind)) if "Literal" in kind else ""
        wanted = f"one of {choices}" if choices else _KINDS.get(kind.removeprefix("<class '").removesuffix("'>"), kind)
        return f"{name} is '{value}'; give {wanted}."
    return f"{line}."


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, _names(Config()), n=1, cutoff=0.75)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"There is no setting '{name}'; {meant}`cti run --help-all` lists them all."


def _names(settings: Any, prefix: str = "") -> list[str]:
    """All settings by their dotted names."""
    found = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        name = f"{prefix}{field.name}"
        found += _names(value, f"{name}.") if is_dataclass(value) else [name]
    return found
