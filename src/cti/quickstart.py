"""`cti quickstart`: the whole pipeline on rendered shapes; no download, no pixel label used."""

import logging
import os
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cti import pipeline
from cti.config import Config
from cti.settings import load_config

logger = logging.getLogger(__name__)

SECONDS_ON_TWO_CORES = 480


def quickstart(out: Path, seed: int = 0) -> dict[str, Any]:
    """Run the `shapes` recipe and sum it up.

    Args:
        out: Folder of the run; finished stages in it are skipped.
        seed: Of training.

    Returns:
        `seed_miou` (fixed threshold) and `floor_miou` (best floor) as fractions over the photos not trained on, the
        scores of the further stages, `seconds`, `picture`.
    """
    started = time.perf_counter()
    console = Console(stderr=True)
    config = load_config("shapes", ["--out", str(out), "--data.root", str(out / "shapes"), "--train.seed", str(seed)])
    minutes = SECONDS_ON_TWO_CORES / 60 * 2 / min(os.cpu_count() or 1, 2)
    console.print(
        f"Learning {_count_classes(config)} shapes from tags alone, then scoring the masks: "
        f"about {minutes:.0f} minutes on two cores. Results go to {out}."
    )
    results = pipeline.run(config)
    scores = results["scores"]["lists"]["val"]
    seeds = scores["seeds"][config.seeds.kinds[0]]
    summary: dict[str, Any] = {
        "seed_miou": seeds["fixed"]["miou"],
        "seed_miou_threshold_free": seeds["threshold_free"]["miou"],
        "floor_miou": max(seeds["floors"].values()),
    }
    if "segmentation" in scores:
        summary["segmentation_miou"] = scores["segmentation"][config.segment.variants[0]]["unsure_as_background"][
            "miou"
        ]
    summary |= {
        "tag_map": results["train"]["tags"]["map"],
        "seconds": round(time.perf_counter() - started, 1),
        "picture": results["scores"]["picture"],
    }
    table = Table(title="Photos not trained on, no pixel label used", title_justify="left", show_header=False)
    for name, value in summary.items():
        table.add_row(
            name.replace("_", " ").replace("miou", "mIoU"), f"{value:.3f}" if _is_score(value) else str(value)
        )
    console.print(table)
    return summary


def _is_score(value: Any) -> bool:
    return isinstance(value, float) and value <= 1


def _count_classes(config: Config) -> int:
    from cti.data.shapes import CLASSES

    return len(config.data.classes or CLASSES)
