"""Everything a run folder holds, collected; a run may be unfinished, without truth, or moved away from its photos."""

import json
import logging
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from cti.config import Config
from cti.data import PhotoSet, read_photos
from cti.data.check import check_data, usable
from cti.evaluate.scores import ListScores, RunScores
from cti.evaluate.tags import TagScores, read_tags
from cti.files import MANIFEST, JsonObject, from_json, read_manifest
from cti.method.checkpoint import CONFIG, WEIGHTS
from cti.run.stage_folder import read_split
from cti.settings import CONFIG_FILE, load_config
from cti.train.fit import METRICS

logger = logging.getLogger(__name__)

STAGES = ("train", "seeds", "masks", "segment", "evaluate")


@dataclass(frozen=True)
class Costs:
    """What a stage's work took, as far as it says so.

    Args:
        images_per_second: Photos a second, measured by the stage itself.
        peak_memory_gb: Most memory at a time, in GB.
        waited: Share of the time that was spent on waiting for photos.
        written: Photos that seeds were made of.
        made: Photos that masks were made of.
    """

    images_per_second: float | None = None
    peak_memory_gb: float | None = None
    waited: float | None = None
    written: int | None = None
    made: int | None = None


@dataclass(frozen=True)
class Manifest:
    """What a finished stage left.

    Args:
        result: The stage's result as JSON.
        seconds: Time it took.
        finished: Date and time, ISO 8601.
        versions: Library -> its version.
        machine: What it ran on.
    """

    result: JsonObject
    seconds: float | None = None
    finished: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str | int | None] = field(default_factory=dict)

    @property
    def costs(self) -> Costs:
        """What its work took."""
        return from_json(Costs, self.result | (self.result.get("fit") or {}), MANIFEST)

    @property
    def photos_per_second(self) -> float | None:
        """Speed: measured by the stage itself, or else over all of its time."""
        costs = self.costs
        photos = costs.written if costs.written is not None else costs.made
        if costs.images_per_second is not None or not photos or not self.seconds:
            return costs.images_per_second
        return photos / self.seconds


@dataclass(frozen=True)
class RunFolder:
    """What is known about a run; parts that are absent are empty or None.

    Args:
        path: The folder.
        name: What to call the run.
        config_text: `config.yaml` as it is.
        config: The same, checked; None if it is absent or of another version.
        manifests: Manifests of the finished stages by name.
        scores: List -> its scores.
        tags: Scores of the tags on photos not trained on.
        unfinished: Stages that were begun and not finished.
        metrics: Logged lines of `train` and `segment`.
        photo_set: The photos, without broken ones, if they are still where they were.
        notes: Sentences about the data: what was left out, what looks wrong, what could not be read.
    """

    path: Path
    name: str
    config_text: str
    config: Config | None
    manifests: dict[str, Manifest]
    scores: dict[str, ListScores]
    tags: TagScores | None
    unfinished: tuple[str, ...]
    metrics: dict[str, tuple[dict[str, float], ...]]
    photo_set: PhotoSet | None
    notes: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Foreground classes, from the photos or whichever stage names them; empty if nobody does."""
        if self.photo_set is not None:
            return self.photo_set.classes
        named = (manifest.result.get("classes") for manifest in self.manifests.values())
        return tuple(next((classes for classes in named if classes), ()))

    @property
    def has_model(self) -> bool:
        """Whether there is a trained network to look into."""
        return (self.path / "train" / CONFIG).is_file() and (self.path / "train" / WEIGHTS).is_file()

    @property
    def segmentation_folder(self) -> Path:
        """Predictions of the segmenter's first variant."""
        variant = self.config.predict.variants[0] if self.config is not None else "single"
        return self.path / "segment" / "predictions" / variant

    def settings(self) -> dict[str, object]:
        """The configuration as one flat dict, `train.lr` -> 0.0001; empty if it could not be read."""
        return {} if self.config is None else _flat(asdict(self.config))


def read_run(path: Path | str) -> RunFolder:
    """Collect a run.

    Raises:
        ValueError: if the folder holds neither a configuration nor a stage.
    """
    folder = Path(path).resolve()
    begun = tuple(stage for stage in STAGES if (folder / stage).is_dir())
    config_path = folder / CONFIG_FILE
    if not begun and not config_path.is_file():
        raise ValueError(f"{folder} is no run folder: it has neither {CONFIG_FILE} nor any of {', '.join(STAGES)}.")
    manifests = {
        stage: from_json(Manifest, manifest, folder / stage / MANIFEST)
        for stage in begun
        if (manifest := read_manifest(folder / stage)) is not None
    }
    notes: list[str] = list(manifests["train"].result.get("notes", [])) if "train" in manifests else []
    scores, tags = _scores(folder, manifests, notes)
    config = _config(config_path, notes)
    photo_set = None if config is None else _photos(folder, config, notes)
    return RunFolder(
        path=folder,
        name=folder.name,
        config_text=config_path.read_text(encoding="utf-8") if config_path.is_file() else "",
        config=config,
        manifests=manifests,
        scores=scores,
        tags=tags,
        unfinished=tuple(stage for stage in begun if stage not in manifests),
        metrics={stage: lines for stage in ("train", "segment") if (lines := read_metrics(folder / stage / METRICS))},
        photo_set=photo_set,
        notes=tuple(dict.fromkeys(notes)),
    )


def read_metrics(path: Path) -> tuple[dict[str, float], ...]:
    """Lines of a `metrics.jsonl`; a last line cut short, because the run is still writing, is left out."""
    if not path.is_file():
        return ()
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            logger.warning("%s has a broken line, which is left out: %.60s", path, line)
    return tuple(lines)


def _scores(
    folder: Path, manifests: dict[str, Manifest], notes: list[str]
) -> tuple[dict[str, ListScores], TagScores | None]:
    try:
        lists = {}
        if "evaluate" in manifests:
            lists = from_json(RunScores, manifests["evaluate"].result, folder / "evaluate" / MANIFEST).lists
        return lists, read_tags(folder / "train")
    except ValueError as error:
        notes.append(f"The scores are not ones of this version, so none are shown: {error}")
        return {}, None


def _config(path: Path, notes: list[str]) -> Config | None:
    if not path.is_file():
        return None
    try:
        return load_config(path)
    except (ValueError, TypeError) as error:
        notes.append(f"The configuration is not one of this version, so photos are not shown: {error}")
        return None


def _photos(folder: Path, config: Config, notes: list[str]) -> PhotoSet | None:
    """The photos as training takes them. The check is quick: what it found before is cached."""
    try:
        photo_set = read_photos(config.data, read_split(folder / "train", config.data))
        report = check_data(photo_set, max_broken=config.data.max_broken, max_pixels=config.data.max_pixels)
        photo_set = usable(photo_set, report, max_broken=1)
    except (ValueError, OSError) as error:
        notes.append(f"The photos cannot be read, so none are shown: {error}")
        return None
    notes.extend(photo_set.notes)  # they name the broken ones
    notes.extend(replace(report, broken={}, bad_masks={}).problems)
    return photo_set


def _flat(value: JsonObject, path: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, inner in value.items():
        name = f"{path}.{key}" if path else str(key)
        flat |= _flat(inner, name) if isinstance(inner, dict) else {name: inner}
    return flat
