"""The stage `segment`: a segmentation network learns from the pseudo-masks, and predicts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from cti.config import Config, PredictConfig, SegmentConfig
from cti.data import Photo
from cti.data.review import rejected, reviewed_pixels
from cti.device import default_device
from cti.files import from_json, read_manifest, read_object, to_json
from cti.method.checkpoint import load_model
from cti.run import Run, check_classes_agree, split_by_file
from cti.run.stage_folder import START, keep_records, remove_folders, seal
from cti.segment.checkpoint import CONFIG, WEIGHTS, TrainedSegmenter, load_segmenter, save_segmenter
from cti.segment.dataset import SegmentationDataset
from cti.segment.inference import inference
from cti.segment.make_masks import kept_records, make_masks
from cti.segment.masks import MaskFolder, MaskOf, ReviewedOf, real_mask
from cti.segment.networks import (
    NetworkDescription,
    Segmenter,
    ViTSegmenter,
    build_segmenter,
    describe,
    start_from,
)
from cti.segment.patches import PatchStep, fit_tag_head, frozen_features, patch_dataset
from cti.segment.predict import look_at, predict_folder
from cti.segment.rounds import ROUNDS, own_masks
from cti.segment.step import SegmentationStep
from cti.train.fit import STATE, FitResult, fit
from cti.train.tagging import ENOUGH_HELD_OUT, certain_thresholds


@dataclass(frozen=True)
class SegmentResult:
    """What the segmenter is and what its training came to.

    Args:
        classes: The C foreground classes.
        photos: Photos trained on.
        network: The network.
        fit: Steps, time and memory.
    """

    classes: tuple[str, ...]
    photos: int
    network: NetworkDescription
    fit: FitResult


def segment(run: Run) -> SegmentResult:
    """Train a segmentation network on the pseudo-masks, and predict.

    Writes segment/, segment/predictions/<variant>/<photo>.png and the masks of all photos, masks/<photo>.png. Lists and
    variants may be added to a finished stage: only what is missing is predicted, and what would be predicted otherwise
    by the settings of now.
    """
    with run.stage("segment", _sections(run.config.segment), **_joined_by(run.config)) as stage:
        result = stage.result(SegmentResult) if stage.finished else train_segmenter(run, stage.folder)
        predict_missing(run)
        return result if stage.finished else stage.finish(result)


def train_segmenter(run: Run, folder: Path) -> SegmentResult:
    """Train the network of `segment` and write it into a folder."""
    config = segment_config(run.config)
    torch.manual_seed(config.train.seed)
    goes_on = (folder / START).is_dir()  # the photos have changed, and an earlier network is known
    if goes_on:
        keep_records(run.stage_folder("masks"), run.predictions(before=True))
    network = load_segmenter(folder / START).network if goes_on else build(run.config, len(run.photos.classes))
    if config.weights == "run" and not goes_on:
        model, _ = load_model(run.stage_folder("train"))
        start_from(network, model.backbone, model.class_tokens().mean(dim=1, keepdim=True))
    mask_of, photos = training_masks(run)
    for number in range(1, config.rounds):
        place = folder / ROUNDS / str(number)
        if (place / WEIGHTS).is_file():
            network = load_segmenter(place).network
        else:
            fit_round(run, network, photos, mask_of, place, warm=goes_on or number > 1)
            (place / STATE).unlink()  # nobody trains it for more epochs
        mask_of = own_masks(run, network, photos, mask_of, folder / ROUNDS / str(number + 1))
    fitted = fit_round(run, network, photos, mask_of, folder, warm=goes_on or config.rounds > 1)
    trained = load_segmenter(folder)
    save_segmenter(folder, replace(trained, tag_thresholds=thresholds_of(trained, run)))
    return SegmentResult(run.photos.classes, len(photos), describe(network, config), fitted)


def fit_round(
    run: Run, network: Segmenter, photos: Sequence[Photo], mask_of: MaskOf, folder: Path, warm: bool
) -> FitResult:
    """Train the network once on masks, and write it into a folder.

    Args:
        run: The run.
        network: The network, trained in place.
        photos: Photos to learn from.
        mask_of: Their masks.
        folder: Gets the network, and what `fit` writes.
        warm: Whether it knows something already.
    """
    config = segment_config(run.config)
    reviewed = None if config.masks else partial(reviewed_pixels, run.review)  # other masks hold no review
    if reviewed and not any(reviewed(photo) is not None for photo in photos):
        reviewed = None
    learn = _learn_patches if config.network == "vit-mlp" else _learn_crops
    fitted = learn(run, network, photos, mask_of, reviewed, folder, warm)
    save_segmenter(folder, TrainedSegmenter(network.cpu(), config, run.config.predict, run.photos.classes))
    return fitted


def thresholds_of(trained: TrainedSegmenter, run: Run) -> dict[str, float]:
    """Class -> what its score must exceed, by the tags of photos not trained on: the best F1.

    A network that names things pixel by pixel finds a little of many classes; tags of photos tell how much is nothing.
    Classes of too few such photos get no threshold.
    """
    held_out = run.photos.lists["val"]
    if len(held_out) < ENOUGH_HELD_OUT:
        return {}
    network, settings = trained.network.to(default_device()), trained.inference(run.config.predict)
    photos = track(held_out, "thresholds", console=Console(stderr=True))
    scores = [look_at(network, [photo.load()], settings)[0].scores for photo in photos]
    return certain_thresholds(torch.stack(scores), held_out, trained.classes)


def _learn_crops(
    run: Run,
    network: Segmenter,
    photos: Sequence[Photo],
    mask_of: MaskOf,
    reviewed: ReviewedOf | None,
    folder: Path,
    warm: bool,
) -> FitResult:
    """Train a network on random crops of photos."""
    config = segment_config(run.config)
    dataset = SegmentationDataset(
        photos, mask_of, len(run.photos.classes), config, network.mean, network.std, config.train.seed, reviewed
    )
    step = SegmentationStep(network)
    groups = step.parameter_groups(config.train)
    return fit(step, dataset, config.train, folder, groups, run.config.runtime, title="segment", warm=warm)


def _learn_patches(
    run: Run,
    network: Segmenter,
    photos: Sequence[Photo],
    mask_of: MaskOf,
    reviewed: ReviewedOf | None,
    folder: Path,
    warm: bool,
) -> FitResult:
    """Train the decoder of a `vit-mlp` on features that are computed once."""
    assert isinstance(network, ViTSegmenter)
    config, runtime, window = segment_config(run.config), run.config.runtime, run.config.predict.window
    network.to(default_device())
    features = frozen_features(network, photos, config.long_side, window, runtime)
    dataset = patch_dataset(photos, features, mask_of, len(run.photos.classes), config, reviewed)
    step = PatchStep(network.cpu(), dataset, config.balance, fresh=not warm)
    settings = replace(config.train, epochs=config.train.epochs or dataset.epochs(config.train.batch_size, warm))
    fitted = fit(step, dataset, settings, folder, step.parameter_groups(config), runtime, title="segment")
    fit_tag_head(step.decoder, dataset, photos, run.photos.classes)
    return fitted


def forget_outdated(run: Run) -> None:
    """Remove predictions that other settings of `predict` made; thresholds of tags are found by those of now.

    The masks know by themselves what they were made with (`kept_records`).
    """
    folder, config, now = run.stage_folder("segment"), run.config.segment, run.config.predict
    then = from_json(PredictConfig, read_object(folder / CONFIG)["predict"], folder / CONFIG)
    others = inference(config, then) != inference(config, now)  # by which the scores of tags are found, too
    made = [path.name for path in run.predictions().parent.glob("*") if path.is_dir()]
    outdated = [name for name in made if others or inference(config, then, name) != inference(config, now, name)]
    remove_folders(folder, [run.predictions(name) for name in outdated])
    if others or outdated:
        trained = replace(load_segmenter(folder), predict=now)
        save_segmenter(folder, replace(trained, tag_thresholds=thresholds_of(trained, run)) if others else trained)


def predict_missing(run: Run) -> None:
    """Make the masks that are missing, and the predictions, by every variant, of the photos of `predict.lists`."""
    forget_outdated(run)
    photos = run.listed(run.config.predict.lists)
    todo = {
        variant: split_by_file(photos, [run.prediction(photo, variant) for photo in photos])[1]
        for variant in run.config.predict.variants
    }
    records = kept_records(run)
    unmade = [photo for photo in run.photos.photos() if photo.id not in records]
    if not unmade and not any(todo.values()):
        return
    trained = load_segmenter(run.stage_folder("segment"))
    network = trained.network.to(default_device())
    first, *others = run.config.predict.variants
    make_masks(run, network, trained.inference(run.config.predict, first), unmade, todo[first])
    for variant in others:
        settings = trained.inference(run.config.predict, variant)
        predict_folder(network, photos, run.predictions(variant), settings, run.config.data.max_pixels)
    for stage in ("masks", "segment"):
        seal(run.stage_folder(stage))


def segment_config(config: Config) -> SegmentConfig:
    """`config.segment`; with the weights of the run's network comes that one's geometry."""
    if config.segment.weights != "run":
        return config.segment
    geometry = ("backbone", "embed_dim", "depth", "num_heads", "patch_size", "stem")
    return replace(config.segment, **{name: getattr(config.model, name) for name in geometry})


def build(config: Config, num_classes: int) -> Segmenter:
    """The network before training; the weights of the run's network, if they are wanted, are not in it yet.

    Raises:
        ValueError: if it cannot be built.
    """
    settings = segment_config(config)
    if settings.weights == "run":
        settings = replace(settings, weights="none")
    return build_segmenter(settings, num_classes, settings.train.recompute)


def training_masks(run: Run) -> tuple[MaskOf, Sequence[Photo]]:
    """How to get a photo's mask to learn from, and the photos that have one and were not rejected in a review.

    Raises:
        ValueError: if masks are missing, or were made for other classes.
    """
    left_out = rejected(run.review)
    photos = tuple(photo for photo in run.photos.lists["train"] if photo.id not in left_out)
    classes = run.photos.classes
    if run.config.segment.masks == "real":
        return real_mask, photos
    folder = Path(run.config.segment.masks or run.pseudo_masks)
    manifest = read_manifest(folder) or read_manifest(folder.parent)  # pseudo-masks lie within their stage's folder
    if manifest is not None:
        check_classes_agree(manifest["result"]["classes"], classes, f"The masks in {folder}")
    source = MaskFolder(folder, len(classes))
    return source, source.covered(photos, run.config.runtime.allow_missing)


def _joined_by(config: Config) -> dict[str, Any]:
    """What a further round depends on besides: how the network predicts, and how that is joined with masks."""
    if config.segment.rounds == 1:
        return {}
    return {
        "inference": to_json(inference(config.segment, config.predict)),
        "pseudo_weight": config.predict.pseudo_weight,
    }


def _sections(config: SegmentConfig) -> tuple[str, ...]:
    """The sections that the segmenter depends on, by where its masks and weights come from."""
    if not config.masks:
        before: tuple[str, ...] = ("data", "model", "method", "train", "seeds", "masks")
    elif config.weights == "run":
        before = ("data", "model", "method", "train")
    else:
        before = ("data",)
    return (*before, "segment")
