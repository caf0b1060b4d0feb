"""Reading and writing configurations: recipes by name, YAML files, run folders, command-line overrides.

jsonargparse makes the options out of the dataclasses of `config.py`; unknown keys are errors.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace  # type: ignore[attr-defined]

from cti.config import Config

CONFIG_FILE = "config.yaml"


class _RecipeOrFile(ActionConfigFile):
    """`--config` that takes the name of a shipped recipe, a YAML file or a run folder."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        super().__call__(parser, namespace, str(find_config(str(values))), option_string)


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


def config_parser(prog: str, description: str) -> ArgumentParser:
    """A parser with `--config` and an option for every field of `Config`."""
    parser = ArgumentParser(prog=prog, description=description)
    parser.add_argument("--config", action=_RecipeOrFile, help="recipe name, YAML file or run folder")
    parser.add_class_arguments(Config, as_group=False)
    return parser


def config_from(parser: ArgumentParser, namespace: Namespace) -> Config:
    """The checked configuration in what `parser` parsed."""
    made = parser.instantiate_classes(namespace)
    return Config(**{name: made[name] for name in Config.__dataclass_fields__})


def load_config(name: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """A configuration from a recipe, file or run folder, changed by options as on the command line.

    Args:
        name: Recipe, YAML file or run folder; None = the defaults.
        overrides: For example `["--train.lr", "1e-4"]`.

    Raises:
        ValueError: for an unknown recipe, key or value.
    """
    parser = config_parser("cti", "")
    parser.exit_on_error = False
    arguments = ([] if name is None else ["--config", str(find_config(str(name)))]) + list(overrides)
    try:
        return config_from(parser, parser.parse_args(arguments, env=False))
    except Exception as error:
        if type(error).__name__ != "ArgumentError":
            raise
        raise ValueError(str(error)) from error


def dump_config(config: Config) -> str:
    """The whole configuration as YAML; `load_config` reads it back to an equal one."""
    return yaml.safe_dump(_plain(asdict(config)), sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
