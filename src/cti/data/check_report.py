"""What a data check found, and how it reads."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from rich.console import Console

from cti.data.photos import dropped_sentence
from cti.files import JsonObject
from cti.tables import Table, row, to_rich

FEW = 20
"""Photos of a class below which its masks are not to be trusted; a judgement, by runs with about 12 photos a class."""

_RARE = 2  # photos
_SHOWN = 5  # names in a sentence


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Args:
        lists: List name -> number of photos.
        classes: List name -> class -> photos with that tag.
        tags_per_image: Number of tags -> photos.
        broken: Photo id -> why it cannot be read (missing, truncated, no image, too large).
        bad_masks: Photo id -> why its mask cannot be used (missing, size, mode, unknown values).
        duplicates: Ids of photos whose files are identical, one tuple per content.
        leaks: Those of them that lie both in `train` and in `val`.
        dropped_tags: Tags that name no chosen class -> photos.
        notes: What the reader left out.
        num_photos: Photos looked at.
        num_masks: Masks looked at.
        num_trainable: Readable photos of `train`.
        max_broken: Share of broken photos, or of masks, above which training stops.
        num_positive: Readable photos of `train` that have a tag.
        contradictions: Why the masks cannot mean what they are taken for; training stops.
        doubts: What else is worth looking at in tags and masks, one sentence each.
        suggestions: Class that looks misspelt -> class that is probably meant.
        digests: Photo id -> SHA-256 (hex) of its file, for the readable ones.
        mask_digests: Photo id -> SHA-256 of its mask, for the sound ones.
    """

    lists: dict[str, int]
    classes: dict[str, dict[str, int]]
    tags_per_image: dict[int, int]
    broken: dict[str, str]
    bad_masks: dict[str, str]
    duplicates: tuple[tuple[str, ...], ...]
    leaks: tuple[tuple[str, ...], ...]
    dropped_tags: dict[str, int]
    notes: tuple[str, ...]
    num_photos: int
    num_masks: int
    num_trainable: int
    max_broken: float
    num_positive: int = 1
    contradictions: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    suggestions: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    mask_digests: dict[str, str] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[str, ...]:
        """Why training would stop, one sentence each."""
        found = []
        if self.num_trainable == 0:
            found.append("There is no photo to train on; look at data.train, data.classes and data.empty_tags.")
        elif self.num_positive == 0:
            found.append("No photo to train on has a tag; look at data.train, data.classes, data.normal and the tags.")
        if len(self.broken) > self.max_broken * self.num_photos:
            found.append(_too_many("photos cannot be read", self.broken, self.num_photos, self.max_broken))
        if len(self.bad_masks) > self.max_broken * self.num_masks:
            found.append(_too_many("masks cannot be used", self.bad_masks, self.num_masks, self.max_broken))
        return (*found, *self.contradictions)

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything worth looking at, `errors` first, one sentence each."""
        found = list(self.errors)
        if 0 < len(self.broken) <= self.max_broken * self.num_photos:
            found.append(f"{len(self.broken)} photos cannot be read and are left out: {_named(list(self.broken))}.")
        if 0 < len(self.bad_masks) <= self.max_broken * self.num_masks:
            found.append(
                f"{len(self.bad_masks)} masks cannot be used and are left out: {_named(list(self.bad_masks))}."
            )
        absent = [name for name, count in self.classes["train"].items() if count == 0]
        if absent:
            found.append(f"No photo to train on has the class {', '.join(absent)}; its maps will mean nothing.")
        found += [*self._rare(), *self._few(), *self._unseen_in_val(), *self._misspelt(), *self.doubts]
        if self.dropped_tags:
            found.append(dropped_sentence(self.dropped_tags))
        if self.duplicates:
            same = [" = ".join(ids) for ids in self.duplicates]
            found.append(f"{len(same)} photos are there more than once: {_named(same)}.")
        if self.leaks:
            same = [" = ".join(ids) for ids in self.leaks]
            found.append(f"{len(same)} photos lie both in train and in val, so val scores flatter: {_named(same)}.")
        return tuple(found)

    def _rare(self) -> list[str]:
        counts = {name: count for name, count in self.classes["train"].items() if 0 < count <= _RARE}
        named = _named([f"{name} ({count})" for name, count in counts.items()])
        return [f"Classes on one or two photos to train on cannot be learnt: {named}; add photos."] if counts else []

    def _few(self) -> list[str]:
        few = few_sentence({name: count for name, count in self.classes["train"].items() if count > _RARE})
        return [few] if few else []

    def _unseen_in_val(self) -> list[str]:
        val = self.classes.get("val", {})
        absent = [name for name, count in self.classes["train"].items() if count and not val.get(name)]
        if not self.lists.get("val") or not absent:
            return []
        return [f"No photo of val has the class {_named(absent)}; it has no score there. Put photos of it into val."]

    def _misspelt(self) -> list[str]:
        return [
            f"The class '{name}' may be meant as '{other}'; correct the tags (`cti data check --fix` writes a table)."
            for name, other in self.suggestions.items()
        ]

    @property
    def stops_training(self) -> bool:
        """Whether training would refuse this data set."""
        return bool(self.errors)

    @property
    def exit_code(self) -> int:
        """Of `cti data check`: 1 if training would refuse this data set."""
        return int(self.stops_training)

    def to_dict(self) -> JsonObject:
        """Everything but the digests, ready for JSON."""
        content = asdict(self)
        del content["digests"], content["mask_digests"]
        return {**content, "problems": self.problems, "stops_training": self.stops_training}


def few_sentence(photos: Mapping[str, int]) -> str:
    """A sentence about the classes of too few photos; empty if there are none.

    Args:
        photos: Class -> photos with its tag.
    """
    few = {name: count for name, count in photos.items() if 0 < count < FEW}
    if not few:
        return ""
    named = _named([f"{name} ({count})" for name, count in sorted(few.items(), key=lambda one: one[1])])
    return (
        f"Few photos of {named}: with fewer than {FEW}, masks of a class may be much too large or in the wrong place; "
        "add photos, or correct some masks (`cti serve`)."
    )


def held_out_sentence(photos: int) -> str:
    """A sentence about scores of tags that come from few photos held out; empty where there are none, or enough."""
    return f"Scores of tags come from {photos} photos held out, too few to rely on." if 0 < photos < FEW else ""


def print_report(report: CheckReport, console: Console) -> None:
    """Write a report for people: counts per class and list (`score` if there are masks), tags per photo, problems."""
    lists = {name: count for name, count in report.lists.items() if name != "score" or report.num_masks}
    header = ("class", *(f"{name} ({count})" for name, count in lists.items()))
    rows = (row(label, *(str(report.classes[name][label]) for name in lists)) for label in report.classes["train"])
    console.print(to_rich(Table("Photos per class", header, tuple(rows))))
    counts = sorted(report.tags_per_image.items())
    spread = ", ".join(f"{tags} {'tag' if tags == 1 else 'tags'}: {photos}" for tags, photos in counts)
    console.print(f"Tags per photo: {spread or 'no photos'}", highlight=False)
    for note in report.notes:
        if note not in report.problems:
            console.print(note, markup=False, highlight=False)
    for reason in [*report.broken.values(), *report.bad_masks.values()]:
        console.print(f"- {reason}", markup=False, highlight=False)
    for problem in report.problems:
        console.print(
            problem, markup=False, highlight=False, style="bold red" if problem in report.errors else "yellow"
        )
    if report.stops_training:
        console.print("Training would stop on this data set.", style="bold red")
    elif all(count <= _RARE for count in report.classes["train"].values()):
        console.print("Training would run on this data set, and learn no class; add photos.", style="yellow")
    else:
        console.print("This data set can be trained on.", style="green")


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _too_many(what: str, reasons: dict[str, str], total: int, share: float) -> str:
    return (
        f"{len(reasons)} of {total} {what}, more than the {share:.1%} allowed by data.max_broken: "
        f"{_named(list(reasons))}; repair or remove them."
    )
