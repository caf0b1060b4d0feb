"""Training that cannot lose: the tags of photos held out are compared with the linear head's after every epoch.

Only tags decide, never masks. Source: Kumar et al. 2022, "Fine-tuning can distort pretrained features".
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cti.config import RuntimeConfig, SeedsConfig
from cti.data import Photo
from cti.device import is_first
from cti.files import from_json, read_json, to_json, write_json
from cti.method import CTI
from cti.method.checkpoint import load_model, save_model
from cti.train.fit import Validation
from cti.train.tagging import score_held_out

logger = logging.getLogger(__name__)

CLEARLY = 0.02
"""Mean average precision by which a network must fall below the linear head to be given up."""
_RECORD = "best.json"


@dataclass(frozen=True)
class Best:
    """The best epoch so far.

    Args:
        epoch: 0-based; -1 = the start, before any training.
        tag_map: Mean average precision of the tags on photos held out.
    """

    epoch: int
    tag_map: float


class BestNetwork:
    """Keeps the network of the epoch with the best tags, on disk, and says when training should stop.

    Args:
        folder: Where it is kept; removed by `settle` in the end.
        start: Folder of the network that training starts from.
        baseline: Tag mAP of the linear head on the same photos; None = nothing to compare with.
    """

    def __init__(self, folder: Path, start: Path, baseline: float | None) -> None:
        self.folder, self.start, self.baseline = folder, start, baseline

    @property
    def best(self) -> Best:
        """The best epoch so far; the start, if none has reached the linear head."""
        path = self.folder / _RECORD
        if path.is_file():
            return from_json(Best, read_json(path), path)
        return Best(-1, self.baseline or 0.0)

    def judge(self, model: CTI, epoch: int, tag_map: float) -> str:
        """Keep the network if it is the best so far.

        Returns:
            Why training should stop; empty = it should go on.
        """
        if self.baseline is None:
            return ""
        if tag_map >= self.best.tag_map:
            save_model(self.folder, model)
            write_json(self.folder / _RECORD, to_json(Best(epoch, tag_map)))
        if tag_map < self.baseline - CLEARLY:
            return (
                f"after epoch {epoch + 1} the tag mAP is {tag_map:.3f}, clearly below the {self.baseline:.3f} of the "
                "linear head on the frozen backbone"
            )
        return ""

    def settle(self, model: CTI, tag_map: float | None) -> str:
        """Put the better network into `model` if the last one is below the linear head.

        Returns:
            A sentence that says which network was kept; empty = the last one.
        """
        if self.baseline is None or tag_map is None or tag_map >= self.baseline:
            return ""
        best = self.best
        kept, _ = load_model(self.start if best.epoch < 0 else self.folder)
        model.load_state_dict(kept.state_dict())
        which = "the start, the linear head on the frozen backbone" if best.epoch < 0 else f"epoch {best.epoch + 1}"
        return (
            f"Fine-tuning ended at a tag mAP of {tag_map:.3f}, below the linear head's {self.baseline:.3f}; "
            f"the network of {which} ({best.tag_map:.3f}) is kept."
        )


@dataclass(frozen=True)
class Judge:
    """What follows each epoch: the tags of photos not trained on are scored, and the network is kept if it is the best.

    Args:
        model: The network.
        photos: The photos, held out.
        seeds: See `tag_logits`.
        runtime: See `tag_logits`.
        best: Keeps the best network.
    """

    model: CTI
    photos: Sequence[Photo]
    seeds: SeedsConfig
    runtime: RuntimeConfig
    best: BestNetwork

    def __call__(self, epoch: int) -> Validation:
        """Score and judge the network after an epoch; the first of several processes does the latter."""
        tags = score_held_out(self.model, self.photos, self.seeds, self.runtime)
        if tags is None or tags.mean_average_precision is None or not is_first():  # no photo held out has a tag
            return Validation({})
        tag_map, linear = tags.mean_average_precision, self.best.baseline
        against = "" if linear is None else f" (linear head: {linear:.3f})"
        logger.info(
            "Epoch %d: tag mAP %.3f on %d photos not trained on%s", epoch + 1, tag_map, len(self.photos), against
        )
        return Validation({"tag_map": tag_map}, self.best.judge(self.model, epoch, tag_map))
