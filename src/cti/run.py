"""The folder of a run: where its files lie, which photos it has, which of its stages are finished.

Nobody else knows the layout:

    config.yaml             the configuration, resolved
    <stage>/config.yaml     the same, as it was when the stage ran
    <stage>/stage.json      the settings that the stage's result depends on
    <stage>/manifest.json   the result, seconds, versions; written last: a folder without it is unfinished
    seeds/<photo>.npz, seeds/predicted/<photo>.npz
    masks/<photo>.png       the result for every photo of the lists; masks/photos.jsonl, masks/photos.csv about each
    masks/pseudo/<photo>.png, masks/steps/<step>/<photo>.png, masks/preview/<photo>.png
    segment/predictions/<variant>/<photo>.png
    review/photos.jsonl, review/<photo>.png
    report.html
"""

import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from cti.config import Config
from cti.data import Photo, PhotoSet, read_photos
from cti.data.check import check_data, usable
from cti.data.check_report import CheckReport
from cti.data.fingerprint import fingerprint
from cti.data.review import read_entries, review_digest, with_reviewed_tags
from cti.files import MANIFEST, from_json, read_json, read_manifest, write_json, write_manifest, write_text
from cti.method.weights import named_backbone
from cti.settings import CONFIG_FILE, dump_config, load_config

logger = logging.getLogger(__name__)

T = TypeVar("T")

SETTINGS = "stage.json"
LOCK = ".lock"
REPORT = "report.html"
FOLDERS = ("first_look", "train", "seeds", "masks", "segment", "evaluate")
"""The stages that have a folder, in their order."""

_TRAIN = ("data", "model", "method", "train")
_SECTIONS = {
    "train": _TRAIN,
    "seeds": (*_TRAIN, "seeds"),
    "masks": (*_TRAIN, "seeds", "masks"),
    "segment": (*_TRAIN, "seeds", "masks", "segment"),
    "evaluate": ("data", "evaluate"),
}


class Run:
    """A run's configuration and its folder.

    Args:
        config: The configuration; the run lies in `config.out`.
    """

    def __init__(self, config: Config) -> None:
        self.config = fit_to_weights(config)
        self.folder = Path(config.out)

    @classmethod
    def open(cls, folder: Path | str) -> "Run":
        """Open a run where it lies, whatever its configuration says about that.

        Raises:
            ValueError: if the folder holds no configuration, or one of another version.
        """
        if not (Path(folder) / CONFIG_FILE).is_file():
            raise ValueError(f"{folder} is no run folder: it has no {CONFIG_FILE}; give the --out of `cti run`.")
        return cls(load_config(folder))

    # The photos.

    @cached_property
    def check(self) -> CheckReport:
        """What the check of the data found: every file was decoded once (the check is cached)."""
        data = self.config.data
        return check_data(self._all_photos, max_broken=data.max_broken, max_pixels=data.max_pixels)

    @cached_property
    def photos(self) -> PhotoSet:
        """The data set without its broken photos; read and checked once.

        Raises:
            ValueError: if more than `data.max_broken` of the photos are broken; the message lists them.
        """
        photo_set = with_reviewed_tags(usable(self._all_photos, self.check), read_entries(self.review))
        for note in photo_set.notes:
            logger.info("%s", note)
        return photo_set

    @cached_property
    def _all_photos(self) -> PhotoSet:
        return read_photos(self.config.data)

    def listed(self, names: Iterable[str]) -> list[Photo]:
        """The photos of some lists (`train`, `score`, `val`), each once."""
        return list({photo.id: photo for name in names for photo in self.photos.lists[name]}.values())

    # The files.

    def stage_folder(self, stage: str) -> Path:
        """The folder of a stage."""
        return self.folder / stage

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / REPORT

    @property
    def review(self) -> Path:
        """The folder of what a person said about the results (`cti.data.review`)."""
        return self.folder / "review"

    @property
    def predicted_seeds(self) -> Path:
        """The folder of the seeds that were made from predicted instead of given tags."""
        return self.folder / "seeds" / "predicted"

    def seed(self, photo: Photo) -> Path:
        """The seed file of a photo."""
        return self.folder / "seeds" / f"{photo.id}.npz"

    def mask(self, photo: Photo) -> Path:
        """The mask of a photo, which is the run's result: its pseudo-mask, until the segmenter is trained."""
        return self.folder / "masks" / f"{photo.id}.png"

    @property
    def pseudo_masks(self) -> Path:
        """The folder of the pseudo-masks."""
        return self.folder / "masks" / "pseudo"

    def pseudo_mask(self, photo: Photo) -> Path:
        """The pseudo-mask of a photo, which the segmenter learns from."""
        return self.pseudo_masks / f"{photo.id}.png"

    def preview(self, photo: Photo) -> Path:
        """The overlay of a photo's pseudo-mask."""
        return self.folder / "masks" / "preview" / f"{photo.id}.png"

    def step_masks(self, step: str) -> Path:
        """The folder of the masks after a refinement step (`seed`, `pamr`, `pamr+crf`, ...)."""
        return self.folder / "masks" / "steps" / step

    def predictions(self, variant: str = "") -> Path:
        """The folder of the segmenter's predictions by a variant; the first variant, which is the result, if empty."""
        return self.folder / "segment" / "predictions" / (variant or self.config.predict.variants[0])

    def prediction(self, photo: Photo, variant: str = "") -> Path:
        """The segmenter's prediction for a photo."""
        return self.predictions(variant) / f"{photo.id}.png"

    # The stages.

    def finished(self, stage: str) -> bool:
        """Whether a stage has finished."""
        return read_manifest(self.stage_folder(stage)) is not None

    def result(self, stage: str, kind: type[T]) -> T | None:
        """The result of a stage, or None if it has not finished.

        Raises:
            ValueError: if it was written by another version.
        """
        manifest = read_manifest(self.stage_folder(stage))
        if manifest is None:
            return None
        return from_json(kind, manifest["result"], self.stage_folder(stage) / MANIFEST)

    def settings(self, stage: str, sections: Sequence[str] = (), **more: Any) -> dict[str, Any]:
        """What a stage's result depends on, as JSON: its sections, its photos, and whatever else is named."""
        chosen = {name: _result_fields(getattr(self.config, name)) for name in sections or _SECTIONS[stage]}
        if stage in ("masks", "segment") and (review := review_digest(self.review)):
            more["review"] = review
        return _as_json({**chosen, "photos": fingerprint(self.photos, self.check), **more})

    @contextmanager
    def stage(self, name: str, sections: Sequence[str] = (), **more: Any) -> Iterator["Stage"]:
        """Work on a stage: the folder is locked, other settings are refused, and a failed start leaves nothing behind.

        Args:
            name: Name of the stage and of its folder.
            sections: Sections that its result depends on; the stage's usual ones if empty.
            more: Further things that its result depends on.

        Raises:
            ValueError: if the folder holds work done with other settings and `runtime.overwrite` is not set, or if
                another process works in this run.
        """
        settings = self.settings(name, sections, **more)
        folder = self.stage_folder(name)
        with self._locked():
            known = read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else None
            if known is not None and known != settings:
                self._make_way(name, known, settings)
            stage = Stage(self, name, folder, read_manifest(folder) if known == settings else None)
            if stage.finished:
                logger.info("%s: finished before, taken from %s", name, folder)
                yield stage
                return
            self._write_settings(folder, settings)
            try:
                yield stage
            except BaseException:
                self._clear_failed_start(folder)
                raise

    def _make_way(self, name: str, known: dict[str, Any], settings: dict[str, Any]) -> None:
        if name != "evaluate" and not self.config.runtime.overwrite:  # scores are cheap, and simply made again
            raise ValueError(
                f"{self.stage_folder(name)} was made with other settings ({'; '.join(_differences(known, settings))}). "
                "Choose another --out, or make it again with --overwrite."
            )
        logger.info("%s: made again, for its settings have changed", name)
        shutil.rmtree(self.stage_folder(name))

    def _write_settings(self, folder: Path, settings: dict[str, Any]) -> None:
        text = dump_config(self.config)
        write_text(folder / CONFIG_FILE, text)
        write_json(folder / SETTINGS, settings)
        write_text(self.folder / CONFIG_FILE, text)

    def _clear_failed_start(self, folder: Path) -> None:
        """Remove a stage's folder in which nothing was made yet, and the run's if it holds nothing else."""
        if {path.name for path in folder.iterdir()} <= {CONFIG_FILE, SETTINGS}:
            shutil.rmtree(folder)
        if {path.name for path in self.folder.iterdir()} <= {CONFIG_FILE, LOCK}:
            (self.folder / CONFIG_FILE).unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / LOCK)
        try:
            with lock.acquire(timeout=0):
                yield
        except Timeout as error:
            raise ValueError(
                f"Another process works in {self.folder}; wait for it, or choose another --out."
            ) from error
        finally:
            if not any(path.name != LOCK for path in self.folder.iterdir()):
                shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Stage:
    """A stage that is being worked on.

    Args:
        run: The run it belongs to.
        name: Name of the stage and of its folder.
        folder: The folder.
        manifest: What an earlier sitting finished with, or None.
    """

    run: Run
    name: str
    folder: Path
    manifest: dict[str, Any] | None

    def __post_init__(self) -> None:
        self.started = time.perf_counter()

    @property
    def finished(self) -> bool:
        """Whether an earlier sitting has finished it."""
        return self.manifest is not None

    def result(self, kind: type[T]) -> T:
        """The result with which an earlier sitting finished."""
        assert self.manifest is not None, f"{self.name} is not finished"
        return from_json(kind, self.manifest["result"], self.folder / MANIFEST)

    def finish(self, result: T) -> T:
        """Write the manifest, which says that the stage is finished, and hand the result on."""
        seconds = round(time.perf_counter() - self.started, 1)
        write_manifest(self.folder, result, stage=self.name, seed=self.run.config.train.seed, seconds=seconds)
        return result


def fit_to_weights(config: Config) -> Config:
    """The configuration with the backbone that its file of weights is of, and an image size that fits it.

    A file says itself what it is of, so nobody need name its backbone; what is changed is said.
    """
    model = config.model
    if model.weights in ("timm", "none") or model.backbone == "vit":
        return config
    named = named_backbone(model.weights)
    if named is None:
        return config
    name, patch = named
    side = max(round(model.image_size / patch), 1) * patch
    if name != model.backbone and not _same_geometry(name, model.backbone):
        logger.info("%s holds the weights of %s, which is taken instead of %s.", model.weights, name, model.backbone)
        model = replace(model, backbone=name)
    if side != model.image_size:
        logger.info("model.image_size %d becomes %d, a multiple of the patch.", model.image_size, side)
        model = replace(model, image_size=side)
    return replace(config, model=model)


def _same_geometry(name: str, other: str) -> bool:
    """Whether two of timm's names differ in their training only, such as deit_small_... and vit_small_..."""

    def geometry(backbone: str) -> tuple[bool, str]:
        return "dinov2" in backbone, "_".join(backbone.split(".")[0].split("_")[1:3])

    return geometry(name) == geometry(other)


def split_by_file(photos: Sequence[Photo], paths: Sequence[Path]) -> tuple[list[Photo], list[Photo]]:
    """The photos whose file is there, and the others.

    Args:
        photos: Photos.
        paths: For each of them the file that is looked for.
    """
    there = [photo for photo, path in zip(photos, paths, strict=True) if path.is_file()]
    return there, [photo for photo, path in zip(photos, paths, strict=True) if not path.is_file()]


def check_classes_agree(theirs: Sequence[str], ours: Sequence[str], what: str) -> None:
    """Check that something was made for the class list at hand.

    Raises:
        ValueError: if it was not; both lists are shown.
    """
    if tuple(theirs) != tuple(ours):
        raise ValueError(
            f"{what} knows the classes [{', '.join(theirs)}], but the data have [{', '.join(ours)}]; "
            "use the same data.classes in the same order."
        )


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few of a list of names, for a sentence."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _result_fields(section: Any) -> dict[str, Any]:
    """The fields of a section that its result depends on, nested sections included."""
    return {
        field.name: _result_fields(value) if is_dataclass(value := getattr(section, field.name)) else value
        for field in fields(section)
        if field.metadata.get("changes_result", True)
    }


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted({*old, *new})
            for line in _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    if path.startswith("review") and old != new:
        return ["masks were reviewed"]
    if path == "photos" and old != new:
        return ["the photos, their tags or lists have changed"]
    return [] if old == new else [f"{path}: {old!r} there, {new!r} now"]


def _as_json(value: Any) -> Any:
    """The value as it comes back from a JSON file, so that settings compare equal to stored ones."""
    if isinstance(value, dict):
        return {str(key): _as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(inner) for inner in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
