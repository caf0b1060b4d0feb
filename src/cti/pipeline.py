"""The pipeline: photos + tags -> train -> seeds -> masks -> segment -> evaluate -> report."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

from cti.config import Config, spoken
from cti.evaluate.scores import RunScores
from cti.evaluate.stage import evaluate
from cti.first_look.stage import FirstLook, first_look
from cti.masks.crf import load_library, needs_library
from cti.masks.stage import MasksResult, masks
from cti.run import FOLDERS, Run
from cti.seeds.stage import SeedsResult, seeds
from cti.segment.stage import SegmentResult, build, segment
from cti.train.ranks import check_batch_norms, check_batch_size
from cti.train.stage import TrainResult, train
from cti.verify import verify

logger = logging.getLogger(__name__)


def report(run: Run) -> Path | None:
    """Write report.html; without the extra `report` that is said, and None is returned."""
    from cti.apps.report import write_report  # an optional extra, and above the pipeline

    try:
        return write_report(run.folder)
    except ModuleNotFoundError as error:
        logger.warning("%s", error)
        return None


class Results(TypedDict, total=False):
    """The results of stages, by their names."""

    first_look: FirstLook | None
    train: TrainResult
    seeds: SeedsResult
    masks: MasksResult
    segment: SegmentResult
    evaluate: RunScores
    report: Path | None


STAGES: dict[str, Callable[[Run], Any]] = {
    "first_look": first_look,
    "train": train,
    "seeds": seeds,
    "masks": masks,
    "segment": segment,
    "evaluate": evaluate,
    "report": report,
}
SHARES = {"first_look": 3, "train": 48, "seeds": 4, "masks": 5, "segment": 34, "evaluate": 4, "report": 2}
"""What each stage usually takes, in % of a run."""
_ENOUGH = 20  # % from which the time left can be told


def run(config: Config, taken_from: Path | str | None = None, verified: bool = False, stop_after: str = "") -> Results:
    """Run all stages of `config.stages` in turn; finished ones are skipped.

    Args:
        config: The configuration.
        taken_from: Folder of another run, whose finished stages are taken where they still fit.
        verified: First compare the files of finished stages with their digests; what is damaged is made again.
        stop_after: Last stage to run now; empty = the last of all.

    Returns:
        The results of the stages.

    Raises:
        ModuleNotFoundError: if a stage that is still to be run needs an extra that is not installed.
        ValueError: if a stage's settings or inputs cannot be used; whatever can be known before training is said
            before it.
    """
    this_run = Run(config, taken_from)
    if verified:
        verify(this_run)
    check_before_training(this_run)
    results: dict[str, object] = {}
    stages = config.stages[: config.stages.index(stop_after) + 1] if stop_after else config.stages
    this_run.begins = Progress(stages, config)
    for stage in stages:
        if stage not in FOLDERS:  # what has no folder is made every time
            this_run.begins(stage)
        results[stage] = STAGES[stage](this_run)
    return cast(Results, results)


class Progress:
    """Says which stage begins, and how long the rest takes. Whatever follows a stage that is made is made as well.

    Args:
        stages: The stages of the run, in their order.
        config: Its configuration.
    """

    def __init__(self, stages: Sequence[str], config: Config) -> None:
        self.stages = stages
        # Where that is enough, the network is the first look's, and the stage does hardly anything.
        self.idle = ["train"] if config.look_is_enough else []
        self.done: list[str] = []
        self.started = time.perf_counter()

    def __call__(self, stage: str) -> None:
        """A stage begins; where `train` makes the first look itself, that counts as its own."""
        if stage not in self.stages:
            return
        place = self.stages.index(stage)
        left = time_left(time.perf_counter() - self.started, self.done, self.stages[place:], self.idle)
        logger.info("Stage %d of %d: %s%s", place + 1, len(self.stages), spoken(stage), left)
        self.done.append(stage)


def time_left(seconds: float, done: Sequence[str], left: Sequence[str], idle: Sequence[str] = ()) -> str:
    """Say how long the rest takes, by how the time of a run is usually shared out; empty while too little is done.

    Args:
        seconds: Time that the stages which are done took.
        done: These stages.
        left: The stages to come.
        idle: Those that take no time in this run.
    """
    shares = SHARES | dict.fromkeys(idle, 0)
    share = sum(shares[stage] for stage in done)
    if share < _ENOUGH / 100 * sum(shares.values()):
        return ""
    minutes = seconds / share * sum(shares[stage] for stage in left) / 60
    return f", about {minutes:.0f} minutes left in all" if minutes >= 1.5 else ", about a minute left in all"


def check_before_training(run: Run) -> None:
    """Say now, and not after an hour of training, what the later stages would stumble over."""
    config = run.config
    unfinished = [stage for stage in config.stages if not run.finished(stage)]
    crf_later = "segment" in unfinished and any(variant.endswith("+crf") for variant in config.predict.variants)
    if crf_later or ("masks" in unfinished and needs_library(config.masks)):
        load_library()
    if "train" in unfinished and not config.look_is_enough:
        check_batch_size(config.train, config.runtime)
    if "segment" in unfinished:
        check_batch_size(config.segment.train, config.runtime)
        check_batch_norms(build(config, num_classes=1), config.runtime)
