"""Masks held against tags: where they disagree, the masks mean something else than is thought."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MOST = 0.5  # of the photos: more than so many that disagree are no accident
_SOME = 0.1
_HELP = "or set data.masks to none to go on without masks"


@dataclass(frozen=True)
class MaskView:
    """What one photo's mask shows.

    Args:
        id: The photo.
        tags: Its class indices.
        shown: Class indices with pixels in the mask.
        unlabelled: Whether pixels are 255.
    """

    id: str
    tags: frozenset[int]
    shown: frozenset[int]
    unlabelled: bool


def compare_masks(views: Sequence[MaskView], classes: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Compare the classes in masks with the tags of their photos.

    Args:
        views: The photos that have a sound mask.
        classes: Names of the classes.

    Returns:
        (why the masks cannot be what they are taken for, what is worth looking at), one sentence each.
    """
    tagged = [view for view in views if view.tags]
    apart = [view for view in tagged if not view.tags & view.shown]
    denied = [view for view in views if view.shown - view.tags]
    if len(apart) > _MOST * len(tagged):
        return (_contradiction(tagged, apart, views, classes),), ()
    doubts = []
    if len(apart) > _SOME * len(tagged):
        doubts.append(
            f"The masks of {len(apart)} of {len(tagged)} tagged photos show none of their tags, e.g. {apart[0].id}; "
            "look at these masks and tags."
        )
    if len(denied) > _SOME * len(views):
        view = denied[0]
        extra = ", ".join(classes[index] for index in sorted(view.shown - view.tags))
        doubts.append(
            f"The masks of {len(denied)} of {len(views)} photos show classes that their tags deny, e.g. {view.id}: "
            f"{extra}; add the tags, or write the names into classes.txt in the order of the mask values"
            f"{_order(views, classes)}."
        )
    return (), tuple(doubts)


def _contradiction(
    tagged: Sequence[MaskView], apart: Sequence[MaskView], views: Sequence[MaskView], classes: Sequence[str]
) -> str:
    if not any(view.shown for view in views):
        held = "0 and 255 (unlabelled)" if any(view.unlabelled for view in views) else "0 (background)"
        numbers = ", ".join(f"{value} = {name}" for value, name in enumerate(classes[:3], 1))
        return (
            f"The masks hold no class: their values are {held} on all {len(views)} photos. Write a class's number "
            f"where it is ({numbers}), {_HELP}."
        )
    return (
        f"The masks of {len(apart)} of {len(tagged)} tagged photos show none of their tags, e.g. {apart[0].id}: "
        f"their values mean other classes than {', '.join(classes[:5])} in this order. Write the names into "
        f"classes.txt, one a line, in the order of the mask values 1, 2, ...{_order(views, classes)}, {_HELP}."
    )


def _order(views: Sequence[MaskView], classes: Sequence[str]) -> str:
    """The order of classes that masks and tags speak for, if they speak for another one."""
    count = len(classes)
    tags = np.array([[index in view.tags for index in range(count)] for view in views])
    shown = np.array([[index in view.shown for index in range(count)] for view in views])
    likeness = np.array([[np.mean(tags[:, tag] == shown[:, value]) for tag in range(count)] for value in range(count)])
    best = [int(np.argmax(row + 1e-9 * np.eye(count)[value])) for value, row in enumerate(likeness)]
    if sorted(best) != list(range(count)) or best == list(range(count)):
        return ""
    return f" (it looks like {', '.join(classes[index] for index in best)})"
