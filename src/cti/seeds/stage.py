"""The stage `seeds`: class activation maps of the tagged classes."""

from dataclasses import dataclass

from cti.device import default_device
from cti.method import CTI
from cti.method.checkpoint import load_model
from cti.run import Run, check_classes_agree
from cti.seeds.extract import extract_seeds
from cti.train.allocator import keep_freed_memory
from cti.train.tagging import with_predicted_tags


@dataclass(frozen=True)
class SeedsResult:
    """What an extraction did.

    Args:
        classes: The C foreground classes.
        kinds: Kinds of maps in the files; the first is the one that later stages use.
        photos: Photos that have a seed.
    """

    classes: tuple[str, ...]
    kinds: tuple[str, ...]
    photos: int


def seeds(run: Run, official: str = "") -> SeedsResult:
    """Extract class activation maps of the tagged classes: seeds/<photo>.npz.

    Args:
        run: The run.
        official: A checkpoint in the CTI authors' names to use instead of the run's own network.
    """
    config = run.config.seeds
    with run.stage("seeds", official=official) as stage:
        if stage.finished:
            return stage.result(SeedsResult)
        thresholds: dict[str, float] = {}
        if official:
            model = CTI.from_official(official, run.photos.classes)
        else:
            model, description = load_model(run.stage_folder("train"))
            check_classes_agree(model.classes, run.photos.classes, f"The network in {run.stage_folder('train')}")
            thresholds = description.get("tag_thresholds", {})
        device = default_device()
        if device.type == "cpu":
            keep_freed_memory()
        model.to(device)

        photos = run.listed(config.lists)
        extract_seeds(model, photos, config, stage.folder, run.config.runtime)
        if config.predicted_tags:
            untagged = run.listed(config.predicted_tags)
            guessed = with_predicted_tags(model, untagged, thresholds, config, run.config.runtime)
            extract_seeds(model, guessed, config, run.predicted_seeds, run.config.runtime)
        return stage.finish(SeedsResult(run.photos.classes, config.kinds, len(photos)))
