"""`cti quickstart`: the whole pipeline on rendered shapes; no download, no pixel label used."""

import os
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cti import pipeline
from cti.data.readers.shapes import SHAPES_CLASSES
from cti.settings import load_config

SECONDS_ON_TWO_CORES = 540
ROWS = {
    "tag_map": "train: mAP of tags on photos not trained on",
    "baseline_miou": "mIoU of a guess that looks at no photo",
    "seed_miou": "seeds: mIoU on photos not trained on, fixed threshold",
    "seed_miou_threshold_free": "seeds: mIoU on photos not trained on, no threshold",
    "mask_miou": "masks: mIoU on the photos trained on, tags known",
    "segmentation_miou": "segmenter: mIoU on photos not trained on, no tags given",
}


def quickstart(out: Path, seed: int = 0) -> dict[str, Any]:
    """Run the `shapes` recipe and sum it up.

    Args:
        out: Folder of the run; finished stages in it are skipped.
        seed: Of training.

    Returns:
        Fractions `seed_miou` (fixed threshold), `seed_miou_threshold_free`, `segmentation_miou`, `tag_map` and
        `baseline_miou` (best floor), on photos not trained on; `mask_miou`, on photos trained on; `seconds`; `picture`.
    """
    started = time.perf_counter()
    console = Console(stderr=True)
    config = load_config("shapes", ["--out", str(out), "--data.root", str(out / "shapes"), "--train.seed", str(seed)])
    cores = min(os.cpu_count() or 1, 2)
    console.print(
        f"Learning {len(SHAPES_CLASSES)} shapes from tags alone: train, seeds, masks, segmenter, scores. About "
        f"{SECONDS_ON_TWO_CORES / 60 * 2 / cores:.0f} minutes on {cores} {'cores' if cores > 1 else 'core'}. "
        f"Results go to {out}."
    )
    results = pipeline.run(config)
    learned, held_out = results["evaluate"]["lists"]["score"], results["evaluate"]["lists"]["val"]
    seeds = held_out["seeds"][config.seeds.kinds[0]]
    segmentation = held_out["segment"][config.predict.variants[0]]
    summary = {
        "tag_map": results["train"].tags.map,
        "baseline_miou": max(seeds["baselines"].values()),
        "seed_miou": seeds["fixed"]["miou"],
        "seed_miou_threshold_free": seeds["threshold_free"]["miou"],
        "mask_miou": learned["masks"]["unsure_as_background"]["miou"],
        "segmentation_miou": segmentation["unsure_as_background"]["miou"],
        "seconds": round(time.perf_counter() - started, 1),
        "picture": results["evaluate"]["picture"],
    }
    table = Table(title="Learned from tags, no pixel label used", title_justify="left", show_header=False)
    for name, text in ROWS.items():
        table.add_row(text, f"{summary[name]:.3f}")
    console.print(table)
    console.print(f"Look at {summary['picture']}", highlight=False, soft_wrap=True)
    return summary
