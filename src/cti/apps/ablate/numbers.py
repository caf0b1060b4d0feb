"""The numbers of one run, measured once and kept beside it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cti.apps.report.tokens import NUM_PHOTOS, class_tokens
from cti.evaluate.scores import RunScores
from cti.evaluate.seeds import count_seeds
from cti.evaluate.separation import token_similarity
from cti.files import MANIFEST, from_json, read_json, read_manifest, to_json, write_json
from cti.method.checkpoint import load_model
from cti.run import Run
from cti.train.stage import TrainResult

NUMBERS = "numbers.json"
TAGS = "tag mAP"
FIXED, FREE, SWEPT, OVERLAP = "fixed", "threshold-free", "swept", "CAM overlap"
TOKENS = "token cosine"

Areas = tuple[tuple[tuple[int, ...], ...], ...]


@dataclass(frozen=True)
class RunNumbers:
    """What one run came to.

    Args:
        made: When its scores were made; others are measured anew.
        values: Measure -> value, a fraction; None where it is undefined. Measures are `tag mAP`, `LIST, KIND, fixed`
            (`threshold-free`, `swept`, `CAM overlap`) and `token cosine, block N`, N from 1.
        areas: Measure of an mIoU -> (n, 3, K) areas of each photo, from which intervals are drawn.
        kept: Which network was kept, if not the last one.
        seconds: Of training.
    """

    made: str
    values: dict[str, float | None]
    areas: dict[str, Areas]
    kept: str
    seconds: float


def measure(run: Run) -> RunNumbers:
    """Measure a run whose scores are made, or read what was measured before: numbers.json.

    Raises:
        ValueError: if the run has no scores.
    """
    manifest = read_manifest(run.stage_folder("evaluate"))
    scores, trained = run.result("evaluate", RunScores), run.result("train", TrainResult)
    if manifest is None or scores is None or trained is None:
        raise ValueError(f"{run.folder} has no {MANIFEST} in train/ or evaluate/; run it to its end first.")
    path = run.folder / NUMBERS
    if path.is_file():
        known = from_json(RunNumbers, read_json(path), path)
        if known.made == manifest["finished"]:
            return known
    values: dict[str, float | None] = {TAGS: trained.tags.mean_average_precision if trained.tags else None}
    areas: dict[str, Areas] = {}
    for name, listed in scores.lists.items():
        photos = [photo for photo in run.photos.lists[name] if photo.mask is not None]
        for kind, seeds in listed.seeds.items():
            start = f"{name}, {kind}, "
            values |= {
                start + FIXED: seeds.fixed.miou,
                start + FREE: seeds.threshold_free.miou if seeds.threshold_free else None,
                start + SWEPT: seeds.best.miou,
                start + OVERLAP: seeds.cam_overlap,
            }
            counts = count_seeds(
                run.stage_folder("seeds"), photos, scores.classes, seeds.threshold, kind=kind, keep_areas=True
            )
            areas |= {
                start + what: tuple(tuple(map(tuple, photo.tolist())) for photo in kept)
                for what, kept in ((FIXED, counts.fixed_areas), (FREE, counts.free_areas))
                if kept
            }
    numbers = RunNumbers(manifest["finished"], values | _similarities(run), areas, trained.kept, trained.fit.seconds)
    write_json(path, to_json(numbers))
    return numbers


def area_array(areas: Areas) -> NDArray[np.int64]:
    """Areas as an array, (n, 3, K)."""
    return np.array(areas, np.int64)


def _similarities(run: Run) -> dict[str, float | None]:
    """Likeness of the foreground tokens after every block, on photos not trained on where there are any."""
    model, _ = load_model(run.stage_folder("train"))
    photos = (run.photos.lists["val"] or run.photos.lists["train"])[:NUM_PHOTOS]
    layers = class_tokens(model, photos, range(model.depth))
    found = {layer.block: token_similarity(layer.tokens[:, -len(model.classes) :]) for layer in layers}
    return {f"{TOKENS}, block {block + 1}": None if math.isnan(x) else x for block, x in found.items()}
