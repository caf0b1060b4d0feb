"""A trained CTI network as a folder: `config.json` and `model.safetensors`, the Hugging Face way."""

from dataclasses import asdict, replace
from pathlib import Path

import safetensors.torch

from cti.config import ModelConfig
from cti.files import JsonObject, atomic_path, from_json, read_object, write_json
from cti.method import CTI
from cti.method.weights import read_state_dict, refuse_larger, refuse_non_finite

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def save_model(folder: Path | str, model: CTI, facts: JsonObject | None = None) -> None:
    """Write the network so that `load_model` needs nothing else, atomically.

    Args:
        folder: Made if absent.
        model: The network.
        facts: Further entries of `config.json`, e.g. tag thresholds.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(Path(folder) / WEIGHTS) as temporary:
        safetensors.torch.save_file(state, temporary)
    shared = replace(model.config, weights=Path(model.config.weights).name)  # no paths of this machine
    write_json(
        Path(folder) / CONFIG, {"type": "cti", "classes": model.classes, "model": asdict(shared), **(facts or {})}
    )


def load_model(folder: Path | str) -> tuple[CTI, JsonObject]:
    """Read a network that `save_model` wrote; no hub is asked.

    Returns:
        The network on the CPU in eval mode, and the whole of `config.json`.

    Raises:
        ValueError: if the folder holds no such network, or one that is damaged or of another version.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} holds no trained network ({CONFIG}, {WEIGHTS}); run `cti train` first.")
    facts = read_object(folder / CONFIG)
    if facts.get("type") != "cti":
        raise ValueError(f"{folder / CONFIG} describes a '{facts.get('type')}', not a CTI network.")
    try:
        config = from_json(ModelConfig, facts["model"], folder / CONFIG)
        refuse_larger(config, folder / WEIGHTS)
        classes = from_json(tuple[str, ...], facts["classes"], folder / CONFIG)
        model = CTI.from_config(classes, replace(config, weights="none"))
        model.config = config
        model.load_state_dict(read_state_dict(folder / WEIGHTS))
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"The network in {folder} is not one of this version of cti ({error}).") from error
    refuse_non_finite(model, folder / WEIGHTS)
    return model.eval(), facts
