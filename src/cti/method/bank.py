"""The bank of class tokens for cross-image infusion."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cti.device import of_all


class TokenBank(nn.Module):
    """Per class, the last tokens that photos tagged with the class gave at the infusion block.

    Its state is made of buffers, so it is saved and resumed with the model. Processes that train together append the
    tokens of all of them, so their banks are the same, and that of one process with all their photos.

    Source: the authors' released code, which draws the cross-image tokens from a bank where the paper pairs images
    (docs/method.md, "Cross-image infusion").

    Args:
        num_classes: C.
        size: Tokens kept per class; the oldest is overwritten.
        dim: D.
    """

    tokens: Tensor  # (C, size, D)
    seen: Tensor  # (C,) int64: tokens ever appended per class

    def __init__(self, num_classes: int, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("tokens", torch.zeros(num_classes, size, dim))
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.int64))

    @torch.no_grad()
    def append(self, class_tokens: Tensor, labels: Tensor) -> None:
        """Add the tokens of tagged classes, in the order of the batch.

        Args:
            class_tokens: (B, C, D) foreground class tokens of this process; layer-normed here, without affine, with
                eps 1e-5.
            labels: (B', C) multi-hot, of all processes (`cti.device.of_all`).
        """
        normed = of_all(F.layer_norm(class_tokens.to(self.tokens.dtype), class_tokens.shape[-1:], eps=1e-5))
        size = self.tokens.shape[1]
        for image, index in labels.nonzero().tolist():
            self.tokens[index, self.seen[index] % size] = normed[image, index]
            self.seen[index] += 1

    @property
    def full(self) -> Tensor:
        """(C,) bool: classes that have `size` tokens."""
        return self.seen >= self.tokens.shape[1]

    def ready(self, labels: Tensor, gate: Literal["all", "per_class"]) -> Tensor:
        """Where a mean of the bank may be infused: (B, C) bool, tagged classes behind an open gate.

        Args:
            labels: (B, C) multi-hot.
            gate: `all` opens for every class once all are full (the released code); `per_class` class by class.
        """
        return (labels > 0) & (self.full if gate == "per_class" else self.full.all())

    def means(self) -> Tensor:
        """(C, D) mean token per class over what is kept; zeros for a class without any."""
        filled = self.seen.clamp(max=self.tokens.shape[1]).clamp(min=1)
        return self.tokens.sum(dim=1) / filled[:, None]

    def means_where(self, ready: Tensor, own: Tensor) -> Tensor:
        """The tokens to infuse, without a gradient: the class's mean where it is ready, elsewhere the photo's own.

        Args:
            ready: (B, C) bool.
            own: (B, C, D) foreground class tokens of the photos.
        """
        return torch.where(ready[..., None], self.means().to(own.dtype), own.detach())
