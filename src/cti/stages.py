"""What all stages share: a folder each, finished when its manifest is there, never mixed with other settings."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cti.config import Config
from cti.files import MANIFEST, read_json, read_manifest, write_json, write_manifest, write_text
from cti.settings import CONFIG_FILE, dump_config

logger = logging.getLogger(__name__)

SETTINGS = "stage.json"

# Where things lie, how many processes read them and what is merely shown or added does not change a result.
_IRRELEVANT = {
    "data": ("root",),
    "train": ("workers", "devices", "accelerator", "checkpoint_every"),
    "segment_train": ("workers", "devices", "accelerator", "checkpoint_every"),
    "seeds": ("batch_size",),
    "refine": ("preview", "allow_missing"),
    "segment": ("lists", "variants"),
}


def settings_of(config: Config, sections: Iterable[str], **more: Any) -> dict[str, Any]:
    """The settings that a stage's result depends on, as JSON."""
    settings = {}
    for section in sections:
        fields = asdict(getattr(config, section))
        settings[section] = {name: fields[name] for name in fields if name not in _IRRELEVANT.get(section, ())}
    return _as_json({**settings, **more})


def run_stage(
    config: Config,
    name: str,
    settings: dict[str, Any],
    body: Callable[[Path], dict[str, Any]],
    *,
    repeatable: bool = False,
    redo: bool = False,
) -> dict[str, Any]:
    """Run one stage in `<config.out>/<name>`, unless it has been run.

    Args:
        config: The whole configuration; it is written beside the result.
        name: Of the stage and its folder.
        settings: From `settings_of`: what the result depends on.
        body: Does the work in the folder, resuming what an earlier sitting left there; returns the result.
        repeatable: A cheap stage, which is simply done again when its settings change.
        redo: Call `body` even if the stage is finished: something is to be added to it, its time to the time taken.

    Returns:
        The result, new or from the manifest.

    Raises:
        ValueError: if the folder holds work done with other settings.
    """
    folder = Path(config.out) / name
    known = _with_new_settings(read_json(folder / SETTINGS)) if (folder / SETTINGS).is_file() else None
    if known is not None and known != settings and not repeatable:
        changed = "; ".join(_differences(known, settings))
        raise ValueError(
            f"{folder} was made with other settings ({changed}). Choose another --out, or remove the folder."
        )
    manifest = read_manifest(folder)
    if manifest is not None and known == settings and not redo:
        logger.info("%s: finished before, taken from %s", name, folder)
        result: dict[str, Any] = manifest["result"]
        return result
    if known != settings:  # before they are written: else a kill would leave an old result that seems to be theirs
        (folder / MANIFEST).unlink(missing_ok=True)
    write_text(folder / CONFIG_FILE, dump_config(config))
    write_json(folder / SETTINGS, settings)
    write_text(Path(config.out) / CONFIG_FILE, dump_config(config))
    before = manifest.get("seconds", 0) if manifest and known == settings else 0
    started = time.perf_counter()
    result = body(folder)
    seconds = round(before + time.perf_counter() - started, 1)
    write_manifest(folder, result, stage=name, seed=config.train.seed, seconds=seconds)
    return result


def _with_new_settings(known: dict[str, Any]) -> dict[str, Any]:
    """Stored settings: with the defaults of those an earlier version did not have, without those it alone minded."""
    defaults = settings_of(Config(), [section for section in known if section in Config.__dataclass_fields__])
    now = {
        section: {name: known[section].get(name, default) for name, default in fields.items()}
        for section, fields in defaults.items()
    }
    return {**known, **now}


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted({*old, *new})
            for line in _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if old == new else [f"{path}: {old!r} there, {new!r} now"]


def _as_json(value: Any) -> Any:
    """The value as it comes back from a JSON file, so that settings compare equal to stored ones."""
    if isinstance(value, dict):
        return {str(key): _as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(inner) for inner in value]
    return value
