"""A folder of seeds in, a folder of pseudo-masks out: `refine_folder`."""

import dataclasses
import logging
import shutil
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from cti.classes import IGNORE_INDEX
from cti.config import RefineConfig
from cti.data.images import load_mask, save_mask
from cti.data.photos import Photo
from cti.files import read_json, write_json
from cti.masks.features import Features
from cti.masks.pseudo_mask import decide, pseudo_mask, save_preview
from cti.masks.scores import start_scores
from cti.masks.seed_folder import SeedFolder
from cti.masks.steps import build_steps, read_rgb, refine_photos

logger = logging.getLogger(__name__)

SETTINGS = "settings.json"
STEPS = "steps"


def refine_folder(
    photos: Sequence[Photo],
    seeds: SeedFolder,
    config: RefineConfig,
    *,
    out: Path | str,
    features: Features | None = None,
    keep_steps: Collection[str] = (),
    progress: bool = True,
) -> dict[str, Any]:
    """Make the pseudo-mask of every photo; masks that are there already are kept, so a killed run goes on.

    Args:
        photos: Photos to make masks of, and to learn affinity from.
        seeds: Their seeds.
        config: The chain of steps, their numbers, and the rule for unsure pixels.
        out: Folder of `<photo id>.png`, indexed with the VOC palette, 255 where unsure.
        features: The frozen backbone; only the affinity step needs it.
        keep_steps: Ids of photos whose masks after each step, every pixel decided, are kept in `steps/<names>/`, so
            that each step can be scored.
        progress: Show bars.

    Returns:
        Facts for the stage's manifest: `photos`, `made` now, `missing` ids, `coverage` (share of pixels that are not
        255), `without_foreground` (masks with no class at all), `seconds`, `steps`, `classes`.

    Raises:
        ValueError: if the list is empty, seeds are missing and that is not allowed, or `out` holds masks made with
            other settings.
        ModuleNotFoundError: if a step's extra is not installed.
    """
    started = time.perf_counter()
    out = Path(out)
    photos, missing = _with_seeds(photos, seeds, config.allow_missing)
    _claim(out, config, seeds)
    paths = {photo.id: out / f"{photo.id}.png" for photo in photos}
    todo = [photo for photo in photos if not paths[photo.id].is_file()]
    if todo:
        work = out / "affinity"
        steps = build_steps(photos, seeds, config, work, features, progress)
        stream = refine_photos(todo, seeds, config, steps)
        for refined in track(
            stream, "pseudo-masks", total=len(todo), console=Console(stderr=True), disable=not progress
        ):
            if refined.photo.id in keep_steps:
                for name, scores in refined.scores.items():
                    decided = decide(scores, refined.class_indices)
                    save_mask(out / STEPS / name / f"{refined.photo.id}.png", decided)
            mask = pseudo_mask(refined.final, refined.class_indices, config)
            save_mask(paths[refined.photo.id], mask)
        shutil.rmtree(work / "features", ignore_errors=True)
    for photo in photos[: config.preview]:
        preview = out / "preview" / f"{photo.id}.png"
        if not preview.is_file():
            seed = seeds(photo.id)
            before = decide(start_scores(seed, config), seed.class_indices)
            save_preview(preview, read_rgb(photo.image), before, load_mask(paths[photo.id]))
    counts = np.zeros(256, dtype=np.int64)
    without_foreground = 0
    for path in paths.values():
        values = np.bincount(load_mask(path).ravel(), minlength=256)
        without_foreground += not values[1:IGNORE_INDEX].any()
        counts += values
    return {
        "photos": len(photos),
        "made": len(todo),
        "missing": list(missing),
        "coverage": float(1 - counts[IGNORE_INDEX] / counts.sum()),
        "without_foreground": without_foreground,
        "seconds": round(time.perf_counter() - started, 1),
        "steps": list(config.steps),
        "classes": list(seeds.classes),
    }


def _with_seeds(
    photos: Sequence[Photo], seeds: SeedFolder, allow_missing: bool
) -> tuple[tuple[Photo, ...], tuple[str, ...]]:
    """The photos that have a seed, and the ids of those that have none."""
    if not photos:
        raise ValueError("There are no photos to refine; the list is empty.")
    missing = seeds.missing(photos)
    if missing:
        named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        sentence = f"{len(missing)} of {len(photos)} photos have no seed in {seeds.folder}: {named}"
        if not allow_missing or len(missing) == len(photos):
            raise ValueError(f"{sentence}; run `cti seeds` again, or go on without them with --allow-missing.")
        logger.warning("%s; they get no mask.", sentence)
    absent = set(missing)
    return tuple(photo for photo in photos if photo.id not in absent), missing


def _claim(out: Path, config: RefineConfig, seeds: SeedFolder) -> None:
    """Note in `out` what its masks are made with, and refuse to mix in masks made otherwise."""
    settings = dataclasses.asdict(config)
    for name in ("preview", "allow_missing"):  # these change no mask
        del settings[name]
    del settings["crf"]["workers"]
    noted = {"settings": repr(settings), "classes": list(seeds.classes), "seeds_finished": seeds.identity}
    path = out / SETTINGS
    if not path.is_file():
        write_json(path, noted)
    elif read_json(path) != noted:
        raise ValueError(
            f"{out} holds pseudo-masks of other settings or seeds (see {path}); "
            "delete the folder or choose another one."
        )
