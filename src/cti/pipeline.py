"""The pipeline: one function per stage, each from folders to one folder, and `run` for all of them.

photos + tags -> train -> seeds -> masks -> segmenter -> scores -> report
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from cti.config import Config, SegmentConfig
from cti.data import Photo, PhotoSet, read_photos
from cti.data.check import check_data, usable
from cti.data.datasets import TwoViewDataset
from cti.data.fingerprint import fingerprint
from cti.device import default_device
from cti.evaluate import score_tags
from cti.evaluate.stage import score_run
from cti.files import read_manifest, to_json
from cti.masks.chain import refine_folder
from cti.masks.crf import load_library, needs_library
from cti.masks.features import Features
from cti.masks.seed_folder import SeedFolder
from cti.method import CTI
from cti.method.checkpoint import load_model, save_model
from cti.method.step import CTIStep
from cti.seeds import extract_seeds
from cti.seeds.maps import fit_to_patches
from cti.segment.checkpoint import load_segmenter, save_segmenter
from cti.segment.dataset import SegmentationDataset
from cti.segment.masks import MaskFolder, MaskOf, class_weights, real_mask
from cti.segment.networks import Segmenter, build_segmenter, describe, start_from
from cti.segment.predict import predict_folder
from cti.segment.step import SegmentationStep
from cti.stages import run_stage, settings_of
from cti.train.allocator import keep_freed_memory
from cti.train.fit import fit
from cti.train.optimiser import parameter_groups
from cti.train.tagging import positive_weights, tag_facts, tag_logits, with_predicted_tags

logger = logging.getLogger(__name__)

TRAIN_SECTIONS = ("data", "model", "method", "train")
SEED_SECTIONS = (*TRAIN_SECTIONS, "seeds")
MASK_SECTIONS = (*SEED_SECTIONS, "refine")
NEW_PARTS = ("model.class_tokens.mlp", "model.class_tokens.bg_token", "model.patch_head")

Result = dict[str, Any]


def train(config: Config) -> Result:
    """Train CTI from tags. Writes `train/`: the network, its training state, metrics, tag thresholds, lists."""
    photo_set = sound_photos(config)
    photos, held_out = photo_set.lists["train"], photo_set.lists["val"]
    num_classes, size = len(photo_set.classes), config.model.image_size

    def body(folder: Path) -> Result:
        photo_set.write_lists(folder / "lists")
        torch.manual_seed(config.train.seed)
        model = CTI.from_config(photo_set.classes, config.model)
        model.recompute = config.train.recompute
        dataset = TwoViewDataset(
            photos,
            num_classes,
            size,
            model.mean,
            model.std,
            config.train.seed,
            early_size=config.model.early_size,
            early_epochs=config.model.early_epochs,
            crop_scale=config.method.crop_scale,
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

        fitted = fit(step, dataset, config.train, folder, groups, validate if held_out else None)
        facts = tag_facts(model, held_out, size)
        save_model(folder, model, {"tag_thresholds": facts.get("tag_thresholds", {})})
        return {
            "classes": photo_set.classes,
            "photos": len(photos),
            "notes": photo_set.notes,
            **facts,
            **asdict(fitted),
        }

    return run_stage(config, "train", _settings(config, photo_set, TRAIN_SECTIONS), body)


def seeds(config: Config, official: str = "") -> Result:
    """Class activation maps of the tagged classes. Writes `seeds/<photo>.npz`.

    Args:
        config: The run.
        official: A checkpoint in the CTI authors' names to use instead of the run's own network.
    """
    photo_set = sound_photos(config)

    def body(folder: Path) -> Result:
        facts: dict[str, Any] = {}
        if official:
            model = CTI.from_official(official, photo_set.classes)
        else:
            model, facts = load_model(Path(config.out) / "train")
            _check_classes(model.classes, photo_set.classes, f"The network in {config.out}/train")
        device = default_device()
        if device.type == "cpu":
            keep_freed_memory()
        model.to(device)
        wanted = _union(photo_set, config.seeds.lists)
        result: Result = {"classes": photo_set.classes, "kinds": config.seeds.kinds}
        result |= {"photos": len(wanted), **asdict(extract_seeds(model, wanted, config.seeds, folder))}
        if config.seeds.predicted_tags:
            untagged = _union(photo_set, config.seeds.predicted_tags)
            guessed = with_predicted_tags(model, untagged, facts.get("tag_thresholds", {}))
            extract_seeds(model, guessed, config.seeds, folder / "predicted")
        return result

    return run_stage(config, "seeds", _settings(config, photo_set, SEED_SECTIONS, official=official), body)


def masks(config: Config) -> Result:
    """Refine seeds into pseudo-masks. Writes `masks/<photo>.png`."""
    photo_set = sound_photos(config)

    def body(folder: Path) -> Result:
        seed_folder = SeedFolder(Path(config.out) / "seeds", photo_set.classes, config.refine.kind)
        photos = _union(photo_set, ("train", "score"))
        features = None
        if "affinity" in config.refine.steps:
            model, _ = load_model(Path(config.out) / "train")
            features = backbone_features(model.to(default_device()), config.seeds.long_side)
        scored = {photo.id for photo in photo_set.lists["score"] if photo.mask is not None}
        return refine_folder(photos, seed_folder, config.refine, out=folder, features=features, keep_steps=scored)

    previews = len(list((Path(config.out) / "masks" / "preview").glob("*.png")))
    redo = previews < min(config.refine.preview, len(_union(photo_set, ("train", "score"))))
    return run_stage(config, "masks", _settings(config, photo_set, MASK_SECTIONS), body, redo=redo)


def segmenter(config: Config) -> Result:
    """Train a segmentation network on the pseudo-masks (or `segment.masks`) and predict.

    Writes `segmenter/`: the network, metrics, and `predictions/<variant>/<photo>.png`. Lists and variants may be added
    to a finished stage: only what is missing is predicted.
    """
    photo_set = sound_photos(config)
    own = not config.segment.masks
    before = MASK_SECTIONS if own else TRAIN_SECTIONS if config.segment.weights == "run" else ("data",)
    sections = (*before, "segment", "segment_train")
    wanted = _union(photo_set, config.segment.lists)

    def body(folder: Path) -> Result:
        finished = read_manifest(folder)  # it is trained, and predictions are to be added
        facts = finished["result"] if finished else _train_segmenter(config, photo_set, folder)
        trained, _, _ = load_segmenter(folder)
        trained.to(default_device())
        for variant in config.segment.variants:
            predict_folder(
                trained, wanted, folder / "predictions" / variant, prediction_config(config.segment, variant)
            )
        return {**facts, "variants": config.segment.variants}

    predictions = Path(config.out) / "segmenter" / "predictions"
    redo = not all(
        (predictions / variant / f"{photo.id}.png").is_file() for variant in config.segment.variants for photo in wanted
    )
    return run_stage(config, "segmenter", _settings(config, photo_set, sections), body, redo=redo)


def _train_segmenter(config: Config, photo_set: PhotoSet, folder: Path) -> Result:
    torch.manual_seed(config.segment_train.seed)
    segment = _segment_config(config)
    network = _build_segmenter(config, len(photo_set.classes))
    if segment.weights == "run":
        model, _ = load_model(Path(config.out) / "train")
        start_from(network, model.backbone, model.class_tokens().mean(dim=1, keepdim=True))
    mask_of, photos = _segmenter_masks(config, photo_set)
    dataset = SegmentationDataset(
        photos,
        mask_of,
        len(photo_set.classes),
        config.segment,
        network.mean,
        network.std,
        config.segment_train.seed,
    )
    step = SegmentationStep(network, class_weights(dataset.pixels, config.segment.balance))
    fitted = fit(
        step, dataset, config.segment_train, folder, step.parameter_groups(config.segment_train), title="segmenter"
    )
    save_segmenter(folder, network, segment, photo_set.classes)
    facts = {"classes": photo_set.classes, "photos": len(photos)}
    return {**facts, "network": describe(network, segment), **asdict(fitted)}


def scores(config: Config) -> Result:
    """Score whatever the run has made, where the photos have masks. Writes `scores/`: numbers, tables, panels."""
    photo_set = sound_photos(config)
    run = Path(config.out)
    made = {
        name: manifest["finished"]
        for name in ("seeds", "masks", "segmenter")
        if (manifest := read_manifest(run / name))
    }
    settings = _settings(config, photo_set, ("data", "score"), made=made)
    return run_stage(
        config, "scores", settings, lambda folder: to_json(score_run(config, photo_set, folder)), repeatable=True
    )


def report(config: Config) -> Result:
    """Write `report.html`. Without the extra `report` that is said, and the run is finished all the same."""
    from cti.apps.report import check_extra, write_report

    try:
        check_extra()
    except ModuleNotFoundError as error:
        logger.warning("%s", error)
        return {}
    return {"report": str(write_report(Path(config.out)))}


STAGES: dict[str, Callable[[Config], Result]] = {
    "train": train,
    "seeds": seeds,
    "masks": masks,
    "segmenter": segmenter,
    "scores": scores,
    "report": report,
}


def run(config: Config) -> Result:
    """All stages of `config.stages` in turn; finished ones are skipped. Results by stage.

    Raises:
        ModuleNotFoundError: if a stage that is still to be run needs an extra that is not installed.
        ValueError: if the segmentation network to be trained at the end cannot be built.
    """
    unfinished = [name for name in config.stages if read_manifest(Path(config.out) / name) is None]
    variants = config.segment.variants
    if ("masks" in unfinished and needs_library(config.refine)) or (
        "segmenter" in unfinished and any(variant.endswith("+crf") for variant in variants)
    ):
        load_library()  # say now, not after an hour of training, that it is missing
    if "segmenter" in unfinished:
        _build_segmenter(config, num_classes=1)  # likewise
    return {name: STAGES[name](config) for name in config.stages}


def sound_photos(config: Config) -> PhotoSet:
    """The data set without its broken photos; every file was decoded once (the check is cached).

    Raises:
        ValueError: if more than `data.max_broken` of the photos are broken; the message lists them.
    """
    photo_set = read_photos(config.data)
    report = check_data(photo_set, max_broken=config.data.max_broken, max_pixels=config.data.max_pixels)
    photo_set = usable(photo_set, report)
    for note in photo_set.notes:
        logger.info("%s", note)
    return photo_set


def backbone_features(model: CTI, long_side: int = 0) -> Features:
    """The frozen network as a function from an image (H, W, 3) uint8 to its patch features (D, h, w).

    Args:
        model: The network.
        long_side: Images are brought to this longest side first; 0 = own size.
    """

    @torch.inference_mode()
    def features(image: NDArray[np.uint8]) -> Tensor:
        own = (image.shape[0], image.shape[1])
        height, width = fit_to_patches(own, model.patch_size, long_side / max(own) if long_side else 1.0)
        resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
        pixels = torch.from_numpy(resized.copy()).permute(2, 0, 1).float() / 255
        images = TF.normalize(pixels, list(model.mean), list(model.std))[None]
        return model.features(images.to(next(model.parameters()).device))[0]

    return features


def prediction_config(config: SegmentConfig, variant: str) -> SegmentConfig:
    """The settings of one of `segment.variants`."""
    scales = config.multi_scales if variant.startswith("multi-scale") else (1.0,)
    crf = (config.crf if config.crf != "none" else "psa") if variant.endswith("+crf") else "none"
    return replace(config, scales=scales, crf=crf)


def _segment_config(config: Config) -> SegmentConfig:
    """`config.segment`; with the weights of the run's network comes that one's geometry."""
    if config.segment.weights != "run":
        return config.segment
    geometry = ("backbone", "embed_dim", "depth", "num_heads", "patch_size", "stem")
    return replace(config.segment, **{name: getattr(config.model, name) for name in geometry})


def _build_segmenter(config: Config, num_classes: int) -> Segmenter:
    """The network before training; the weights of the run's network, if they are wanted, are not in it yet."""
    segment = _segment_config(config)
    if segment.weights == "run":
        segment = replace(segment, weights="none")
    return build_segmenter(segment, num_classes, config.segment_train.recompute)


def _segmenter_masks(config: Config, photo_set: PhotoSet) -> tuple[MaskOf, Sequence[Photo]]:
    photos = photo_set.lists["train"]
    if config.segment.masks == "real":
        return real_mask, photos
    folder = Path(config.segment.masks or Path(config.out) / "masks")
    manifest = read_manifest(folder)
    if manifest is not None:
        _check_classes(tuple(manifest["result"]["classes"]), photo_set.classes, f"The masks in {folder}")
    source = MaskFolder(folder, len(photo_set.classes))
    return source, source.covered(photos, config.refine.allow_missing)


def _settings(config: Config, photo_set: PhotoSet, sections: Sequence[str], **more: Any) -> dict[str, Any]:
    return settings_of(config, sections, photos=fingerprint(photo_set), **more)


def _union(photo_set: PhotoSet, names: Sequence[str]) -> list[Photo]:
    return list({photo.id: photo for name in names for photo in photo_set.lists[name]}.values())


def _check_classes(theirs: Sequence[str], ours: Sequence[str], what: str) -> None:
    if tuple(theirs) != tuple(ours):
        raise ValueError(
            f"{what} knows the classes [{', '.join(theirs)}], but the data have [{', '.join(ours)}]; "
            "use the same data.classes in the same order."
        )
