"""What a review is worth: true masks of N photos are given, the segmenter goes on from its weights, `val` is scored.

    python examples/simulated_reviewer.py RUN [SEEDS]

RUN is a finished run whose photos have true masks. The N photos to learn from are those that `cti serve` puts first, or
N random ones, by SEEDS draws (default 1). N = 0 is a review that says nothing: what training longer is worth by itself.
Results lie in RUN-reviewed/results.json; call it again after an interruption. Its folder holds the run at work only.
"""

import random
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cti import pipeline
from cti.data import Photo
from cti.data.images import save_mask
from cti.evaluate.masks import count_masks
from cti.evaluate.verdict import read_verdict
from cti.files import read_object, write_json
from cti.run import Run

NUMBERS = (0, 5, 10, 20, 40)


def main(folder: str, seeds: int = 1, numbers: Sequence[int] = NUMBERS) -> Path:
    """Score every order and number that is not done yet; returns the file of results."""
    run, out = Run.open(folder), Path(f"{Path(folder).resolve()}-reviewed")
    results = read_object(out / "results.json") if (out / "results.json").is_file() else {"before": score(run)}
    for name, photos in orders(run, seeds).items():
        for number in numbers:
            key = f"{name}, {min(number, len(photos))} photos" if number else "no photo"
            if key not in results:
                results[key] = reviewed(run, photos, number, out / "run")
                write_json(out / "results.json", results)
            print(f"{key}: segmenter's mIoU on val {100 * results[key]:.1f} %, before {100 * results['before']:.1f} %")
    return out / "results.json"


def orders(run: Run, seeds: int) -> dict[str, list[Photo]]:
    """The photos to train on that have a true mask, as the list puts them, and shuffled."""
    verdict = read_verdict(run.folder)
    if verdict is None:
        raise SystemExit(f"{run.folder} has no verdict; run `cti evaluate --config {run.folder}` first.")
    known = {photo.id: photo for photo in run.photos.lists["train"] if photo.mask is not None}
    listed = [known[doubt.photo] for doubt in verdict.doubts if doubt.photo in known]
    shuffled = {f"random {seed}": random.Random(seed).sample(listed, len(listed)) for seed in range(seeds)}
    return {"list": listed, **shuffled}


def reviewed(run: Run, photos: Sequence[Photo], number: int, folder: Path) -> float:
    """Give the true masks of the first `number` photos, train on, and score."""
    begun = folder / "review.txt"  # which review the folder is about
    said = " ".join(photo.id for photo in photos[:number])
    if not begun.is_file() or begun.read_text() != said:
        shutil.rmtree(folder, ignore_errors=True)
        for photo in photos[: max(number, 1)]:
            mask = photo.mask.load() if number else np.full(photo.size(), 255, np.uint8)
            save_mask(folder / "review" / f"{photo.id}.png", mask)
        begun.write_text(said)
    other = Run(replace(run.config, out=str(folder)), taken_from=run.folder)
    pipeline.masks(other)
    pipeline.segment(other)
    found = score(other)
    shutil.rmtree(folder)
    return found


def score(run: Run) -> float:
    """The segmenter's mIoU on `val`."""
    return count_masks(run.predictions(), run.photos.lists["val"], run.photos.classes).as_background.miou


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1)
