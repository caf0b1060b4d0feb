"""The stage `masks`: from seeds to pseudo-masks, which are the masks of the run until the segmenter is trained."""

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track

from cti.classes import IGNORE_INDEX
from cti.data import Photo
from cti.data.images import load_mask, save_mask
from cti.data.review import with_review
from cti.device import default_device
from cti.files import link
from cti.masks.features import backbone_features
from cti.masks.pseudo_mask import argmax_mask, pseudo_mask, save_preview
from cti.masks.scores import start_scores
from cti.masks.seed_folder import SeedFolder
from cti.masks.steps import build_steps, refine_photos
from cti.method.checkpoint import load_model
from cti.run import Run, split_by_file
from cti.run.stage_folder import seal
from cti.tables import some

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MasksResult:
    """What the pseudo-masks are like.

    Args:
        classes: The C foreground classes.
        photos: Photos that have a pseudo-mask.
        missing: Ids of the photos that have none, for want of a seed.
        steps: Refinement steps, in their order.
        coverage: Share of the pixels that are not ignored (255).
        without_foreground: Masks of photos with tags that hold no class at all.
    """

    classes: tuple[str, ...]
    photos: int
    missing: tuple[str, ...]
    steps: tuple[str, ...]
    coverage: float
    without_foreground: int


def masks(run: Run) -> MasksResult:
    """Refine seeds into pseudo-masks.

    Writes masks/pseudo/<photo>.png, masks/steps/<step>/<photo>.png, masks/preview/<photo>.png, and masks/<photo>.png
    where the segmenter has not made one.
    """
    with run.stage("masks") as stage:
        if stage.finished:
            result = stage.result(MasksResult)
        else:
            photos, missing = photos_with_seeds(run)
            refine(run, photos)
            for photo in split_by_file(photos, [run.mask(photo) for photo in photos])[1]:
                link(run.pseudo_mask(photo), run.mask(photo))
            coverage, without_foreground = describe_masks(run, photos)
            steps = run.config.masks.steps
            result = stage.finish(
                MasksResult(run.photos.classes, len(photos), missing, steps, coverage, without_foreground)
            )
    write_previews(run)
    return result


def photos_with_seeds(run: Run) -> tuple[list[Photo], tuple[str, ...]]:
    """The photos to make pseudo-masks of, and the ids of those that have no seed.

    They are those to train on and all that seeds are made of: of photos held out the tags are known as well.

    Raises:
        ValueError: if no photo has a seed, or some have none and `runtime.allow_missing` is not set.
    """
    wanted = run.listed(("train", "score", *run.config.seeds.lists))
    photos, without = split_by_file(wanted, [run.seed(photo) for photo in wanted])
    missing = tuple(photo.id for photo in without)
    if missing or not wanted:
        sentence = (
            f"{len(missing)} of {len(wanted)} photos have no seed in {run.stage_folder('seeds')}: {some(missing)}"
        )
        if not photos or not run.config.runtime.allow_missing:
            raise ValueError(f"{sentence}; run `cti seeds` again, or go on without them with --allow-missing.")
        logger.warning("%s; they get no pseudo-mask.", sentence)
    return photos, missing


def refine(run: Run, photos: Sequence[Photo]) -> None:
    """Make the pseudo-mask of every photo; masks that are there already are kept, so a killed run goes on.

    Where a person reviewed a mask (`run.review`), it counts, pixel by pixel.

    Of photos that can be scored, the mask after each step, every pixel decided, is kept too.

    Args:
        run: The run; its stage `masks` is being worked on.
        photos: Photos to make masks of; affinity is learned from those of them that are not held out.

    Raises:
        ModuleNotFoundError: if a step's extra is not installed.
    """
    config, folder = run.config.masks, run.stage_folder("masks")
    seeds = SeedFolder(run.stage_folder("seeds"), run.photos.classes, config.kind)
    _, todo = split_by_file(photos, [run.pseudo_mask(photo) for photo in photos])
    if not todo:
        return
    features = None
    if "affinity" in config.steps:
        model, _ = load_model(run.stage_folder("train"))
        features = backbone_features(model.to(default_device()), run.config.seeds.long_side)
    learned = {photo.id for photo in run.listed(("train", "score"))}
    steps = build_steps(
        [photo for photo in photos if photo.id in learned], seeds, config, folder / "affinity", features
    )
    scored = {photo.id for photo in run.photos.lists["score"] if photo.mask is not None}
    workers = run.config.runtime.workers
    stream = refine_photos(todo, seeds, config, steps, workers if workers >= 0 else os.cpu_count() or 1)
    for refined in track(stream, "pseudo-masks", total=len(todo), console=Console(stderr=True)):
        if refined.photo.id in scored:
            for step, scores in refined.scores.items():
                save_mask(run.step_masks(step) / f"{refined.photo.id}.png", argmax_mask(scores, refined.class_indices))
        mask = pseudo_mask(refined.final, refined.class_indices, config)
        mask = with_review(run.review, refined.photo, mask, len(run.photos.classes))
        save_mask(run.pseudo_mask(refined.photo), mask)
    shutil.rmtree(folder / "affinity" / "features", ignore_errors=True)


def write_previews(run: Run) -> None:
    """Write overlays of the first `runtime.preview` masks, before and after refinement, where there are none yet."""
    config = run.config.masks
    photos, _ = split_by_file(wanted := run.listed(("train", "score")), [run.pseudo_mask(photo) for photo in wanted])
    photos = photos[: run.config.runtime.preview]
    _, todo = split_by_file(photos, [run.preview(photo) for photo in photos])
    if todo:
        seeds = SeedFolder(run.stage_folder("seeds"), run.photos.classes, config.kind)
        for photo in todo:
            seed = seeds(photo.id)
            before = argmax_mask(start_scores(seed, config), seed.class_indices)
            save_preview(run.preview(photo), photo.load(), before, load_mask(run.pseudo_mask(photo)))
        seal(run.stage_folder("masks"))


def describe_masks(run: Run, photos: Sequence[Photo]) -> tuple[float, int]:
    """The share of pixels that are not ignored, and how many masks of photos with tags hold no class at all."""
    counts = np.zeros(256, dtype=np.int64)
    without_foreground = 0
    for photo in photos:
        values = np.bincount(load_mask(run.pseudo_mask(photo)).ravel(), minlength=256)
        without_foreground += bool(photo.tags) and not values[1:IGNORE_INDEX].any()
        counts += values
    return float(1 - counts[IGNORE_INDEX] / counts.sum()), without_foreground
