"""The stage `train`: CTI learns the classes from tags, from a linear head on the frozen backbone on."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from cti.data.datasets import TwoViewDataset
from cti.device import default_device
from cti.evaluate.tags import TagScores, score_tags
from cti.evaluate.wrong_tags import write_tag_logits
from cti.first_look.features import evenly, extract_features
from cti.first_look.locator import ENOUGH_PHOTOS, locate
from cti.first_look.stage import first_look
from cti.method import CTI
from cti.method.checkpoint import load_model, save_model
from cti.method.step import CTIStep
from cti.run import Run
from cti.train.fit import FitResult, fit, nothing_fitted
from cti.train.keep import CLEARLY, BestNetwork, Judge
from cti.train.optimiser import parameter_groups
from cti.train.ranks import check_batch_size
from cti.train.tagging import labels_of, positive_weights, tag_logits

logger = logging.getLogger(__name__)

NEW_PARTS = ("model.class_tokens.mlp", "model.class_tokens.bg_token", "model.patch_head")
"""How the names of the parameters begin that are not pre-trained."""


@dataclass(frozen=True)
class TrainResult:
    """What training came to.

    Args:
        classes: The C foreground classes.
        photos: Photos trained on.
        notes: What was left out of the data, one sentence each.
        tags: How well tags are predicted on the photos held out; None without any.
        linear_tag_map: Tag mAP of the linear head that training started from, on the same photos; None without one.
        kept: Which network was kept, if not the last one, and why.
        fit: Steps, time and memory.
    """

    classes: tuple[str, ...]
    photos: int
    notes: tuple[str, ...]
    tags: TagScores | None
    linear_tag_map: float | None
    kept: str
    fit: FitResult


def train(run: Run) -> TrainResult:
    """Train CTI from tags: train/, with the network, its training state, metrics, tag thresholds and lists."""
    config = run.config
    fits = run.fits("train")
    if not fits and not config.look_is_enough:
        check_batch_size(config.train, config.runtime)
    look = None if fits else first_look(run)
    with run.stage("train") as stage:
        if stage.finished:
            return stage.result(TrainResult)
        classes, photos, held_out = run.photos.classes, run.photos.lists["train"], run.photos.lists["val"]
        run.photos.write_lists(stage.folder / "lists")

        # The network: its heads know the tags already where there was a first look.
        torch.manual_seed(config.train.seed)
        if look is None:
            model = CTI.from_config(classes, config.model)
        else:
            model, _ = load_model(run.stage_folder("first_look"))
            if model.tag_head is not None and not config.look_is_enough:
                model.tag_head.weight.zero_()  # what is trained answers until it is fitted again
        model.recompute = config.train.recompute
        model.backbone.freeze(config.train.frozen_blocks, "train.frozen_blocks")
        linear = look.linear_tag_map if look is not None and held_out else None
        may_lose = config.train.keep == "last"
        best = BestNetwork(stage.folder / "best", run.stage_folder("first_look"), None if may_lose else linear)

        # The step of the method on two random views of each photo.
        dataset = TwoViewDataset(
            photos,
            len(classes),
            config.model.image_size,
            model.mean,
            model.std,
            config.train.seed,
            config.method.crop_scale,
        )
        step = CTIStep(model, config.method, positive_weights(photos, len(classes), config.method.positive_weight))
        groups = parameter_groups(step, config.train, new=NEW_PARTS, no_decay=("cls_token",))

        if config.look_is_enough:
            fitted = nothing_fitted()
            kept = (
                f"Nothing was trained (train.warm_start: {config.train.warm_start}): the network is the first look's; "
                "--train.warm_start on trains it from there."
            )
        else:
            # After each epoch: the tags of photos not trained on, which must not fall below the linear head's.
            judge = Judge(model, held_out, config.seeds, config.runtime, best) if held_out else None
            fitted = fit(
                step, dataset, config.train, stage.folder, groups, config.runtime, judge, warm=look is not None
            )
            kept = best.settle(model, fitted.final.get("tag_map"))
        if kept:
            logger.log(logging.INFO if config.look_is_enough else logging.WARNING, "%s", kept)
        model.to(default_device())
        # Features have moved: where the classes are is fitted once more.
        if model.tag_head is not None and look is not None and not bool(model.tag_head.weight.any()):
            some = evenly(photos, ENOUGH_PHOTOS)
            locate(model.eval(), extract_features(model, some, config.seeds, config.runtime), some)
        tags = _score_tags(model, run, stage.folder)
        if not may_lose and look and tags and _clearly_below(tags.mean_average_precision, look.tag_map):
            start, _ = load_model(run.stage_folder("first_look"))
            model.load_state_dict(start.state_dict())
            kept = (
                f"Fine-tuning ended at a tag mAP of {tags.mean_average_precision:.3f}, clearly below the first look's "
                f"{look.tag_map:.3f}; the first look's network is kept."
            )
            logger.warning("%s", kept)
            tags = _score_tags(model, run, stage.folder)
        save_model(stage.folder, model, {"tag_thresholds": tags.thresholds if tags else {}})
        return stage.finish(TrainResult(classes, len(photos), run.photos.notes, tags, linear, kept, fitted))


def _score_tags(model: CTI, run: Run, folder: Path) -> TagScores | None:
    """The tags of photos held out, scored and written down; None without such photos."""
    held_out = run.photos.lists["val"]
    if not held_out:
        return None
    logits = tag_logits(model, held_out, run.config.seeds, run.config.runtime)
    write_tag_logits(folder, held_out, logits)
    return score_tags(logits, labels_of(held_out, len(model.classes)), model.classes)


def _clearly_below(tag_map: float | None, other: float | None) -> bool:
    return tag_map is not None and other is not None and tag_map < other - CLEARLY
