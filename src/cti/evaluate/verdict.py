"""What can be said about a run without any mask: each class, and the photos that are to be doubted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cti.data import Photo, PhotoSet
from cti.data.check_report import few_sentence, held_out_sentence
from cti.data.images import load_mask
from cti.evaluate.doubt import Doubt, Facts, class_shares, doubts, mask_agreement, usual_shares
from cti.evaluate.tags import TagScores, read_tags
from cti.evaluate.teaching import teaching_order
from cti.evaluate.wrong_tags import read_tag_logits
from cti.files import from_json, read_json, to_json, write_json
from cti.run import Run

FILE = "verdict.json"
DOUBTFUL = 0.5
"""Doubt from which a photo is worth a look."""


@dataclass(frozen=True)
class ClassVerdict:
    """What is known about one class without masks; fractions.

    Args:
        photos: Photos that carry its tag.
        average_precision: Of its tag, on photos not learned from.
        auroc: Likewise.
        f1: Likewise.
        usual_share: Share of a photo that it covers, the median over the masks that hold it; None if none does.
        masks: Masks of photos that carry its tag.
        empty: Those of them that hold none of it.
        learned: Photos that carry its tag among those learned from.
    """

    photos: int
    average_precision: float | None
    auroc: float | None
    f1: float | None
    usual_share: float | None
    masks: int
    empty: int
    learned: int = 0


@dataclass(frozen=True)
class Verdict:
    """What can be said about a run without any mask.

    Args:
        classes: Class -> what is known about it.
        doubts: Every photo that has a mask or predicted tags, the most doubtful first.
        held_out: Photos not learned from, by which tags are scored.
        teaching: Ids of photos learned from, in the order in which correcting them teaches the segmenter most; empty
            without masks.
    """

    classes: dict[str, ClassVerdict]
    doubts: tuple[Doubt, ...]
    held_out: int = 0
    teaching: tuple[str, ...] = ()

    @property
    def doubtful(self) -> tuple[Doubt, ...]:
        """The photos that are worth a look."""
        return tuple(doubt for doubt in self.doubts if doubt.doubt >= DOUBTFUL)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What to know first."""
        nowhere = [name for name, one in self.classes.items() if one.masks and one.empty == one.masks]
        lines = [
            f"Class {name} is in no mask, though {self.classes[name].photos} photos carry its tag." for name in nowhere
        ]
        empty = {name: one for name, one in self.classes.items() if one.empty and name not in nowhere}
        lines += [f"{one.empty} of {one.masks} masks of {name} hold none of it." for name, one in empty.items()]
        if few := few_sentence({name: one.learned for name, one in self.classes.items()}):
            lines.append(few)
        if few := held_out_sentence(self.held_out):
            lines.append(few)
        tags = sum(any(reason.kind == "tag" for reason in doubt.reasons) for doubt in self.doubtful)
        if self.doubts:
            look = f"{len(self.doubtful)} of {len(self.doubts)} photos are worth a look"
            lines.append(f"{look}, {tags} of them because a tag looks wrong or forgotten." if tags else f"{look}.")
        return tuple(lines)


def layers(run: Run, photo: Photo) -> dict[str, Path]:
    """The masks of a photo that there are, by what they are called, the result first."""
    paths = {"mask": run.mask(photo), "pseudo-mask": run.pseudo_mask(photo), "segmentation": run.prediction(photo)}
    return {name: path for name, path in paths.items() if path.is_file()}


def make_verdict(run: Run) -> Verdict:
    """Look through the masks and predicted tags of a run, and write evaluate/verdict.json."""
    logits = read_tag_logits(run.stage_folder("first_look"), run.stage_folder("train"))
    classes = run.photos.classes
    facts = []
    for photo in run.photos.photos():
        masks = {name: load_mask(path) for name, path in layers(run, photo).items()}
        shares = {name: class_shares(mask, len(classes)) for name, mask in masks.items()}
        agreement = None
        if {"pseudo-mask", "segmentation"} <= masks.keys():
            agreement = mask_agreement(masks["pseudo-mask"], masks["segmentation"], photo.tags)
        given = logits.get(photo.id)
        if masks or given is not None:
            facts.append(Facts(photo.id, photo.tags, shares.get("mask"), shares.get("segmentation"), agreement, given))
    tags = read_tags(run.stage_folder("train")) or read_tags(run.stage_folder("first_look"))
    covered = {one.photo: float(one.shares[list(one.tags)].sum()) for one in facts if one.shares is not None}
    verdict = Verdict(
        class_verdicts(facts, run.photos, tags),
        doubts(facts, classes),
        len(run.photos.lists["val"]),
        teaching_order(run.photos.lists["train"], covered, len(classes)),
    )
    write_json(run.stage_folder("evaluate") / FILE, to_json(verdict))
    return verdict


def class_verdicts(facts: Sequence[Facts], photos: PhotoSet, tags: TagScores | None) -> dict[str, ClassVerdict]:
    """What is known about each class.

    Args:
        facts: What is known about the photos that have a mask.
        photos: All photos, in their lists.
        tags: How well the tags are learned, if that is known.
    """
    usual, verdicts = usual_shares(facts, len(photos.classes)), {}
    learned = photos.count_tags("train")
    for index, name in enumerate(photos.classes):
        held = [one.shares[index] for one in facts if one.shares is not None and index in one.tags]
        verdicts[name] = ClassVerdict(
            photos=sum(index in photo.tags for photo in photos.photos()),
            average_precision=tags.average_precision.get(name) if tags else None,
            auroc=tags.auroc.get(name) if tags else None,
            f1=tags.f1.get(name) if tags else None,
            usual_share=usual[index],
            masks=len(held),
            empty=int(np.sum(np.array(held) == 0)),
            learned=learned[name],
        )
    return verdicts


def read_verdict(run: Path) -> Verdict | None:
    """The verdict on a run by its folder; None if there is none (yet).

    Raises:
        ValueError: if it was written by another version.
    """
    path = run / "evaluate" / FILE
    return from_json(Verdict, read_json(path), path) if path.is_file() else None
