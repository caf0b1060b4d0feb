"""The pipeline: one function per stage, each from folders to one folder."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cti.checkpoint import load_model, save_model
from cti.config import Config
from cti.data import Photo, PhotoSet, read_photos
from cti.data.check import check_data, usable
from cti.data.datasets import TagDataset, TwoViewDataset, multi_hot
from cti.data.fingerprint import fingerprint
from cti.evaluation.tags import choose_thresholds, f1_scores, score_tags
from cti.models import CTI
from cti.seeds import extract_seeds
from cti.stages import run_stage, settings_of
from cti.training.cti_step import CTIStep
from cti.training.optimiser import parameter_groups
from cti.training.trainer import fit

logger = logging.getLogger(__name__)

TRAIN_SECTIONS = ("data", "model", "method", "train")


def train(config: Config) -> dict[str, Any]:
    """Stage 1: train CTI from tags. Writes `train/`: the network, its training state, metrics, tag thresholds."""
    photo_set = sound_photos(config)
    settings = settings_of(config, TRAIN_SECTIONS, photos=fingerprint(photo_set))

    def body(folder: Path) -> dict[str, Any]:
        photo_set.write_lists(folder / "lists")
        torch.manual_seed(config.train.seed)
        model = CTI.from_config(photo_set.classes, config.model)
        model.recompute = config.train.recompute
        photos = photo_set.lists["train"]
        dataset = TwoViewDataset(
            photos, len(photo_set.classes), config.model.image_size, model.mean, model.std, config.train.seed
        )
        step = CTIStep(model, config.method, positive_weights(photos, photo_set.classes, config.method.positive_weight))
        groups = parameter_groups(
            step,
            config.train,
            new=("model.class_tokens.mlp", "model.class_tokens.bg_token", "model.patch_head"),
            no_decay=("cls_token",),
        )
        held_out = photo_set.lists["val"]

        def validate(epoch: int) -> dict[str, float]:
            scores, labels = tag_logits(model, held_out, config.model.image_size)
            result = score_tags(scores, labels, photo_set.classes).mean_average_precision
            logger.info("Epoch %d: tag mAP %.3f on %d photos not trained on", epoch, result, len(held_out))
            return {"tag_map": result}

        fitted = fit(step, dataset, config.train, folder, groups, validate if held_out else None, title="train")
        tags = _tag_facts(model, photo_set, config.model.image_size)
        save_model(folder, model, {"tag_thresholds": tags.pop("thresholds", None)})
        return {"classes": photo_set.classes, "photos": len(photos), "notes": photo_set.notes, **tags, **asdict(fitted)}

    return run_stage(config, "train", settings, body)


def seeds(config: Config) -> dict[str, Any]:
    """Stage 2: class activation maps of the tagged classes. Writes `seeds/<photo>.npz`."""
    photo_set = sound_photos(config)
    settings = settings_of(config, (*TRAIN_SECTIONS, "seeds"), photos=fingerprint(photo_set))
    return run_stage(
        config, "seeds", settings, lambda folder: _extract(config, photo_set, _trained(config, photo_set), folder)
    )


def sound_photos(config: Config) -> PhotoSet:
    """The data set without its broken photos; every file was decoded once (the check is cached).

    Raises:
        ValueError: if more than `data.max_broken` of the photos are broken; the message lists them.
    """
    photo_set = read_photos(config.data)
    report = check_data(photo_set, max_broken=config.data.max_broken, max_pixels=config.data.max_pixels)
    photo_set = usable(photo_set, report)
    for note in photo_set.notes:
        logger.warning("%s", note)
    return photo_set


def positive_weights(photos: Sequence[Photo], classes: Sequence[str], power: float) -> Tensor | None:
    """(C,) weights (negatives / positives)^power of each class's positive tags; None for power 0."""
    if power == 0:
        return None
    positives = sum((multi_hot(photo.tags, len(classes)) for photo in photos), torch.zeros(len(classes))).clamp(min=1)
    return ((len(photos) - positives).clamp(min=1) / positives) ** power


@torch.inference_mode()
def tag_logits(model: CTI, photos: Sequence[Photo], image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean of class and patch logits (n, C) of whole photos, and their tags (n, C) multi-hot.

    Puts the model into eval mode.
    """
    model.eval()
    device = next(model.parameters()).device
    dataset = TagDataset(photos, len(model.classes), image_size, model.mean, model.std)
    logits, labels = [], []
    for batch in DataLoader(dataset, batch_size=32):
        out = model(batch["images"].to(device))
        logits.append(((out.class_logits + out.patch_logits) / 2).float().cpu())
        labels.append(batch["labels"])
    return torch.cat(logits).numpy(), torch.cat(labels).numpy()


def _tag_facts(model: CTI, photo_set: PhotoSet, image_size: int) -> dict[str, Any]:
    """Tag mAP and per-class thresholds on photos not trained on; nothing if there are none."""
    held_out = photo_set.lists["val"]
    if not held_out:
        return {}
    scores, labels = tag_logits(model, held_out, image_size)
    thresholds = choose_thresholds(scores, labels)
    f1 = f1_scores(scores, labels, thresholds)
    return {
        "tags": score_tags(scores, labels, photo_set.classes).to_dict(),
        "tag_f1": float(np.nanmean(f1)),
        "thresholds": dict(zip(photo_set.classes, thresholds.tolist(), strict=True)),
    }


def _trained(config: Config, photo_set: PhotoSet) -> CTI:
    model, _ = load_model(Path(config.out) / "train")
    if model.classes != photo_set.classes:
        raise ValueError(
            f"The network in {config.out}/train knows the classes {', '.join(model.classes)}; the data have "
            f"{', '.join(photo_set.classes)}. Use the data.classes it was trained with."
        )
    return model


def _extract(config: Config, photo_set: PhotoSet, model: CTI, folder: Path) -> dict[str, Any]:
    wanted = {photo.id: photo for name in config.seeds.lists for photo in photo_set.lists[name]}
    result = extract_seeds(model.to(_device()), list(wanted.values()), config.seeds, folder)
    return {"classes": photo_set.classes, "photos": len(wanted), "kinds": config.seeds.kinds, **asdict(result)}


def _device() -> torch.device:
    return torch.accelerator.current_accelerator() or torch.device("cpu")  # type: ignore[return-value]


STAGES: dict[str, Callable[[Config], dict[str, Any]]] = {"train": train, "seeds": seeds}
