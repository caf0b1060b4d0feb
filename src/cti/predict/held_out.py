"""What a network said about the photos of its run that it was not trained on: the measure of what it says of others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cti.data.mask_records import read_records
from cti.evaluate.tags import limit_false_alarms
from cti.evaluate.wrong_tags import read_tag_logits
from cti.run.stage_folder import SETTINGS, read_made

RARE = 0.05
"""Share of photos like those held out of which it is said that the network cannot tell; they must be 19 or more."""


@dataclass(frozen=True)
class HeldOut:
    """The photos of a run that a network was not trained on.

    Args:
        scores: (n, C) of the network: logits of CTI, a segmenter's largest probabilities.
        labels: (n, C) whether the photo has the tag.
        certainty: (n,) how sure a segmenter is of its least sure class; empty for CTI.
    """

    scores: NDArray[np.float64]
    labels: NDArray[np.bool_]
    certainty: NDArray[np.float64]


def read_held_out(stage: Path, classes: Sequence[str], segmenter: bool) -> HeldOut | None:
    """Read it from a run; None where nothing is known.

    Args:
        stage: The folder of the network's stage.
        classes: The network's C classes.
        segmenter: Whether it is the segmenter, of which masks/ tells, or CTI.
    """
    made = read_made(stage) if (stage / SETTINGS).is_file() else None
    if made is None:
        return None
    scores: Mapping[str, Sequence[float] | NDArray[np.float64]]
    records = read_records(stage.parent / "masks") if segmenter else {}
    if segmenter:
        scores = {name: [record.scores.get(label, 0.0) for label in classes] for name, record in records.items()}
    else:
        scores = read_tag_logits(stage)
    trained, held = (set(made.photos.lists.get(name, ())) for name in ("train", "val"))
    known = [name for name in sorted(held - trained) if name in scores and name in made.photos.photos]
    if not known:
        return None
    labels = [[label in made.photos.photos[name][1] for label in classes] for name in known]
    sure = [min(records[name].certainty.values()) for name in known if name in records and records[name].certainty]
    return HeldOut(np.array([scores[name] for name in known]), np.array(labels), np.array(sure))


def cannot_tell(certainty: float, held_out: Sequence[float], rate: float = RARE) -> bool | None:
    """Whether a network is less sure of a photo than of all but a share `rate` of the photos held out.

    Of photos like those held out, no more than that share is called so, whatever the numbers mean (a conformal
    p-value); a larger share says that the photos are of another kind. None where too few were held out to say so.

    Args:
        certainty: How sure it is of its least sure class.
        held_out: The same of each photo held out.
        rate: The share.
    """
    if rate * (len(held_out) + 1) < 1:
        return None
    return (1 + sum(value <= certainty for value in held_out)) / (len(held_out) + 1) <= rate


def tag_thresholds(held_out: HeldOut, classes: Sequence[str], rate: float) -> dict[str, float]:
    """Class -> the score above which its tag is predicted; see `limit_false_alarms`."""
    return dict(zip(classes, limit_false_alarms(held_out.scores, held_out.labels, rate).tolist(), strict=True))
