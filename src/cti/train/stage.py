"""The stage `train`: CTI learns the classes from tags."""

import logging
from dataclasses import dataclass

import torch

from cti.data.datasets import TwoViewDataset
from cti.evaluate.tags import TagScores, score_tags
from cti.first_look.stage import first_look
from cti.method import CTI
from cti.method.checkpoint import load_model, save_model
from cti.method.step import CTIStep
from cti.run import Run
from cti.train.fit import FitResult, fit
from cti.train.optimiser import parameter_groups
from cti.train.tagging import positive_weights, score_held_out, tag_logits

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
        fit: Steps, time and memory.
    """

    classes: tuple[str, ...]
    photos: int
    notes: tuple[str, ...]
    tags: TagScores | None
    fit: FitResult


def train(run: Run) -> TrainResult:
    """Train CTI from tags: train/, with the network, its training state, metrics, tag thresholds and lists."""
    config = run.config
    look = None if run.finished("train") else first_look(run)
    with run.stage("train") as stage:
        if stage.finished:
            return stage.result(TrainResult)
        photo_set = run.photos
        photos, held_out = photo_set.lists["train"], photo_set.lists["val"]
        num_classes, size = len(photo_set.classes), config.model.image_size

        torch.manual_seed(config.train.seed)
        if look is None:
            model = CTI.from_config(photo_set.classes, config.model)
        else:
            model, _ = load_model(run.stage_folder("first_look"))
        model.recompute = config.train.recompute
        photo_set.write_lists(stage.folder / "lists")
        dataset = TwoViewDataset(
            photos, num_classes, size, model.mean, model.std, config.train.seed, config.method.crop_scale
        )
        step = CTIStep(model, config.method, positive_weights(photos, num_classes, config.method.positive_weight))
        groups = parameter_groups(step, config.train, new=NEW_PARTS, no_decay=("cls_token",))

        def validate(epoch: int) -> dict[str, float]:
            scores, labels = tag_logits(model, held_out, size)
            tag_map = score_tags(scores, labels, photo_set.classes).mean_average_precision
            if tag_map is None:  # no photo held out has a tag
                return {}
            logger.info("Epoch %d: tag mAP %.3f on %d photos not trained on", epoch, tag_map, len(held_out))
            return {"tag_map": tag_map}

        fitted = fit(step, dataset, config.train, stage.folder, groups, config.runtime, validate if held_out else None)
        tags = score_held_out(model, held_out, size)
        save_model(stage.folder, model, {"tag_thresholds": tags.thresholds if tags else {}})
        return stage.finish(TrainResult(photo_set.classes, len(photos), photo_set.notes, tags, fitted))
