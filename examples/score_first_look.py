"""Score a first look's maps on photos of `val`: python examples/score_first_look.py RUN

RUN was made with `cti run ... --stop-after first-look`. Masks of `val` are read here and nowhere before.
"""

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from cti.evaluate.seeds import count_seeds
from cti.method.checkpoint import load_model
from cti.run import Run
from cti.seeds.extract import extract_seeds

KINDS = ("patch", "spread", "located")


def main(folder: str) -> None:
    run = Run.open(folder)
    model, _ = load_model(run.stage_folder("first_look"))
    photos = run.photos.lists["val"]
    with TemporaryDirectory() as seeds:
        extract_seeds(model, photos, replace(run.config.seeds, kinds=KINDS), Path(seeds), run.config.runtime)
        for kind in KINDS:
            scores = count_seeds(Path(seeds), photos, run.photos.classes, 0.25, kind=kind).scores()
            free = scores.threshold_free
            print(
                f"{kind}: fixed {100 * scores.fixed.miou:.1f}, swept {100 * scores.best.miou:.1f} at "
                f"{scores.best_threshold:.2f}, threshold-free {'-' if free is None else f'{100 * free.miou:.1f}'}"
            )


if __name__ == "__main__":
    main(sys.argv[1])
