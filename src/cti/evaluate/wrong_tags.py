"""Tags that look wrong: those that predictions on photos not learned from contradict.

After confident learning (Northcutt et al. 2021): what counts is how surely photos with and without a class are
predicted on average, so that predictions need not be calibrated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cti.data.photos import Photo
from cti.evaluate.confusion import to_numpy
from cti.evaluate.tags import score_tags
from cti.files import from_json, read_json, write_json

FILE = "tag_logits.json"
CERTAIN = 0.7  # of tags turned round finds 18 of 20 (magnetic-tile) and 82 of 98 (voc12-animals); less accuses more


@dataclass(frozen=True)
class WrongTag:
    """A tag that looks wrong.

    Args:
        photo: Index of the photo.
        tag: 0-based class.
        given: Whether the photo has the tag; if not, the tag looks forgotten.
        certainty: From 0 to 1: where the prediction lies between those of photos of its own kind (0) and of the other
            kind (1), times 2 AUROC - 1, for where a class is hardly told apart its predictions accuse nobody.
    """

    photo: int
    tag: int
    given: bool
    certainty: float


def wrong_tags(logits: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> list[WrongTag]:
    """Find the tags that predictions contradict.

    Args:
        logits: (n, C) of photos that the network did not learn from.
        labels: (n, C) multi-hot.
    """
    values, truth = to_numpy(logits).astype(np.float64), to_numpy(labels).astype(bool)
    names = [str(index) for index in range(values.shape[1])]
    found = []
    for tag, auroc in enumerate(score_tags(values, truth, names).auroc.values()):
        if auroc is None:  # all photos have it, or none has
            continue
        present = 1 / (1 + np.exp(-values[:, tag]))
        has = truth[:, tag]
        low, high = present[~has].mean(), present[has].mean()
        place = np.clip((present - low) / max(high - low, 1e-9), 0, 1)
        certainty = max(2 * auroc - 1, 0.0) * np.where(has, 1 - place, place)
        for photo in np.flatnonzero(certainty >= CERTAIN):
            found.append(WrongTag(int(photo), tag, bool(has[photo]), float(certainty[photo])))
    return found


def write_tag_logits(folder: Path, photos: Sequence[Photo], logits: ArrayLike | Tensor) -> None:
    """Keep logits (n, C) of photos that were not learned from beside the network that gave them."""
    rows = np.round(to_numpy(logits).astype(np.float64), 4).tolist()
    write_json(folder / FILE, {photo.id: row for photo, row in zip(photos, rows, strict=True)})


def read_tag_logits(*folders: Path) -> dict[str, NDArray[np.float64]]:
    """Logits (C,) by photo id from several folders, the last one counting; folders without any are passed over."""
    rows: dict[str, list[float]] = {}
    for path in (folder / FILE for folder in folders):
        if path.is_file():
            rows |= from_json(dict[str, list[float]], read_json(path), path)
    return {name: np.array(row) for name, row in rows.items()}
