"""`cti quickstart`: the whole pipeline on rendered shapes; no download, no pixel label used."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cti import pipeline
from cti.apps.summary import summary as five_lines
from cti.data.readers.shapes import SHAPES_CLASSES
from cti.evaluate.scores import RunScores
from cti.evaluate.tags import TagScores
from cti.settings import load_config
from cti.tables import MISSING, Table, row, to_rich

SECONDS_ON_TWO_CORES = 540


@dataclass(frozen=True)
class QuickstartResult:
    """What the quickstart came to; scores are fractions, on photos not trained on.

    Args:
        tag_map: Mean average precision of the tags.
        baseline_miou: mIoU of the best guess that looks at no photo.
        seed_miou: mIoU of the seeds at the fixed threshold.
        seed_miou_threshold_free: mIoU of the seeds without a threshold.
        segmentation_miou: mIoU of the segmentation, which sees no tags.
        mask_miou: mIoU of the masks, which use the photos' tags.
        seconds: Time it took.
        picture: Path of the picture of some photos with all their results.
    """

    tag_map: float | None
    baseline_miou: float | None
    seed_miou: float | None
    seed_miou_threshold_free: float | None
    segmentation_miou: float | None
    mask_miou: float | None
    seconds: float
    picture: str | None


def quickstart(out: Path, seed: int = 0) -> QuickstartResult:
    """Run the `shapes` recipe and sum it up.

    Args:
        out: Folder of the run; finished stages in it are skipped.
        seed: Seed of training.
    """
    started = time.perf_counter()
    console = Console(stderr=True)
    config = load_config("shapes", ["--out", str(out), "--data.root", str(out / "shapes"), "--train.seed", str(seed)])
    cores = min(os.cpu_count() or 1, 2)
    console.print(
        f"Learning {len(SHAPES_CLASSES)} shapes from tags alone: train, seeds, masks, segment, evaluate. About "
        f"{SECONDS_ON_TWO_CORES / 60 * 2 / cores:.0f} minutes on {cores} {'cores' if cores > 1 else 'core'}. "
        f"Results go to {out}."
    )
    results = pipeline.run(config)
    result = summary(
        results["train"].tags, results["evaluate"], config.predict.variants[0], round(time.perf_counter() - started, 1)
    )
    console.print(to_rich(summary_table(result)))
    for line in (f"Look at {result.picture}", *five_lines(config, results)):
        console.print(line, highlight=False, soft_wrap=True)
    return result


def summary(tags: TagScores | None, scores: RunScores, variant: str, seconds: float) -> QuickstartResult:
    """The few numbers that say how well it went.

    Args:
        tags: Scores of the tags.
        scores: Scores of the run on its lists `score` and `val`.
        variant: Variant of the segmenter's predictions.
        seconds: Time that the run took.
    """
    held_out = scores.lists["val"]
    seeds, masks = held_out.first_seeds, held_out.masks
    assert seeds is not None, "the recipe makes seeds of val"
    assert masks is not None, "every photo has a mask"
    return QuickstartResult(
        tag_map=None if tags is None else tags.mean_average_precision,
        baseline_miou=seeds.best_baseline,
        seed_miou=seeds.fixed.miou,
        seed_miou_threshold_free=None if seeds.threshold_free is None else seeds.threshold_free.miou,
        segmentation_miou=held_out.segment[variant].as_background.miou,
        mask_miou=masks.as_background.miou,
        seconds=seconds,
        picture=scores.picture,
    )


def summary_table(result: QuickstartResult) -> Table:
    """The numbers in words."""
    rows = (
        ("train: mAP of tags on photos not trained on", result.tag_map),
        ("mIoU of a guess that looks at no photo", result.baseline_miou),
        ("seeds: mIoU on photos not trained on, fixed threshold", result.seed_miou),
        ("seeds: mIoU on photos not trained on, no threshold", result.seed_miou_threshold_free),
        ("segmenter: mIoU on photos not trained on, no tags given", result.segmentation_miou),
        ("masks: mIoU on photos not trained on, tags given", result.mask_miou),
    )
    return Table(
        "Learned from tags, no pixel label used",
        ("", ""),
        tuple(row(name, MISSING if score is None else f"{score:.3f}") for name, score in rows),
    )
