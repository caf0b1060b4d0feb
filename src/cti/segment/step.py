"""The training step of a segmentation network: cross-entropy on the pixels that are labelled."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cti.classes import IGNORE_INDEX
from cti.config import OptimiserConfig
from cti.device import sum_of_all, together
from cti.method.attention import full_precision
from cti.segment.networks import Segmenter
from cti.train.optimiser import parameter_groups


def segmentation_loss(
    logits: Tensor, masks: Tensor, weights: Tensor | None = None, counted: float | None = None
) -> Tensor:
    """Cross-entropy, the weighted mean over labelled pixels; 0, with zero gradients, where none is labelled.

    Args:
        logits: (B, 1 + C, H, W).
        masks: (B, H, W) int64 in 0..C, or 255 for pixels that do not count.
        weights: (B, H, W) above 0, how much each pixel counts; None = all the same.
        counted: What the sum is divided by; None = the weight of the labelled pixels. Several devices that average
            their losses give their mean weight, for the mean over the pixels of all.
    """
    each = F.cross_entropy(logits, masks, ignore_index=IGNORE_INDEX, reduction="sum" if weights is None else "none")
    total = each if weights is None else (each * weights).sum()  # 0 where nothing is labelled
    if counted is None:
        is_labelled = masks != IGNORE_INDEX
        counted = float(is_labelled.sum() if weights is None else (weights * is_labelled).sum())
    return total / counted if counted else total


class SegmentationStep(nn.Module):
    """What the trainer minimises.

    Args:
        network: The segmenter.
    """

    def __init__(self, network: Segmenter) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        """Loss and pixel accuracy; with several devices each one's part of them, whose mean is that of all pixels.

        Args:
            batch: "images" (B, 3, H, W) normalised, "masks" (B, H, W) int64 in 0..C or 255, and, where a person gave
                labels, "weights" (B, H, W).
            epoch: Not used; the step is the same in every epoch.

        Returns:
            "loss"; "accuracy", share of the labelled pixels that are right; "labelled", share of pixels that count.

        Raises:
            ValueError: if the loss is not a finite number; the message says why.
        """
        masks = batch["masks"]
        weights = batch.get("weights")
        logits = full_precision(self.network(batch["images"]))  # softmax over many classes loses digits in half of it
        is_labelled = masks != IGNORE_INDEX
        labelled = int(sum_of_all(is_labelled.sum())) / together()  # on each device, on average
        counted = labelled if weights is None else float(sum_of_all((weights * is_labelled).sum())) / together()
        loss = segmentation_loss(logits, masks, weights, counted)
        if not loss.isfinite():
            raise ValueError(self._why_not_finite(batch))
        with torch.no_grad():
            right = logits.argmax(dim=1) == masks  # never where the mask is 255
            accuracy = right.sum() / max(labelled, 1 / together())
        return {"loss": loss, "accuracy": accuracy, "labelled": is_labelled.float().mean()}

    def parameter_groups(self, config: OptimiserConfig) -> list[dict[str, Any]]:
        """Groups for the optimiser: the decoder learns at `lr * new_lr_factor`; frozen blocks are left out."""
        new = tuple(f"network.{part}" for part in self.network.new_parts)
        return parameter_groups(self, config, new=new, no_decay=("cls_token", "pos_embed"))

    def _why_not_finite(self, batch: dict[str, Tensor]) -> str:
        if not batch["images"].isfinite().all():
            return "The loss is not finite because the images of this batch are not; look for broken photos."
        broken = [name for name, value in self.network.named_parameters() if not value.isfinite().all()]
        if broken:
            return (
                f"The loss is not finite because {len(broken)} weights have become so ({broken[0]}, ...): training "
                "diverged; lower segment.train.lr or new_lr_factor, or set segment.train.clip to 1."
            )
        return (
            "The loss is not finite although images and weights are: the numbers overflowed; lower segment.train.lr or "
            "set segment.train.precision to 32."
        )
