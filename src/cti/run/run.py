"""The folder of a run: where its files lie, which photos it has, which of its stages are finished.

Nobody else knows the layout:

    config.yaml             the configuration, resolved
    <stage>/config.yaml     the same, as it was when the stage ran
    <stage>/stage.json      the settings that the stage's result depends on
    <stage>/photos.json     the photos that it depends on: lists, tags, digests
    <stage>/history.json    what was done to it when settings or photos changed; only where they did
    <stage>/manifest.json   the result, seconds, versions, the files' digests; written last: a folder without it is
                            unfinished
    train/lists/<list>.txt  the split
    seeds/<photo>.npz, seeds/predicted/<photo>.npz
    masks/<photo>.png       the result for every photo of the lists; masks/photos.jsonl, masks/photos.csv about each
    masks/pseudo/<photo>.png, masks/steps/<step>/<photo>.png, masks/preview/<photo>.png
    segment/predictions/<variant>/<photo>.png; segment/before/: those of the round before
    review/photos.jsonl, review/<photo>.png
    report.html
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from cti.config import Config, spoken
from cti.data import Photo, PhotoSet, read_photos
from cti.data.check import check_data, usable
from cti.data.check_report import CheckReport
from cti.data.fingerprint import DataRecord, record_photos
from cti.data.review import read_entries, review_marks, with_reviewed_tags
from cti.files import MANIFEST, JsonObject, from_json, read_manifest, to_json, write_json, write_manifest, write_text
from cti.method.weights import fit_to_weights
from cti.run.changes import (
    Action,
    Change,
    History,
    Made,
    as_json,
    compare,
    more_epochs,
    nothing_trained,
    on_other_photos,
    result_fields,
    sentence,
)
from cti.run.stage_folder import (
    BEFORE,
    HISTORY,
    LISTS,
    PREDICTIONS,
    START,
    clear_failed_start,
    digests,
    keep_records,
    link_files,
    locked,
    make_way,
    read_history,
    read_made,
    read_split,
    seal,
    sweep,
    take_over,
    write_made,
)
from cti.settings import CONFIG_FILE, dump_config, load_config

logger = logging.getLogger(__name__)

T = TypeVar("T")

REPORT = "report.html"
REVIEW = "review"
FOLDERS = ("first_look", "train", "seeds", "masks", "segment", "evaluate")
"""The stages that have a folder, in their order."""
TAKEN = FOLDERS[:-1]
"""Those that are taken from another run; scores are simply made again."""

_TRAINED = ("train", "segment")
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
        taken_from: Folder of another run, whose finished stages are taken where they still fit.

    Raises:
        ValueError: if `taken_from` is no other run.
    """

    def __init__(self, config: Config, taken_from: Path | str | None = None) -> None:
        self.config = fit_to_weights(config)
        self.folder = Path(config.out)
        self.origin = Path(taken_from) if taken_from else None
        self.begins: Callable[[str], None] = lambda stage: None
        """Is called with a stage's name when something is to be done in it, for the first time or again."""
        self._known: set[str] = set()  # stages of which has been said that they are finished
        self._swept = False
        if self.origin and not (self.origin / CONFIG_FILE).is_file():
            raise ValueError(f"{self.origin} is no run folder: it has no {CONFIG_FILE}; give one to --from.")
        if self.origin and self.origin.resolve() == self.folder.resolve():
            raise ValueError(f"--from {self.origin} begins a new run, so give it a folder of its own with --out.")

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
        return check_data(self.all_photos, max_broken=data.max_broken, max_pixels=data.max_pixels)

    @cached_property
    def photos(self) -> PhotoSet:
        """The data set without its broken photos; read and checked once.

        Raises:
            ValueError: if more than `data.max_broken` of the photos are broken; the message lists them.
        """
        photo_set = with_reviewed_tags(usable(self.all_photos, self.check), read_entries(self.review))
        for note in photo_set.notes:
            logger.info("%s", note)
        return photo_set

    @cached_property
    def all_photos(self) -> PhotoSet:
        """The data set, unchecked; where its split is drawn, photos stay in the lists that the run had them in."""
        return read_photos(self.config.data, read_split(self.existing("train"), self.config.data))

    @cached_property
    def photo_record(self) -> DataRecord:
        """What results depend on of the photos."""
        return record_photos(self.photos, self.check)

    def _made(self, stage: str, sections: Sequence[str], more: Mapping[str, Any]) -> Made:
        """What a stage would be made from now."""
        reviews = review_marks(self.review) if stage in ("masks", "segment") else {}
        return Made(self.settings(stage, sections, **more), replace(self.photo_record, reviews=reviews))

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
        own = self.folder / REVIEW
        return own if own.is_dir() or self.origin is None else self.origin / REVIEW

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

    def predictions(self, variant: str = "", before: bool = False) -> Path:
        """The folder of the segmenter's predictions by a variant (default: the first), perhaps of the round before."""
        folder = self.folder / "segment" / (BEFORE if before else PREDICTIONS)
        return folder / (variant or self.config.predict.variants[0])

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

    def settings(self, stage: str, sections: Sequence[str] = (), **more: Any) -> JsonObject:
        """What a stage's result depends on besides its photos, as JSON.

        These are its sections, the classes, the network of `train` that came before, and whatever else is named.
        """
        sections = sections or _SECTIONS[stage]
        chosen: JsonObject = {name: result_fields(getattr(self.config, name)) for name in sections}
        if stage in ("seeds", "masks", "segment") and "train" in sections:
            trained = read_manifest(self.existing("train")) or {}
            chosen["network"] = trained.get("files", {}).get("model.safetensors")
        return as_json({**chosen, "classes": self.photos.classes, **more})

    def fits(self, name: str, sections: Sequence[str] = (), **more: Any) -> bool:
        """Whether a stage has finished and stays as it is, with these settings and photos. Arguments as for `stage`."""
        if read_manifest(self.existing(name)) is None:
            return False
        now = self._made(name, sections, more)
        return self._action(name, now)[0] in ("same", "keep")

    @contextmanager
    def stage(self, name: str, sections: Sequence[str] = (), **more: Any) -> Iterator["Stage"]:
        """Work on a stage: the folder is locked, changes are refused or seen to, a failed start leaves nothing behind.

        Args:
            name: Name of the stage and of its folder.
            sections: Sections that its result depends on; the stage's usual ones if empty.
            more: Further things that its result depends on.

        Raises:
            ValueError: if the folder holds work done with other settings or photos and `runtime.overwrite` is not set,
                or if another process works in this run.
        """
        now = self._made(name, sections, more)
        folder = self.stage_folder(name)
        new_run = not self.folder.exists()
        with locked(self.folder):
            if not self._swept:
                sweep(self.folder, FOLDERS)
                self._swept = True
            self._take_over()
            fresh = not folder.exists()
            action, change = self._action(name, now)
            if action != "same":
                self._see_to(name, action, change, now)
            stage = Stage(self, name, folder, read_manifest(folder))
            if stage.finished:
                if name not in self._known:
                    origin = read_history(folder).taken_from or folder
                    logger.info("%s: finished before, taken from %s", spoken(name), origin)
                self._known.add(name)
                yield stage
                return
            self.begins(name)
            self._begin(folder, now)
            try:
                yield stage
            except BaseException:
                clear_failed_start(folder, fresh, new_run)
                raise
            self._known.add(name)

    def existing(self, stage: str) -> Path:
        """The folder of a stage, or that of the run from which it will be taken."""
        folder = self.stage_folder(stage)
        if self.origin is None or folder.exists() or stage not in TAKEN:
            return folder
        other = self.origin / stage
        return other if (other / MANIFEST).is_file() else folder

    def _take_over(self) -> None:
        if self.origin is not None:
            for leftover in self.folder.glob(".taking.*"):
                shutil.rmtree(leftover)
            for name in TAKEN:
                take_over(self.origin / name, self.stage_folder(name), self.origin)
            if not (self.folder / CONFIG_FILE).is_file():
                self._write_config(self.folder)
            if self.review == self.origin / REVIEW and self.review.is_dir():
                link_files(self.review.iterdir(), self.review, self.folder / REVIEW)

    def _action(self, name: str, now: Made) -> tuple[Action, Change]:
        """What is to be done with a stage before it can be worked on, and why."""
        folder = self.existing(name)
        before = read_made(folder)
        change = compare(before, now, self.config.look_is_enough) if before else Change()
        if not change:
            return "same", change
        manifest = read_manifest(folder)
        untrained = nothing_trained(read_manifest(self.existing("train")))
        # Another first look is a matter of a minute; the segmenter goes on from its weights all the same.
        goes_on = name == "segment" and untrained and bool(change.photos) and change.only_network
        if change.settings and not goes_on:
            return ("more epochs" if more_epochs(name, change, manifest) else "again"), change
        begun = manifest is not None or (folder / START).is_dir()  # a segmenter that was going on is killed
        affinity = "affinity" in self.config.masks.steps
        stays = not untrained and (name == "train" or (name == "first_look" and self.fits("train")))
        action = on_other_photos(name, begun, self.config.runtime.retrain, affinity, stays)
        if action == "keep" and read_history(folder).kept_for == now.photos.digest:
            return "same", Change()
        return action, change

    def _see_to(self, name: str, action: Action, change: Change, now: Made) -> None:
        """Do what a change asks for, if it may be done, and say so."""
        history = read_history(folder := self.stage_folder(name))
        # Scores are cheap, what is another run's lies there as well, and a review is there to be learned from.
        dear = action == "again" and name in _TRAINED and not nothing_trained(read_manifest(folder))
        learns = change.is_review(read_entries(self.review)) and not dear
        if not (name == "evaluate" or history.taken_from or learns or self.config.runtime.overwrite):
            raise ValueError(
                f"{folder} was made with other {'settings' if change.settings else 'photos'} ({change}). Begin a new "
                f"run with what fits (`--from {self.folder} --out NEW`), or make again here what does not: --overwrite."
            )
        lists = self.config.seeds.lists if name == "seeds" else ("train", "score", *self.config.seeds.lists)
        remade = change.photos.remade.intersection(photo.id for photo in self.listed(lists))
        said = sentence(name, action, change, len(remade))
        logger.info("%s: %s", spoken(name), said)
        if action == "keep":
            if name == "train":
                self.photos.write_lists(folder / LISTS)
            kept = History(history.taken_from, now.photos.digest, (*history.changes, said))
            write_json(folder / HISTORY, to_json(kept))
            seal(folder)
            self._known.add(name)
            return
        if name == "masks" and action == "again":
            keep_records(folder, self.predictions())  # which are those of before in a moment
        make_way(folder, action, change)
        if action != "again":
            write_json(folder / HISTORY, to_json(History(changes=(*history.changes, said))))

    def _begin(self, folder: Path, now: Made) -> None:
        self._write_config(folder)
        write_made(folder, now)
        self._write_config(self.folder)

    def _write_config(self, folder: Path) -> None:
        unasked = replace(self.config.runtime, overwrite=False, retrain=False)  # asked for once, not for ever
        write_text(folder / CONFIG_FILE, dump_config(replace(self.config, runtime=unasked)))


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
    manifest: JsonObject | None

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
        write_manifest(
            self.folder, result, stage=self.name, seed=self.run.config.train.seed, seconds=seconds,
            files=digests(self.folder),
        )  # fmt: skip
        shutil.rmtree(self.folder / START, ignore_errors=True)
        return result
