"""What a person wants to know at the end of a run: five lines, six after a review."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cti.config import Config, spoken
from cti.evaluate.verdict import read_verdict
from cti.pipeline import Results
from cti.run.stage_folder import read_history


def summary(config: Config, results: Results) -> Iterator[str]:
    """Sum a run up: what was made, where it is, how good it is as far as can be known, what looks doubtful, what next.

    Args:
        config: Its configuration.
        results: Results of the stages.
    """
    yield _made(Path(config.out), [name for name, result in results.items() if result is not None])
    yield f"Where: {config.out}" + (f" (page: {results['report']})" if results.get("report") else "")
    yield f"How good: {'; '.join(_qualities(results)) or 'not known: no photo held out has a tag or a mask'}."
    if (scores := results.get("evaluate")) is not None and scores.gained:
        yield f"Gained by the last round: {'; '.join(scores.gained)}."
    verdict = read_verdict(Path(config.out))
    doubts = dict.fromkeys([*_doubts(results), *(verdict.sentences if verdict else ())])
    yield f"Doubtful: {' '.join(doubts)}" if doubts else "Doubtful: nothing that can be seen without masks."
    unfinished = [stage for stage in ("train", "seeds", "masks", "segment") if stage not in results]
    yield (
        f"Next: cti run --config {config.out} goes on."
        if unfinished
        else f"Next: cti label NEW_PHOTOS --model {config.out} --out masks, or cti serve {config.out} --open."
    )


def _made(run: Path, stages: Sequence[str]) -> str:
    """Which stages were made for this run, and which were taken from which other one."""
    made: dict[str, list[str]] = {}
    for stage in stages:
        made.setdefault(read_history(run / stage).taken_from, []).append(spoken(stage))
    sources = (f"{f'taken from {run}' if run else 'Made'}: {', '.join(made[run])}" for run in sorted(made))
    return f"{'; '.join(sources)}."


def _qualities(results: Results) -> Iterator[str]:
    look, trained, scores = results.get("first_look"), results.get("train"), results.get("evaluate")
    if look is not None and look.tag_map is not None:
        yield f"tag mAP of the first look {look.tag_map:.2f}"
    if trained is not None and trained.fit.steps and trained.tags and trained.tags.mean_average_precision is not None:
        yield f"tag mAP of the trained network {trained.tags.mean_average_precision:.2f}"
    if scores is not None:
        for name, one in scores.lists.items():
            seeds = one.first_seeds
            if seeds is not None and seeds.fixed.miou is not None:
                yield f"seed mIoU on {name} {100 * seeds.fixed.miou:.1f} %"
            for variant, masks in one.segment.items():
                if masks.as_background.miou is not None:
                    yield f"segmentation ({variant}) on {name} {100 * masks.as_background.miou:.1f} %"
            if one.masks is not None and one.masks.as_background.miou is not None:
                yield f"masks on {name} {100 * one.masks.as_background.miou:.1f} %"


def _doubts(results: Results) -> Iterator[str]:
    if (look := results.get("first_look")) is not None:
        yield from look.remarks
    if (trained := results.get("train")) is not None and trained.fit.steps and trained.kept:
        yield trained.kept
    if (masks := results.get("masks")) is not None and masks.without_foreground:
        yield f"Pseudo-masks of tagged photos that hold no class at all: {masks.without_foreground}."
    if (scores := results.get("evaluate")) is not None:
        yield from scores.remarks
