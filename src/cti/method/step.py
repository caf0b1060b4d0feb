"""THE step of Class Token Infusion: what `cti.method.reference` spells out, computed without doing anything twice.

Four passes: "view1" and "view2" are two views of each photo; "intra" is view 1 infused with view 2's class tokens;
"cross" is view 1 infused with the bank's. Source: the paper's section 3; docs/method.md maps each line to its equation.
"""

from functools import reduce

import torch
from torch import Tensor, nn

from cti.config import MethodConfig
from cti.device import of_all, together
from cti.method import CTI, CTIOutput, TokenBank
from cti.method.losses import background_loss, classification_loss, cross_image_loss, intra_image_loss


class CTIStep(nn.Module):
    """One training step: a batch in, the losses out.

    Processes that train together, each with its share of a batch, average their losses and gradients to those of the
    whole batch: they share their class tokens and labels, and so decide and divide alike.

    With stochastic depth, an infused pass shares view 1's draw in blocks 0..i, where four separate passes would draw
    twice: the draw differs, its expectation does not.

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
            batch: `images` and `images_pos` (B, 3, H, W), two views of each photo; `labels` (B, C) multi-hot.
            epoch: 0-based; the background and infusion losses count from `start_epoch`.
        """
        model, config, labels = self.model, self.config, batch["labels"]
        C, i = len(model.classes), model.infusion_index
        localise = epoch >= config.start_epoch

        # Blocks 0..i see no infused token: they run once per view. The class tokens they leave are what is infused.
        view1, view2 = model.first_blocks(torch.cat([batch["images"], batch["images_pos"]])).split(2)
        own, other = view1.class_tokens[i], view2.class_tokens[i]  # (B, K, D)

        # The bank takes view 1's tokens of the tagged classes, then says which classes it has enough of.
        all_labels = of_all(labels)  # of the other devices' photos too
        self.bank.append(own[:, -C:], all_labels)
        ready, all_ready = (self.bank.ready(each, config.gate) for each in (labels, all_labels))  # (B, C)

        # Now each pass gets its class tokens. Gradients flow into view 2's, not into the bank's. Photos without any tag
        # have nothing to be ready; they take part, with their own tokens, once all classes are full.
        passes = {"view1": view1, "view2": view2}
        if localise and config.intra_weight:
            passes["intra"] = model.infuse(view1, other.detach() if config.intra_detach else other)
        if localise and config.cross_weight and (all_ready.any() or self.bank.full.all()):
            from_bank = ready & (config.cross_source == "bank")
            passes["cross"] = model.infuse(view1, self.bank.means_where(from_bank, own[:, -C:]))

        # The other blocks and the heads run as one batch of all passes; what follows is losses only.
        out = dict(zip(passes, model.last_blocks(list(passes.values())), strict=True))

        # Class tokens and patches of both views must know the tags.
        views = (out["view1"], out["view2"])
        logits = [each for view in views for each in (view.class_logits, view.patch_logits)]  # 4 of (B, C)
        tag_losses = [classification_loss(each, labels, self.positive_weight) for each in logits]
        losses = {"classification": reduce(torch.add, tag_losses)}
        # The background is where no tagged class is.
        if localise and config.background_weight and model.has_background:
            losses["background"] = background_loss(*self._background_maps(out["view1"], labels))
        # Another view's tokens must find the same things in view 1 ...
        if "intra" in out:
            losses["intra"] = intra_image_loss(out["view1"].patch_maps, out["intra"].patch_maps)
        # ... and so must other photos' tokens. Tagged classes that wait for their tokens do not count.
        if "cross" in out:
            fused = out["cross"].fused_maps(model.infused_blocks)[:, -C:]
            counted, among = None, None
            if config.gate == "per_class":
                counted, among = ready | (labels == 0), (all_ready | (all_labels == 0)).sum() / together()
            losses["cross"] = cross_image_loss(out["view1"].patch_maps[:, -C:], fused, counted, among)

        total = losses["classification"]
        for name in ("background", "intra", "cross"):
            if name in losses:
                total = total + getattr(config, f"{name}_weight") * losses[name]
        return {"loss": total, **{f"loss/{name}": loss.detach() for name, loss in losses.items()}}

    def _background_maps(self, out: CTIOutput, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Refined maps of the strongest tagged class and of the background, each (B, 1, h, w)."""
        last = self.model.all_blocks[-self.config.attention_blocks :]
        fused = out.fused_maps(last)
        background, foreground = fused[:, :1], fused[:, 1:]
        if self.config.detach_patch_maps_in_background:  # COCO: the attention alone learns
            foreground = out.patch_maps[:, 1:].detach() * out.class_to_patch(last)[:, -foreground.shape[1] :]
        strongest = (foreground * labels[:, :, None, None]).amax(dim=1, keepdim=True)
        refined = out.refine(torch.cat([strongest, background], dim=1), self.model.infused_blocks)
        return refined[:, :1], refined[:, 1:]
