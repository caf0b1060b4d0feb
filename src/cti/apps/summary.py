"""What a person wants to know at the end of a run: five lines."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cti.config import Config
from cti.evaluate.scores import RunScores
from cti.evaluate.verdict import read_verdict
from cti.first_look.stage import FirstLook
from cti.train.stage import TrainResult


def summary(config: Config, results: Mapping[str, Any]) -> Iterator[str]:
    """Sum a run up: what was made, where it is, how good it is as far as can be known, what looks doubtful, what next.

    Args:
        config: Its configuration.
        results: Results of the stages, by name.
    """
    yield f"Made: {', '.join(name.replace('_', '-') for name, result in results.items() if result is not None)}."
    yield f"Where: {config.out}" + (f" (page: {results['report']})" if results.get("report") else "")
    yield f"How good: {'; '.join(_qualities(results)) or 'not known: no photo held out has a tag or a mask'}."
    verdict = read_verdict(Path(config.out))
    doubts = [*_doubts(results), *(verdict.sentences if verdict else ())]
    yield f"Doubtful: {' '.join(doubts)}" if doubts else "Doubtful: nothing that can be seen without masks."
    unfinished = [stage for stage in ("train", "seeds", "masks", "segment") if stage not in results]
    yield (
        f"Next: cti run --config {config.out} goes on."
        if unfinished
        else f"Next: cti label NEW_PHOTOS --model {config.out} --out masks, or cti serve {config.out} --open."
    )


def _qualities(results: Mapping[str, Any]) -> Iterator[str]:
    look, trained, scores = results.get("first_look"), results.get("train"), results.get("evaluate")
    if isinstance(look, FirstLook) and look.tag_map is not None:
        yield f"tag mAP of the linear head {look.tag_map:.2f}"
    if isinstance(trained, TrainResult) and trained.tags and trained.tags.mean_average_precision is not None:
        yield f"of the trained network {trained.tags.mean_average_precision:.2f}"
    if isinstance(scores, RunScores):
        for name, one in scores.lists.items():
            seeds = one.first_seeds
            if seeds is not None and seeds.fixed.miou is not None:
                yield f"seed mIoU on {name} {100 * seeds.fixed.miou:.1f} %"
            for variant, masks in one.segment.items():
                if masks.as_background.miou is not None:
                    yield f"segmentation ({variant}) on {name} {100 * masks.as_background.miou:.1f} %"
            if one.masks is not None and one.masks.as_background.miou is not None:
                yield f"masks on {name} {100 * one.masks.as_background.miou:.1f} %"


def _doubts(results: Mapping[str, Any]) -> Iterator[str]:
    look, trained, masks, scores = (results.get(name) for name in ("first_look", "train", "masks", "evaluate"))
    if isinstance(look, FirstLook):
        yield from look.remarks
    if isinstance(trained, TrainResult) and trained.kept:
        yield trained.kept
    if masks is not None and masks.without_foreground:
        yield f"{masks.without_foreground} pseudo-masks hold no class at all."
    if isinstance(scores, RunScores):
        yield from scores.remarks
