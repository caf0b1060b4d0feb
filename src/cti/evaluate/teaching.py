"""Which photos a person should correct first, so that the segmenter learns most from it."""

from collections.abc import Mapping, Sequence

from cti.data import Photo


def teaching_order(photos: Sequence[Photo], covered: Mapping[str, float], num_classes: int) -> tuple[str, ...]:
    """Ids of photos in the order in which their masks teach most.

    The classes take turns, so that none is forgotten; of each the photo comes first whose mask shows most of what it is
    tagged with: there is much to be learned in one go, and much that may be wrong. (What looks most wrong teaches
    little: such photos are the odd ones. See docs/results.md.) Photos without any class come last.

    Args:
        photos: Photos that the segmenter learns from.
        covered: Photo id -> share of the photo that its classes cover; photos without one are left out.
        num_classes: C.
    """
    known = sorted((photo for photo in photos if photo.id in covered), key=lambda photo: -covered[photo.id])
    queues = [[photo.id for photo in known if tag in photo.tags] for tag in range(num_classes)]
    order: dict[str, None] = {}
    while any(queues):
        for queue in queues:
            while queue:
                name = queue.pop(0)
                if name not in order:
                    order[name] = None
                    break
    return tuple(dict.fromkeys((*order, *(photo.id for photo in known))))
