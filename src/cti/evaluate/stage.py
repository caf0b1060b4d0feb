"""Scoring a run: seeds, pseudo-masks and segmentations against true masks, as numbers, tables and a picture."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from cti.config import Config
from cti.data import PhotoSet, load_image, load_mask
from cti.data.seed_file import read_seed
from cti.evaluate.labels import label_pixels
from cti.evaluate.list_scores import ResultFolders, score_list
from cti.evaluate.scores import ListScores, RunScores
from cti.evaluate.tables import list_tables, tag_table
from cti.evaluate.tags import TagScores, read_tags
from cti.files import read_manifest
from cti.masks.chain import STEPS
from cti.masks.steps import step_names
from cti.tables import to_rich
from cti.visualize import PanelRow, panel_row, save_panels

logger = logging.getLogger(__name__)

PICTURE = "panels.png"
NUM_PANELS = 8


def score_run(config: Config, photo_set: PhotoSet, folder: Path) -> RunScores:
    """Score every finished stage on the lists `score` and `val`, print tables, draw panels.

    Args:
        config: The run; its stages lie in `config.out`.
        photo_set: The photos; those with a true mask are scored, and those without a tag.
        folder: Gets the picture.
    """
    run = Path(config.out)
    folders, lists = result_folders(config), dict[str, ListScores]()
    if not photo_set.has_masks:
        logger.warning("These photos have no masks, so nothing is scored against them; look at %s.", folder / PICTURE)
    for name in ("score", "val"):
        scores = score_list(
            folders, photo_set.lists[name], photo_set.classes, config.seeds.kinds,
            threshold=config.score.threshold, bootstrap=config.score.bootstrap,
        )  # fmt: skip
        if scores != ListScores():
            lists[name] = scores
    print_tables(read_tags(run / "train"), lists)
    rows = _panel_rows(config, run, photo_set)
    if rows:
        save_panels(folder / PICTURE, rows, photo_set.classes)
    return RunScores(photo_set.classes, lists, str(folder / PICTURE) if rows else None)


def result_folders(config: Config) -> ResultFolders:
    """The folders of the stages of a run that have finished."""
    run = Path(config.out)
    finished = {stage for stage in ("seeds", "masks", "segmenter") if read_manifest(run / stage) is not None}
    steps = step_names(config.refine) if "masks" in finished else []
    variants = config.segment.variants if "segmenter" in finished else ()
    return ResultFolders(
        seeds=run / "seeds" if "seeds" in finished else None,
        predicted_seeds=run / "seeds" / "predicted" if "seeds" in finished else None,
        masks=run / "masks" if "masks" in finished else None,
        steps={step: run / "masks" / STEPS / step for step in steps},
        segment={variant: run / "segmenter" / "predictions" / variant for variant in variants},
    )


def print_tables(tags: TagScores | None, lists: Mapping[str, ListScores]) -> None:
    """Print the scores on the terminal; details too where debug messages are logged (`--verbose`)."""
    console, details = Console(stderr=True), logger.isEnabledFor(logging.DEBUG)
    if tags is not None:
        console.print(to_rich(tag_table(tags)))
    for name, scores in lists.items():
        for table in list_tables(scores, name):
            if details or not table.folded:
                console.print(to_rich(table))


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
