"""What the segmenter says of whole photos, for which no mask is needed: a class's score is its largest at any pixel."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cti.data.mask_records import PhotoRecord
from cti.data.photos import Photo
from cti.evaluate.tags import TagScores, score_tags

FOUND = 0.9


@dataclass(frozen=True)
class Alarms:
    """What it costs to find nearly all photos that show a class.

    Args:
        photos: Photos with a tag.
        normal: Photos without any.
        found: Share of the former that is found, at least `FOUND`: their highest score reaches a threshold.
        false_alarms: Share of the normal photos whose highest score reaches it too.
    """

    photos: int
    normal: int
    found: float
    false_alarms: float


def score_known(known: Mapping[str, PhotoRecord], photos: Sequence[Photo], classes: Sequence[str]) -> TagScores | None:
    """How well the segmenter knows the tags.

    Args:
        known: What is known of each photo, by id.
        photos: Photos with their tags; those of which nothing is known are left out.
        classes: The C class names.

    Returns:
        None where no photo is known, or no class is in any of them.
    """
    seen = [photo for photo in photos if photo.id in known]
    if not any(photo.tags for photo in seen):
        return None
    scores = [[known[photo.id].scores.get(name, 0.0) for name in classes] for photo in seen]
    return score_tags(scores, [[index in photo.tags for index in range(len(classes))] for photo in seen], classes)


def count_alarms(known: Mapping[str, PhotoRecord], photos: Sequence[Photo]) -> Alarms | None:
    """Normal photos that look like the others, where `FOUND` of these are to be found; None unless there are both.

    Args:
        known: What is known of each photo, by id.
        photos: Photos with their tags; those of which nothing is known are left out.
    """
    seen = [photo for photo in photos if photo.id in known]
    tagged, normal = (
        [max(known[photo.id].scores.values()) for photo in seen if bool(photo.tags) is some] for some in (True, False)
    )
    if not tagged or not normal:
        return None
    threshold = sorted(tagged, reverse=True)[math.ceil(FOUND * len(tagged)) - 1]
    found, alarms = (sum(score >= threshold for score in scores) / len(scores) for scores in (tagged, normal))
    return Alarms(len(tagged), len(normal), found, alarms)
