"""A trained segmenter as a folder: `config.json` and `model.safetensors`."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import safetensors.torch

from cti.config import PredictConfig, SegmentConfig
from cti.files import atomic_path, from_json, read_object, to_json, write_json
from cti.method.weights import read_state_dict, refuse_larger, refuse_non_finite
from cti.segment.inference import Inference, inference
from cti.segment.networks import Segmenter, build_segmenter

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class TrainedSegmenter:
    """A trained segmenter and how it is used.

    Args:
        network: The network, in eval mode.
        config: What it is.
        predict: How it predicts.
        classes: The C foreground classes.
        tag_thresholds: Class -> what its score must exceed for it to be in a photo without tags; classes that are not
            named have none.
    """

    network: Segmenter
    config: SegmentConfig
    predict: PredictConfig
    classes: tuple[str, ...]
    tag_thresholds: dict[str, float] = field(default_factory=dict)

    def inference(self, predict: PredictConfig | None = None, variant: str = "") -> Inference:
        """How it predicts where no tags are known, by its own settings or others."""
        limits = tuple(self.tag_thresholds.get(name, -1.0) for name in self.classes) if self.tag_thresholds else ()
        return replace(inference(self.config, predict or self.predict, variant), limits=limits)


def save_segmenter(folder: Path | str, trained: TrainedSegmenter) -> None:
    """Write the network so that `load_segmenter` needs nothing else, atomically."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in trained.network.state_dict().items()}
    with atomic_path(Path(folder) / WEIGHTS) as temporary:
        safetensors.torch.save_file(state, temporary)
    description = {"classes": trained.classes, "segment": to_json(trained.config), "predict": to_json(trained.predict)}
    description["tag_thresholds"] = trained.tag_thresholds
    write_json(Path(folder) / CONFIG, {"type": "segmenter", **description})


def load_segmenter(folder: Path | str) -> TrainedSegmenter:
    """Read what `save_segmenter` wrote, to the CPU; no hub is asked.

    Raises:
        ValueError: if the folder holds no segmenter, or one that is damaged or of another version.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} holds no trained segmenter ({CONFIG}, {WEIGHTS}); run `cti segment` first.")
    description = read_object(folder / CONFIG)
    if description.get("type") != "segmenter":
        raise ValueError(f"{folder / CONFIG} describes a '{description.get('type')}', not a segmenter.")
    try:
        classes = from_json(tuple[str, ...], description["classes"], folder / CONFIG)
        config = from_json(SegmentConfig, description["segment"], folder / CONFIG)
        thresholds = from_json(dict[str, float], description.get("tag_thresholds") or {}, folder / CONFIG)
        refuse_larger(config, folder / WEIGHTS)
        predict = from_json(PredictConfig, description["predict"], folder / CONFIG)
        network = build_segmenter(replace(config, weights="none"), len(classes))
        network.load_state_dict(read_state_dict(folder / WEIGHTS))
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"The network in {folder} is not one of this version of cti ({error}).") from error
    refuse_non_finite(network, folder / WEIGHTS)
    return TrainedSegmenter(network.eval(), config, predict, classes, thresholds)
