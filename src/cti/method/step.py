"""THE step of Class Token Infusion.

Source: the paper's section 3; docs/method.md maps each line to its equation. Four logical passes: view 1, view 2,
view 1 infused with view 2's class tokens (intra), view 1 infused with the bank's (cross). Blocks 0..i are the same
for the plain and the infused passes of view 1, so they run once, and the rest of all passes runs as one batch.
"""

import torch
from torch import Tensor, nn

from cti.config import MethodConfig
from cti.method import CTI, CTIOutput, TokenBank
from cti.method.losses import background_loss, classification_loss, cross_image_loss, intra_image_loss


class CTIStep(nn.Module):
    """One training step: a batch in, the losses out.

    With stochastic depth, an infused pass shares its plain pass's draw in blocks 0..i, where four separate passes
    would draw twice: the draw differs, its expectation does not.

    Args:
        model: The network.
        config: Weights and switches of the losses.
        positive_weight: (C,) weights of positive tags in the classification losses; None = 1, as in the paper.
    """

    positive_weight: Tensor | None

    def __init__(self, model: CTI, config: MethodConfig, positive_weight: Tensor | None = None) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.bank = TokenBank(len(model.classes), config.bank_size, model.backbone.embed_dim)
        self.register_buffer("positive_weight", positive_weight, persistent=False)

    def forward(self, batch: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        """Losses of one batch, scalars by name; `loss` is their weighted sum.

        Args:
            batch: `images` and `images_pos` (B, 3, H, W), two views of each image; `labels` (B, C) multi-hot.
            epoch: 0-based; the background and infusion losses count from `start_epoch`.
        """
        model, config, labels = self.model, self.config, batch["labels"]
        extra = epoch >= config.start_epoch
        C, i = len(model.classes), model.infusion_index

        first, first_pos = model.first_blocks(torch.cat([batch["images"], batch["images_pos"]])).split(2)
        class_tokens, class_tokens_pos = first.class_tokens[i], first_pos.class_tokens[i]  # (B, K, D)
        self.bank.append(class_tokens[:, -C:].detach(), labels)
        ready = self._ready(labels)  # (B, C)

        passes = {"plain": first, "pos": first_pos}
        if extra and config.intra_weight:
            passes["intra"] = model.infuse(first, class_tokens_pos)
        if extra and config.cross_weight and ready.any():
            tokens = torch.where(ready[..., None], self.bank.means().to(class_tokens.dtype), class_tokens[:, -C:])
            passes["cross"] = model.infuse(first, tokens.detach())
        out = dict(zip(passes, model.last_blocks(list(passes.values())), strict=True))
        plain = out["plain"]

        losses = {
            "classification": sum(
                (
                    classification_loss(logits, labels, self.positive_weight)
                    for view in (plain, out["pos"])
                    for logits in (view.class_logits, view.patch_logits)
                ),
                start=labels.new_zeros(()),
            )
        }
        if extra and config.background_weight and model.config.background != "none":
            losses["background"] = background_loss(*self._background_maps(plain, labels))
        if "intra" in out:
            losses["intra"] = intra_image_loss(plain.patch_maps, out["intra"].patch_maps)
        if "cross" in out:
            fused = out["cross"].fused_maps(model.infused_blocks)
            counted = (ready | (labels == 0)).to(fused.dtype) if config.gate == "per_class" else None
            losses["cross"] = cross_image_loss(plain.patch_maps[:, -C:], fused[:, -C:], counted)

        weights = {
            "classification": 1.0,
            "background": config.background_weight,
            "intra": config.intra_weight,
            "cross": config.cross_weight,
        }
        total = sum((weights[name] * loss for name, loss in losses.items()), start=labels.new_zeros(()))
        return {"loss": total, **{f"loss/{name}": loss.detach() for name, loss in losses.items()}}

    def _ready(self, labels: Tensor) -> Tensor:
        """(B, C) bool: tagged classes whose bank mean may be infused."""
        full = self.bank.full
        return (labels > 0) & (full if self.config.gate == "per_class" else full.all())

    def _background_maps(self, plain: CTIOutput, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Refined maps of the strongest tagged class and of the background, each (B, 1, h, w)."""
        model = self.model
        last = range(model.depth - min(self.config.attention_blocks, model.depth), model.depth)
        fused = plain.fused_maps(last)
        foreground = fused[:, 1:]
        if self.config.detach_patch_maps_in_background:
            foreground = plain.patch_maps[:, 1:].detach() * plain.class_to_patch(last)[:, -foreground.shape[1] :]
        tagged = labels[:, :, None, None].to(fused.dtype)
        maps = torch.cat([(foreground * tagged).amax(dim=1, keepdim=True), fused[:, :1]], dim=1)
        return plain.refine(maps, model.infused_blocks).split(1, dim=1)
