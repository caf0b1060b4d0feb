"""Scoring a run: seeds, pseudo-masks and segmentations against true masks, as numbers, tables and a picture."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from cti.config import Config
from cti.data import Photo, PhotoSet, load_image, load_mask
from cti.data.seed_file import read_seed
from cti.evaluate import label_pixels, score_masks, score_seeds
from cti.evaluate.tables import mask_tables, seed_tables, step_table
from cti.files import read_manifest
from cti.masks.chain import STEPS
from cti.masks.steps import step_names
from cti.visualize import PanelRow, panel_row, save_panels

logger = logging.getLogger(__name__)

PICTURE = "panels.png"
NUM_PANELS = 8


def score_run(config: Config, photo_set: PhotoSet, folder: Path) -> dict[str, Any]:
    """Score every finished stage on the lists `score` and `val`, print tables, draw panels.

    Args:
        config: The run; its stages lie in `config.out`.
        photo_set: The photos; only those with a true mask are scored.
        folder: Gets the picture.

    Returns:
        `lists` -> list -> `seeds` (by kind), `seeds_predicted_tags`, `masks`, `steps` (by refinement step),
        `segmentation` (by variant), each as its `to_dict()`; and `picture`.
    """
    run = Path(config.out)
    lists: dict[str, Any] = {}
    if photo_set.has_masks:
        for name in ("score", "val"):
            photos = [photo for photo in photo_set.lists[name] if photo.mask is not None]
            found = _score_list(config, run, name, photos, photo_set.classes) if photos else {}
            if found:
                lists[name] = found
    else:
        logger.warning("These photos have no masks, so nothing is scored; look at %s instead.", folder / PICTURE)
    result: dict[str, Any] = {"classes": photo_set.classes, "lists": lists}
    rows = _panel_rows(config, run, photo_set)
    if rows:
        save_panels(folder / PICTURE, rows, photo_set.classes)
        result["picture"] = str(folder / PICTURE)
    return result


def _score_list(
    config: Config, run: Path, name: str, photos: Sequence[Photo], classes: Sequence[str]
) -> dict[str, Any]:
    """Scores of one list by what was scored; prints their tables."""
    console, found = Console(stderr=True), dict[str, Any]()
    bootstrap, threshold = config.score.bootstrap, config.score.threshold
    for key, folder in (("seeds", run / "seeds"), ("seeds_predicted_tags", run / "seeds" / "predicted")):
        if read_manifest(run / "seeds") is not None and _covers(folder, photos, "npz"):
            kinds = [
                score_seeds(folder, photos, classes, threshold, kind=kind, bootstrap=bootstrap)
                for kind in config.seeds.kinds
            ]
            title = f"Seeds, {name}" + (" (predicted tags)" if key == "seeds_predicted_tags" else "")
            console.print(seed_tables(kinds, title))
            found[key] = {scores.kind: scores.to_dict() for scores in kinds}
    if read_manifest(run / "masks") is not None and _covers(run / "masks", photos, "png"):
        scores = score_masks(run / "masks", photos, classes, bootstrap=bootstrap)
        console.print(mask_tables(scores, f"Pseudo-masks, {name}"))
        found["masks"] = scores.to_dict()
    steps = {
        step: score_masks(run / "masks" / STEPS / step, photos, classes, bootstrap=bootstrap)
        for step in step_names(config.refine)
        if _covers(run / "masks" / STEPS / step, photos, "png")
    }
    if steps and read_manifest(run / "masks") is not None:
        console.print(step_table(steps, f"Refinement steps, {name}"))
        found["steps"] = {step: scores.to_dict() for step, scores in steps.items()}
    if read_manifest(run / "segmenter") is not None:
        for variant in config.segment.variants:
            folder = run / "segmenter" / "predictions" / variant
            if _covers(folder, photos, "png"):
                scores = score_masks(folder, photos, classes, bootstrap=bootstrap)
                console.print(mask_tables(scores, f"Segmentation ({variant}), {name}"))
                found.setdefault("segmentation", {})[variant] = scores.to_dict()
    return found


def _covers(folder: Path, photos: Sequence[Photo], suffix: str) -> bool:
    return all((folder / f"{photo.id}.{suffix}").is_file() for photo in photos)


def _panel_rows(config: Config, run: Path, photo_set: PhotoSet) -> list[PanelRow]:
    """Rows of photos spread evenly over the photos not trained on (or, without any, over all)."""
    candidates = [
        photo for photo in photo_set.lists["val"] or photo_set.photos() if (run / "seeds" / f"{photo.id}.npz").is_file()
    ]
    chosen = [candidates[i] for i in np.linspace(0, len(candidates) - 1, min(NUM_PANELS, len(candidates))).astype(int)]
    rows = []
    for photo in chosen:
        seed = read_seed(run / "seeds" / f"{photo.id}.npz")
        cams = seed.cams()
        rows.append(
            panel_row(
                load_image(photo.image, config.data.max_pixels),
                photo_set.classes,
                name=photo.id,
                truth=None if photo.mask is None else photo.mask.load(),
                cams=cams,
                class_indices=seed.class_indices,
                background_cam=seed.background_cam(),
                seed=label_pixels(cams, seed.class_indices, config.score.threshold),
                mask=_mask(run / "masks" / f"{photo.id}.png"),
                segmentation=_mask(run / "segmenter" / "predictions" / config.segment.variants[0] / f"{photo.id}.png"),
            )
        )
    return rows


def _mask(path: Path) -> NDArray[np.uint8] | None:
    return load_mask(path) if path.is_file() else None
