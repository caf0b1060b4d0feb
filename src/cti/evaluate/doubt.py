"""How much the result of each photo is to be doubted, and why; no pixel label is needed."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cti.classes import IGNORE_INDEX
from cti.evaluate.wrong_tags import wrong_tags

Kind = Literal["tag", "empty", "denied", "extent", "disagreement"]
DENIED = 0.01  # of the photo: less of a class that the tags deny is noise
EVERYTHING = 0.9  # of the photo
NEARLY_NOTHING = 0.05  # of what the class usually covers
AGREE = 0.5  # IoU from which two masks agree


@dataclass(frozen=True)
class Facts:
    """What is known about one photo.

    Args:
        photo: Its id.
        tags: 0-based classes.
        shares: (C,) shares of the final mask's pixels; None without one.
        seen: (C,) shares of the segmenter's pixels, whatever the tags say; None without a segmentation.
        agreement: IoU of pseudo-mask and segmentation over the tagged classes; None where there are not both.
        logits: (C,) of the tags, by a network that did not learn from the photo; None where there is none.
    """

    photo: str
    tags: tuple[int, ...]
    shares: NDArray[np.float64] | None = None
    seen: NDArray[np.float64] | None = None
    agreement: float | None = None
    logits: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Reason:
    """Why a photo's result is to be doubted.

    Args:
        kind: `tag` = a tag looks wrong or forgotten; `empty` = a tagged class is not in the mask; `denied` = the
            segmenter sees a class that the tags deny; `extent` = the mask is nearly everything or nothing;
            `disagreement` = pseudo-mask and segmentation differ.
        text: The same as a sentence.
        doubt: From 0 to 1.
    """

    kind: Kind
    text: str
    doubt: float


@dataclass(frozen=True)
class Doubt:
    """One photo's doubt.

    Args:
        photo: Its id.
        tags: Names of its classes.
        doubt: From 0 to 1: 1 minus the product of what each reason leaves.
        reasons: The strongest first; empty if nothing speaks against the result.
    """

    photo: str
    tags: tuple[str, ...]
    doubt: float
    reasons: tuple[Reason, ...]


def doubts(facts: Sequence[Facts], classes: Sequence[str]) -> tuple[Doubt, ...]:
    """The doubt of every photo, the most doubtful first.

    Args:
        facts: What is known about the photos.
        classes: The C class names.
    """
    wrong = _tag_reasons(facts, classes)
    usual = usual_shares(facts, len(classes))
    found = []
    for one in facts:
        reasons = sorted((*wrong[one.photo], *_mask_reasons(one, usual, classes)), key=lambda reason: -reason.doubt)
        doubt = 1 - float(np.prod([1 - reason.doubt for reason in reasons]))
        found.append(Doubt(one.photo, tuple(classes[tag] for tag in one.tags), round(doubt, 4), tuple(reasons)))
    return tuple(sorted(found, key=lambda doubt: -doubt.doubt))


def usual_shares(facts: Sequence[Facts], num_classes: int) -> list[float | None]:
    """What share of a photo each class usually covers: the median over the masks that hold it; None if none does."""
    held = [[one.shares[tag] for one in facts if one.shares is not None and one.shares[tag] > 0]
            for tag in range(num_classes)]  # fmt: skip
    return [float(np.median(shares)) if shares else None for shares in held]


def class_shares(mask: NDArray[np.uint8], num_classes: int) -> NDArray[np.float64]:
    """The share of the decided pixels that each class has in a mask (H, W), (C,)."""
    counts = np.bincount(mask.ravel(), minlength=IGNORE_INDEX + 1)
    return counts[1 : num_classes + 1] / max(counts[:IGNORE_INDEX].sum(), 1)


def mask_agreement(mask: NDArray[np.uint8], other: NDArray[np.uint8], tags: Sequence[int]) -> float | None:
    """Mean IoU of two masks (H, W) over some classes, where both are decided; None if neither holds any of them."""
    decided = (mask != IGNORE_INDEX) & (other != IGNORE_INDEX)
    ious = []
    for tag in tags:
        one, two = (mask == tag + 1) & decided, (other == tag + 1) & decided
        if union := (one | two).sum():
            ious.append((one & two).sum() / union)
    return float(np.mean(ious)) if ious else None


def _tag_reasons(facts: Sequence[Facts], classes: Sequence[str]) -> Mapping[str, list[Reason]]:
    known = [(one, one.logits) for one in facts if one.logits is not None]
    reasons = defaultdict[str, list[Reason]](list)
    if not known:
        return reasons
    labels = np.zeros((len(known), len(classes)), bool)
    for row, (one, _) in enumerate(known):
        labels[row, list(one.tags)] = True
    for tag in wrong_tags(np.stack([logits for _, logits in known]), labels):
        text = (
            f"{classes[tag.tag]} is tagged, but the photo looks like those without it."
            if tag.given
            else f"{classes[tag.tag]} is not tagged, but the photo looks like those that have it."
        )
        reasons[known[tag.photo][0].photo].append(Reason("tag", text, round(tag.certainty, 4)))
    return reasons


def _mask_reasons(one: Facts, usual: Sequence[float | None], classes: Sequence[str]) -> Iterator[Reason]:
    """Weights from experience: a mask without its class is nearly always wrong, a disagreement often harmless."""
    if one.shares is not None:
        for tag in one.tags:
            share, median = float(one.shares[tag]), usual[tag]
            if share == 0:
                yield Reason("empty", f"{classes[tag]} is tagged, but the mask holds none of it.", 0.8)
            elif median is not None and share < NEARLY_NOTHING * median:
                text = f"{classes[tag]} covers {share:.2%} of the photo; {median:.1%} is usual."
                yield Reason("extent", text, 0.5)
        covered = float(one.shares.sum())
        most_usual = max((usual[tag] or 0 for tag in one.tags), default=0)
        if covered > max(EVERYTHING, (1 + most_usual) / 2):
            yield Reason("extent", f"The mask covers {covered:.0%} of the photo.", 0.6)
    if one.seen is not None:
        for tag in set(range(len(classes))) - set(one.tags):
            if (share := float(one.seen[tag])) > DENIED:
                text = f"The segmenter sees {classes[tag]} on {share:.0%} of the photo, which the tags deny."
                yield Reason("denied", text, round(0.6 * share / float(one.seen.sum()), 4))
    if one.agreement is not None and one.agreement < AGREE:
        text = f"Pseudo-mask and segmentation agree on {one.agreement:.0%} of what they mark."
        yield Reason("disagreement", text, round(0.6 * (1 - one.agreement), 4))
