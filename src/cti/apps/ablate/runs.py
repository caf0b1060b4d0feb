"""Running a grid: what runs share is made once, what is done is skipped, a run that fails does not end the others."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from cti import pipeline
from cti.apps.ablate.grid import grid_configs, load_grid
from cti.apps.ablate.numbers import RunNumbers, measure
from cti.apps.ablate.page import write_page
from cti.apps.ablate.results import AblationResult, summarise, write_summary
from cti.config import Config
from cti.files import MANIFEST, read_json, to_json, write_json
from cti.method.checkpoint import CONFIG
from cti.run import Run
from cti.run.stage_folder import SETTINGS, seal, take_over
from cti.settings import CONFIG_FILE

logger = logging.getLogger(__name__)

_LOOK = "first_look"


def ablate(grid: str, config: Config, repeats: int = 0, only: Sequence[str] = ()) -> AblationResult:
    """Run a grid, or go on with it, and compare what has been run.

    Every run lies in OUT/ablate/GRID/VARIANT/seed-N, `config.out` being OUT. Seeds come first, so that the first
    complete comparison is there after one run of each variant. Photos, order and views of a seed are the same in all
    variants.

    Args:
        grid: Name of a shipped grid, or a YAML file.
        config: What the grid changes.
        repeats: Number of seeds; 0 = the grid's.
        only: Variants to run; empty = all. All that have been run are compared.

    Returns:
        All numbers; they are also in ablation.json, ablation.md, ablation.svg and ablation.html.

    Raises:
        ValueError: for a grid, a variant or a setting that does not exist.
    """
    plan = load_grid(grid)
    out = Path(config.out) / "ablate" / plan.name
    repeats = repeats or plan.repeats
    chosen = [variant.name for variant in plan.chosen(only)]
    runs = {key: Run(each) for key, each in grid_configs(plan, config, out, repeats).items()}
    logger.info("%s: %d photos to train on", plan.name, len(next(iter(runs.values())).photos.lists["train"]))
    numbers, failures = dict[tuple[str, int], RunNumbers](), dict[str, str]()
    for (variant, seed), run in sorted(runs.items(), key=lambda item: item[0][1]):  # variants keep their order
        if variant not in chosen and not run.finished("evaluate"):
            continue
        logger.info("%s: %s, seed %d", plan.name, variant, seed)
        try:
            share_first_look(run, out.parent.glob(f"*/*/seed-*/{_LOOK}"))
            pipeline.run(run.config)
            numbers[variant, seed] = measure(run)
        except ValueError as error:  # a loss that is no number, say: that is a result, too
            failures[f"{variant}, seed {seed}"] = str(error)
            logger.error("%s, seed %d: %s", variant, seed, error)
        write_summary(summarise(plan, repeats, numbers, failures), out)
    result = summarise(plan, repeats, numbers, failures)
    write_page(result, out)
    return result


def share_first_look(run: Run, folders: Iterable[Path]) -> None:
    """Give a run the first look of another one that would be the same, by hard links.

    It is the same where data, network, seed and size of the photos are. The infusion index plays no part in it, and is
    only written down.

    Args:
        run: The run; one that has a first look, or needs none, is left as it is.
        folders: First looks, finished or not.
    """
    target = run.stage_folder(_LOOK)
    if target.exists() or not run.config.looks_first:
        return
    for folder in folders:
        known = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        if not (folder / MANIFEST).is_file() or _basis(known) != _basis(to_json(run.config)):
            continue
        run.folder.mkdir(parents=True, exist_ok=True)
        take_over(folder, target, folder.parent)
        for name in (SETTINGS, CONFIG):  # written anew: the other run's own files stay as they are
            content = read_json(target / name)
            content["model"]["infusion_index"] = run.config.model.infusion_index
            write_json(target / name, content)
        seal(target)
        logger.info("The first look is that of %s", folder.parent)
        return


def _basis(config: Any) -> Any:
    """What a first look depends on, of a configuration as JSON can hold it."""
    model = {name: value for name, value in config["model"].items() if name != "infusion_index"}
    return config["data"], model, config["seeds"]["long_side"], config["train"]["seed"]
