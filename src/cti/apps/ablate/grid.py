"""A grid: which settings are changed, and what the results are compared with."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from cti.config import Config
from cti.files import JsonObject, parse_yaml, write_text
from cti.settings import dump_config, load_config

STAGES = ("first_look", "train", "seeds", "evaluate")
_BASE = "base.yaml"


@dataclass(frozen=True)
class Variant:
    """A row of the grid.

    Args:
        name: Its name, which is also its folder's.
        says: What the paper, or whoever proposes it, says of it.
        edits: Settings by their dotted names, and their values.
        against: Variants to compare it with; empty = the grid's baseline.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str
    says: str = ""
    edits: JsonObject = field(default_factory=dict)
    against: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grid:
    """Variants of a configuration that are run over the same seeds.

    Args:
        name: Its name, which is also its folder's.
        title: What it asks.
        baseline: Name of the variant that the others are compared with.
        variants: The variants, in the order of the table.
        settings: Edits that all of them share.
        repeats: Seeds: 0, 1, ... of `train.seed`.

    Raises:
        ValueError: if two variants share a name, one is named that does not exist, or a name is no folder's.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str
    title: str
    baseline: str
    variants: tuple[Variant, ...]
    settings: JsonObject = field(default_factory=dict)
    repeats: int = 3

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(variant.name for variant in self.variants).items() if count > 1]
        if twice:
            raise ValueError(f"the grid {self.name} has two variants named {twice[0]}; give each its own name")
        for name in (self.name, *(variant.name for variant in self.variants)):
            if Path(name).name != name:
                raise ValueError(f"the name '{name}' is no folder's; give one without slashes")
        self.chosen([self.baseline, *(other for variant in self.variants for other in variant.against)])
        if self.repeats < 1:
            raise ValueError(f"repeats is {self.repeats}; give 1 or more")

    def chosen(self, names: Sequence[str]) -> list[Variant]:
        """The variants of some names, in the grid's order; all of them if none is given.

        Raises:
            ValueError: for a name that no variant has.
        """
        known = [variant.name for variant in self.variants]
        for name in names:
            if name not in known:
                raise ValueError(f"the grid {self.name} has no variant '{name}'; there are {', '.join(known)}")
        return [variant for variant in self.variants if not names or variant.name in names]

    def others(self, variant: Variant) -> tuple[str, ...]:
        """Names of the variants that one is compared with."""
        return () if variant.name == self.baseline else variant.against or (self.baseline,)


def shipped_grids() -> dict[str, Path]:
    """The shipped grids by name."""
    folder = Path(str(resources.files("cti") / "recipes" / "ablations"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_grid(name: str) -> Grid:
    """Read a grid.

    Args:
        name: Name of a shipped grid, or a YAML file; a grid without a name is called as its file is.

    Raises:
        ValueError: if there is no such grid, or it is none; the message names the first entry that is wrong.
    """
    path = Path(name) if Path(name).is_file() else shipped_grids().get(name)
    if path is None:
        raise ValueError(f"There is no grid '{name}'; give a YAML file or one of {', '.join(shipped_grids())}.")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8-sig"))
        return TypeAdapter(Grid).validate_python({"name": path.stem, **(content or {})})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(f"{path} is no grid ({place}: {first['msg'].removeprefix('Value error, ')}).") from error
    except (ValueError, TypeError) as error:  # no YAML in UTF-8; no mapping
        raise ValueError(f"{path} is no grid: {' '.join(str(error).split())}.") from error


def grid_configs(grid: Grid, config: Config, out: Path, repeats: int) -> dict[tuple[str, int], Config]:
    """The configuration of every run, by variant and seed.

    Args:
        grid: The grid.
        config: What it changes.
        out: Folder of the ablation; gets `config` as a file. A run lies in VARIANT/seed-N.
        repeats: Number of seeds.

    Raises:
        ValueError: for an unknown setting or a wrong value; the message names the variant.
    """
    write_text(out / _BASE, dump_config(config))
    configs = {}
    for variant in grid.variants:
        edits = {"stages": list(STAGES), **grid.settings, **variant.edits}
        for seed in range(repeats):
            edits |= {"train.seed": seed, "out": str(run_folder(out, variant.name, seed))}
            words = [f"--{setting}={_word(value)}" for setting, value in edits.items()]
            try:
                configs[variant.name, seed] = load_config(out / _BASE, words)
            except ValueError as error:
                raise ValueError(f"Variant {variant.name} of the grid {grid.name}: {error}") from error
    return configs


def run_folder(out: Path, variant: str, seed: int) -> Path:
    """The folder of a run."""
    return out / variant / f"seed-{seed}"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
