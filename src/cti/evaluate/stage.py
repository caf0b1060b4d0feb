"""The stage `evaluate`: seeds, pseudo-masks and segmentations against true masks, as numbers, tables and a picture."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cti.data import Photo, load_mask
from cti.data.fingerprint import mask_fingerprint
from cti.data.seed_file import read_seed
from cti.evaluate import label_pixels, score_masks, score_seeds
from cti.evaluate.tables import mask_tables, seed_tables, step_table
from cti.files import read_manifest
from cti.masks.steps import step_names
from cti.run import Run, split_by_file
from cti.visualize import PanelRow, panel_row, save_panels

logger = logging.getLogger(__name__)

PICTURE = "panels.png"
NUM_PANELS = 8


def evaluate(run: Run) -> dict[str, Any]:
    """Score whatever the run has made, where the photos have masks: evaluate/, with numbers, tables and panels.

    Raises:
        ValueError: if the run has made nothing that could be scored.
    """
    manifests = {name: read_manifest(run.stage_folder(name)) for name in ("seeds", "masks", "segment")}
    made = {name: manifest["finished"] for name, manifest in manifests.items() if manifest}
    if not made:
        raise ValueError(f"{run.folder} has no finished seeds, masks or segment, so there is nothing to score.")
    truth = mask_fingerprint(run.photos, run.check)
    with run.stage("evaluate", made=made, truth=truth, variants=run.config.predict.variants) as stage:
        return stage.result(dict) if stage.finished else stage.finish(score_run(run, stage.folder))


def score_run(run: Run, folder: Path) -> dict[str, Any]:
    """Score every finished stage on the lists `score` and `val`, print tables, draw panels.

    Args:
        run: The run; only photos with a true mask are scored.
        folder: Gets the picture.

    Returns:
        `lists` -> list -> `seeds` (by kind), `seeds_predicted_tags`, `masks`, `steps` (by refinement step),
        `segment` (by variant), each as its `to_dict()`; and `picture`.
    """
    lists: dict[str, Any] = {}
    if run.photos.has_masks:
        for name in ("score", "val"):
            photos = [photo for photo in run.photos.lists[name] if photo.mask is not None]
            scores = score_list(run, name, photos) if photos else {}
            if scores:
                lists[name] = scores
    else:
        logger.warning("These photos have no masks, so nothing is scored; look at %s instead.", folder / PICTURE)
    result: dict[str, Any] = {"classes": run.photos.classes, "lists": lists}
    rows = panel_rows(run)
    if rows:
        save_panels(folder / PICTURE, rows, run.photos.classes)
        result["picture"] = str(folder / PICTURE)
    return result


def score_list(run: Run, name: str, photos: Sequence[Photo]) -> dict[str, Any]:
    """Scores of one list by what was scored; prints their tables."""
    console, scores = Console(stderr=True), dict[str, Any]()
    classes = run.photos.classes
    bootstrap, threshold = run.config.evaluate.bootstrap, run.config.evaluate.threshold
    for key, folder in (("seeds", run.stage_folder("seeds")), ("seeds_predicted_tags", run.predicted_seeds)):
        if run.finished("seeds") and covers(folder, photos, "npz"):
            kinds = [
                score_seeds(folder, photos, classes, threshold, kind=kind, bootstrap=bootstrap)
                for kind in run.config.seeds.kinds
            ]
            title = f"Seeds, {name}" + (" (predicted tags)" if key == "seeds_predicted_tags" else "")
            console.print(seed_tables(kinds, title))
            scores[key] = {kind.kind: kind.to_dict() for kind in kinds}
    if run.finished("masks") and covers(run.stage_folder("masks"), photos, "png"):
        masks = score_masks(run.stage_folder("masks"), photos, classes, bootstrap=bootstrap)
        console.print(mask_tables(masks, f"Pseudo-masks, {name}"))
        scores["masks"] = masks.to_dict()
        steps = {
            step: score_masks(run.step_masks(step), photos, classes, bootstrap=bootstrap)
            for step in step_names(run.config.masks)
            if covers(run.step_masks(step), photos, "png")
        }
        if steps:
            console.print(step_table(steps, f"Refinement steps, {name}"))
            scores["steps"] = {step: masks.to_dict() for step, masks in steps.items()}
    for variant in run.config.predict.variants:
        if run.finished("segment") and covers(run.predictions(variant), photos, "png"):
            masks = score_masks(run.predictions(variant), photos, classes, bootstrap=bootstrap)
            console.print(mask_tables(masks, f"Segmentation ({variant}), {name}"))
            scores.setdefault("segment", {})[variant] = masks.to_dict()
    return scores


def covers(folder: Path, photos: Sequence[Photo], suffix: str) -> bool:
    """Whether a folder has the file of every photo."""
    return all((folder / f"{photo.id}.{suffix}").is_file() for photo in photos)


def panel_rows(run: Run) -> list[PanelRow]:
    """Rows of photos spread evenly over the photos not trained on (or, without any, over all)."""
    photos = run.photos.lists["val"] or run.photos.photos()
    candidates, _ = split_by_file(photos, [run.seed(photo) for photo in photos])
    chosen = [candidates[i] for i in np.linspace(0, len(candidates) - 1, min(NUM_PANELS, len(candidates))).astype(int)]
    rows = []
    for photo in chosen:
        seed, mask, prediction = read_seed(run.seed(photo)), run.mask(photo), run.prediction(photo)
        cams = seed.cams()
        rows.append(
            panel_row(
                photo.load(),
                run.photos.classes,
                name=photo.id,
                truth=None if photo.mask is None else photo.mask.load(),
                cams=cams,
                class_indices=seed.class_indices,
                background_cam=seed.background_cam(),
                seed=label_pixels(cams, seed.class_indices, run.config.evaluate.threshold),
                mask=load_mask(mask) if mask.is_file() else None,
                segmentation=load_mask(prediction) if prediction.is_file() else None,
            )
        )
    return rows
