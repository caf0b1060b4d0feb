"""A stage whose settings or photos have changed: what is different, what becomes of it, and how that is said.

The rules, stage by stage, are in docs/architecture.md ("A run can be changed").
"""

import json
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

from cti.config import ONLY_TRAINING, Config
from cti.data.fingerprint import DataRecord, PhotoChange, compare_photos
from cti.files import JsonObject

Action = Literal["same", "keep", "by photo", "from weights", "more epochs", "again"]
"""What is to be done with a stage: nothing; keep its network though the photos are others; make the files of changed
photos; train on from its weights, on other photos; train on for more epochs, on the same; make it again."""

_IN_WORDS = {"network": "the network of train is another one", "truth": "the true masks are others"}
_EPOCHS = {"train": "train.epochs", "segment": "segment.train.epochs"}


@dataclass(frozen=True)
class Made:
    """What a stage's result was made from.

    Args:
        settings: Its settings, as JSON.
        photos: Its photos.
    """

    settings: JsonObject
    photos: DataRecord


@dataclass(frozen=True)
class History:
    """How a stage came about, beyond its settings.

    Args:
        taken_from: Run that it is taken from, as long as nothing in it was made here; it may be replaced unasked.
        kept_for: Digest of the photos for which its network was kept, although it was trained on others.
        changes: What was done to it, a sentence each.
    """

    taken_from: str = ""
    kept_for: str = ""
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """What differs from when a stage was made.

    Args:
        settings: Name of a setting -> its value then and now.
        photos: Which photos differ.
    """

    settings: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    photos: PhotoChange = field(default_factory=PhotoChange)

    def __bool__(self) -> bool:
        return bool(self.settings or self.photos)

    def is_review(self, said: Container[str]) -> bool:
        """Whether nothing differs but what a person said in the review, which says something about these photos."""
        others = replace(self.photos, reviewed=(), retagged=())
        followed = not self.settings or (self.photos and self.only_network)
        return bool(followed) and not others and all(photo in said for photo in self.photos.retagged)

    @property
    def only_network(self) -> bool:
        """Whether no setting differs but the network of `train`, which was made again for the stage before."""
        return self.settings.keys() == {"network"}

    def __str__(self) -> str:
        said = [_difference(name, then, now) for name, (then, now) in self.settings.items()]
        return "; ".join([*said, *([str(self.photos)] if self.photos else [])])


def compare(before: Made, now: Made, untrained: bool) -> Change:
    """What differs between what a stage was made from and what it would be made from now.

    Args:
        before: What it was made from.
        now: What it would be made from.
        untrained: Whether CTI is not trained, so that settings of its training make no difference.
    """
    # Settings that the version of then did not know are taken for today's defaults.
    usual = as_json(result_fields(Config()))
    then = {name: _completed(value, now.settings.get(name), usual.get(name)) for name, value in before.settings.items()}
    settings = _differences(then, now.settings)
    if untrained:
        settings = {name: pair for name, pair in settings.items() if not re.fullmatch(ONLY_TRAINING, name)}
    return Change(settings, compare_photos(before.photos, now.photos))


def more_epochs(stage: str, change: Change, manifest: Mapping[str, Any] | None) -> bool:
    """Whether a stage is only to be trained for more epochs, on the same photos."""
    if change.photos or stage not in _EPOCHS or set(change.settings) != {_EPOCHS[stage]}:
        return False
    then, now = change.settings[_EPOCHS[stage]]
    then = then or ((manifest or {}).get("result", {}).get("fit") or {}).get("epochs", 0)  # 0 = by the photos' number
    return 0 < int(then) < int(now)


def nothing_trained(manifest: Mapping[str, Any] | None) -> bool:
    """Whether the network of a stage `train` is its first look's, which is soon made again: no step was taken."""
    fit = (manifest or {}).get("result", {}).get("fit") or {}
    return fit.get("steps") == 0


def on_other_photos(stage: str, finished: bool, retrain: bool, affinity: bool, trained_stays: bool) -> Action:
    """What becomes of a stage of which only the photos have changed.

    Args:
        stage: Its name.
        finished: Whether it has finished.
        retrain: `runtime.retrain`.
        affinity: Whether masks are refined by an affinity that is learned from all of them.
        trained_stays: Whether the network of `train` stays, and its first look with it: it was trained, not just taken
            from the first look.
    """
    if stage == "seeds" or (stage == "masks" and not affinity):
        return "by photo"
    if retrain or not finished:
        return "again"
    if stage in ("first_look", "train") and trained_stays:
        return "keep"
    return "from weights" if stage == "segment" else "again"


def sentence(stage: str, action: Action, change: Change, remade: int) -> str:
    """Say what has changed and what is done about it.

    Args:
        stage: The stage.
        action: What is done.
        change: What has changed.
        remade: Photos whose files are made.
    """
    done = {
        "keep": "the network stays as it is (--retrain trains it again)",
        "by photo": f"{stage} of {remade} {'photo' if remade == 1 else 'photos'} are made, the others stay",
        "from weights": "the segmenter goes on from its weights (--retrain begins anew)",
        "more epochs": "training goes on",
    }
    return f"{change}: {done.get(action, 'made again')}"


def result_fields(section: Any) -> JsonObject:
    """The fields of a section that its result depends on, nested sections included."""
    return {
        item.name: result_fields(value) if is_dataclass(value := getattr(section, item.name)) else value
        for item in fields(section)
        if item.metadata.get("changes_result", True)
    }


def as_json(value: Any) -> Any:
    """The value as it comes back from a JSON file, so that settings compare equal to stored ones."""
    return json.loads(json.dumps(value))


def _difference(name: str, then: Any, now: Any) -> str:
    """A setting that differs, in words where its values are digests or times."""
    if name in _IN_WORDS:
        return _IN_WORDS[name]
    if isinstance(then, dict) or isinstance(now, dict):
        return f"{name} is {'no longer' if isinstance(then, dict) else 'newly'} among the settings"
    section, _, stage = name.partition(".")
    return f"{stage} is a new one" if section == "made" else f"{name}: {then!r} there, {now!r} now"


def _completed(then: Any, now: Any, usual: Any) -> Any:
    """Settings of then with the defaults of those that only now has, section by section."""
    if not (isinstance(then, dict) and isinstance(now, dict) and isinstance(usual, dict)):
        return then
    new = {name: usual[name] for name in now if name not in then and name in usual}
    return new | {name: _completed(value, now.get(name), usual.get(name)) for name, value in then.items()}


def _differences(old: Any, new: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        return {
            name: pair
            for key in sorted({*old, *new})
            for name, pair in _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key).items()
        }
    return {} if old == new else {path: (old, new)}
