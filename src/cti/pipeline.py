"""The pipeline: photos + tags -> train -> seeds -> masks -> segment -> evaluate -> report."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cti.config import Config
from cti.evaluate.stage import evaluate
from cti.first_look.stage import first_look
from cti.masks.crf import load_library, needs_library
from cti.masks.stage import masks
from cti.run import Run
from cti.seeds.stage import seeds
from cti.segment.stage import build, segment
from cti.train.stage import train

logger = logging.getLogger(__name__)


def report(run: Run) -> Path | None:
    """Write report.html; without the extra `report` that is said, and None is returned."""
    from cti.apps.report import write_report  # an optional extra, and above the pipeline

    try:
        return write_report(run.folder)
    except ModuleNotFoundError as error:
        logger.warning("%s", error)
        return None


__all__ = [
    "STAGES",
    "check_before_training",
    "evaluate",
    "first_look",
    "masks",
    "report",
    "run",
    "seeds",
    "segment",
    "train",
]

STAGES: dict[str, Callable[[Run], Any]] = {
    "first_look": first_look,
    "train": train,
    "seeds": seeds,
    "masks": masks,
    "segment": segment,
    "evaluate": evaluate,
    "report": report,
}


def run(config: Config) -> dict[str, Any]:
    """Run all stages of `config.stages` in turn; finished ones are skipped.

    Returns:
        The result of each stage, by its name.

    Raises:
        ModuleNotFoundError: if a stage that is still to be run needs an extra that is not installed.
        ValueError: if a stage's settings or inputs cannot be used; whatever can be known before training is said
            before it.
    """
    this_run = Run(config)
    check_before_training(this_run)
    return {stage: STAGES[stage](this_run) for stage in config.stages}


def check_before_training(run: Run) -> None:
    """Say now, and not after an hour of training, what the later stages would stumble over."""
    config = run.config
    unfinished = [stage for stage in config.stages if not run.finished(stage)]
    crf_later = "segment" in unfinished and any(variant.endswith("+crf") for variant in config.predict.variants)
    if crf_later or ("masks" in unfinished and needs_library(config.masks)):
        load_library()
    if "segment" in unfinished:
        build(config, num_classes=1)
