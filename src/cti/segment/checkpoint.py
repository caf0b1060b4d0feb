"""A trained segmenter as a folder: `config.json` and `model.safetensors`."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import safetensors.torch

from cti.config import SegmentConfig
from cti.files import atomic_path, read_json, write_json
from cti.method.weights import read_state_dict, refuse_non_finite
from cti.segment.networks import Segmenter, build_segmenter

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def save_segmenter(folder: Path | str, network: Segmenter, config: SegmentConfig, classes: Sequence[str]) -> None:
    """Write the network so that `load_segmenter` needs nothing else, atomically."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with atomic_path(Path(folder) / WEIGHTS) as temporary:
        safetensors.torch.save_file(state, temporary)
    write_json(Path(folder) / CONFIG, {"type": "segmenter", "classes": list(classes), "segment": asdict(config)})


def load_segmenter(folder: Path | str) -> tuple[Segmenter, SegmentConfig, tuple[str, ...]]:
    """Read what `save_segmenter` wrote; no hub is asked.

    Returns:
        The network on the CPU in eval mode, its configuration and its classes.

    Raises:
        ValueError: if the folder holds no segmenter, or one that is damaged or of another version.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} holds no trained segmenter ({CONFIG}, {WEIGHTS}); run `cti segment` first.")
    facts = read_json(folder / CONFIG)
    if facts.get("type") != "segmenter":
        raise ValueError(f"{folder / CONFIG} describes a '{facts.get('type')}', not a segmenter.")
    try:
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in facts["segment"].items()
        }
        config = SegmentConfig(**fields)
        network = build_segmenter(replace(config, weights="none"), len(facts["classes"]))
        network.load_state_dict(read_state_dict(folder / WEIGHTS))
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"The network in {folder} is not one of this version of cti ({error}).") from error
    refuse_non_finite(network, folder / WEIGHTS)
    return network.eval(), config, tuple(facts["classes"])
