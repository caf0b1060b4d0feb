"""CTI: a plain ViT with one token per class and one for the background, whose tokens localise.

Source: Yoon et al., "Class Tokens Infusion for Weakly Supervised Semantic Segmentation", CVPR 2024, section 3;
docs/method.md maps its equations to this file. Shapes: B images, C foreground classes, K = C+1 tokens with the
background first, N = h*w patches, T = K+N tokens, D width, L blocks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cti.classes import check_classes
from cti.config import ModelConfig
from cti.method.attention import QueriesKeys, class_to_patch, full_precision, patch_affinity_times, pool_scores
from cti.method.class_tokens import ClassTokens
from cti.method.locator import Fitted, Locator, Normality, fitted_parts, pool_foreground
from cti.method.official import describe_official, to_our_names
from cti.method.vit import middle_block, run_block
from cti.method.weights import build_backbone, read_state_dict


@dataclass(frozen=True)
class Tokens:
    """A batch on its way through the blocks.

    Args:
        tokens: (B, T, D) output of the last block so far, class tokens first.
        grid: (h, w) patch grid.
        class_tokens: (B, K, D) class tokens at the output of every block so far.
        attention: Queries and keys of every block so far.
        early: (B, N, D) patch tokens at the output of the model's `early_block`; None before it, or without one.
        key_bias: (T,) what is added to the attention logits of each token as a key; None = nothing.
    """

    tokens: Tensor
    grid: tuple[int, int]
    class_tokens: tuple[Tensor, ...] = ()
    attention: tuple[QueriesKeys, ...] = ()
    early: Tensor | None = None
    key_bias: Tensor | None = None

    def split(self, parts: int) -> list["Tokens"]:
        """Cut the batch into equal parts (views, no copies)."""
        if parts == 1:
            return [self]
        # `chunk`, not a slice per part: its gradient is one concatenation instead of a sum of zero-filled tensors.
        tokens = self.tokens.chunk(parts)
        class_tokens = [tokens.chunk(parts) for tokens in self.class_tokens]
        attention = [(q.chunk(parts), k.chunk(parts)) for q, k, _ in self.attention]
        early = [None] * parts if self.early is None else list(self.early.chunk(parts))
        return [
            Tokens(
                tokens[part],
                self.grid,
                tuple(chunks[part] for chunks in class_tokens),
                tuple(QueriesKeys(queries[part], keys[part], self.key_bias) for queries, keys in attention),
                early[part],
                self.key_bias,
            )
            for part in range(parts)
        ]


@dataclass(frozen=True)
class Located:
    """What the densities of patch features say (`cti.method.locator`), in eval mode, once they are fitted.

    Args:
        places: (B, 1 + C, h, w) log densities, the background first.
        distance: (B, h, w) from normal patches, in units of what is unusual; None where it is evidence of no class.
        speaks_for: (C,) whether the distance is evidence of a class.
        tags: (B, C) logits of the tags by what is not background; None without a head for them.
    """

    places: Tensor
    distance: Tensor | None
    speaks_for: Tensor
    tags: Tensor | None


@dataclass(frozen=True)
class CTIOutput:
    """What CTI says about a batch.

    Args:
        class_logits: (B, C) mean over D of each foreground class token.
        patch_logits: (B, C) spatial mean of each foreground channel of the patch head, or how else they are pooled.
        patch_maps: (B, K, h, w) ReLU of the patch head, background first.
        class_tokens: (B, K, D) class tokens at the output of every block; L of them.
        attention: Queries and keys of every block, from which evidence is computed on request.
        located: What the densities of patch features say; None while training and for a network without them.
    """

    class_logits: Tensor
    patch_logits: Tensor
    patch_maps: Tensor
    class_tokens: tuple[Tensor, ...]
    attention: tuple[QueriesKeys, ...]
    located: Located | None = None

    @property
    def tag_logits(self) -> Tensor:
        """(B, C) how sure it is of each tag: by what is not background, else the mean of class and patch logits."""
        if self.located is not None and self.located.tags is not None:
            return self.located.tags
        return (self.class_logits + self.patch_logits) / 2

    def class_to_patch(self, blocks: range) -> Tensor:
        """Class-to-patch attention summed over `blocks`, heads averaged: (B, K, h, w), a share of 1 per block."""
        num_tokens = self.class_tokens[0].shape[1]
        rows = torch.stack([class_to_patch(self.attention[block], num_tokens) for block in blocks]).sum(dim=0)
        return rows.unflatten(-1, self.patch_maps.shape[-2:])

    def fused_maps(self, blocks: range) -> Tensor:
        """Patch maps times class-to-patch attention over `blocks`: (B, K, h, w), background first.

        A background channel without a token of its own (`background: cam`) has no attention to multiply by and
        stays as it is.
        """
        attention = self.class_to_patch(blocks)
        tokenless = self.patch_maps.shape[1] - attention.shape[1]
        return torch.cat([self.patch_maps[:, :tokenless], self.patch_maps[:, tokenless:] * attention], dim=1)

    def refine(self, maps: Tensor, blocks: range) -> Tensor:
        """Patch affinity summed over `blocks`, times maps: (B, c, h, w) -> (B, c, h, w)."""
        num_tokens = self.class_tokens[0].shape[1]
        flat = maps.flatten(2)
        refined = [patch_affinity_times(self.attention[block], num_tokens, flat) for block in blocks]
        return torch.stack(refined).sum(dim=0).unflatten(-1, maps.shape[-2:])


class CTI(nn.Module):
    """The network of the method.

    Args:
        classes: Names of the C foreground classes.
        backbone: A plain ViT of timm, or `vit` for one from scratch.
        pretrained: True = timm's weights from the hub, False = random ones, or the path of a local file.
        options: Further fields of `cti.config.ModelConfig`: image_size, infusion_index, background, ...

    Raises:
        ValueError: for an unusable class list, an infusion index beyond the last block but one, or backbones and
            weights that cannot be had.

    Example:
        >>> model = CTI(["cat", "sofa"], backbone="vit", pretrained=False, image_size=64)
        >>> model(torch.zeros(1, 3, 64, 96)).patch_maps.shape
        torch.Size([1, 3, 8, 12])
    """

    def __init__(
        self,
        classes: Sequence[str],
        backbone: str = "deit_small_patch16_224",
        pretrained: bool | str | Path = True,
        **options: Any,
    ) -> None:
        super().__init__()
        if isinstance(pretrained, bool):
            pretrained = "timm" if pretrained else "none"
        self.config = ModelConfig(backbone=backbone, weights=str(pretrained), **options)
        self.classes = check_classes(list(classes))
        self.backbone = build_backbone(self.config, self.config.image_size)
        self.depth = len(self.backbone.blocks)
        self.infusion_index = self.config.infusion_index
        if self.infusion_index > self.depth - 2:
            raise ValueError(
                f"model.infusion_index {self.infusion_index} leaves no block to infuse into: the backbone has "
                f"{self.depth} blocks, so at most {self.depth - 2}."
            )
        self.patch_size = self.backbone.patch_size
        self.mean, self.std = self.backbone.mean, self.backbone.std
        self.recompute = False
        wants_norm = {"auto": self.backbone.has_layer_scale, "on": True, "off": False}
        self.final_norm = wants_norm[self.config.final_norm]

        num_classes = len(self.classes)
        dim = self.backbone.embed_dim
        with_token = self.config.background == "token"
        as_one = self.config.class_tokens == "as_one"
        self.class_tokens = ClassTokens(*self.backbone.initial_cls, num_classes, with_token, copies=as_one)
        self.num_class_tokens = self.class_tokens.num_tokens
        self.early_block = middle_block(self.depth) if self.config.patch_features == "two" else None
        width = dim if self.early_block is None else 2 * dim
        self.patch_head = nn.Conv2d(width, num_classes + int(self.has_background), kernel_size=3, padding=1)
        nn.init.trunc_normal_(self.patch_head.weight, std=0.02)
        assert self.patch_head.bias is not None
        nn.init.zeros_(self.patch_head.bias)
        # Where the classes are, and so which tags there are; fitted, not trained by the step (cti.first_look).
        self.locator = None if self.early_block is None else Locator(dim, num_classes)
        self.normality = None if self.early_block is None else Normality(dim, num_classes)
        self.settled: Fitted | None = None  # which of them are fitted, where a graph is exported and cannot ask
        self.tag_head = None if self.early_block is None else nn.Linear(width, num_classes).requires_grad_(False)
        if self.tag_head is not None:
            nn.init.zeros_(self.tag_head.weight)
            nn.init.zeros_(self.tag_head.bias)
        if not self.final_norm:
            self.backbone.norm.requires_grad_(False)  # plays no part; stays so that the weights can be handed on

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.patch_head.weight.device

    @property
    def has_background(self) -> bool:
        """Whether the patch head has a channel for the background, the first one."""
        return self.config.background != "none"

    @property
    def all_blocks(self) -> range:
        """Every block; inference takes its evidence from all of them."""
        return range(self.depth)

    @property
    def middle_blocks(self) -> range:
        """The third quarter of the blocks, whose patch affinity follows objects best (docs/results.md)."""
        return range(self.depth // 2, self.depth // 2 + max(self.depth // 4, 1))

    @property
    def infused_blocks(self) -> range:
        """The blocks that an infused pass runs anew: i+1 .. L-1."""
        return range(self.infusion_index + 1, self.depth)

    def forward(self, images: Tensor, infuse: Tensor | None = None) -> CTIOutput:
        """One pass, plain or infused.

        Args:
            images: (B, 3, H, W), normalised by `mean` and `std`; H and W multiples of the patch.
            infuse: Class tokens to average in after block `infusion_index`: (B, C, D) foreground or (B, K, D) all.
        """
        start = self.first_blocks(images)
        return self.last_blocks([start if infuse is None else self.infuse(start, infuse)])[0]

    def first_blocks(self, images: Tensor) -> Tokens:
        """Blocks 0 .. infusion index: the same for a plain and an infused pass of the same images."""
        return self._run(self.embed(images), range(self.infusion_index + 1))

    def embed(self, images: Tensor) -> Tokens:
        """What enters block 0: the class tokens, the same for all images, before the patch tokens."""
        patches, grid = self.backbone.embed(images)  # (B, N, D)
        tokens = torch.cat([self.class_tokens().expand(images.shape[0], -1, -1), patches], dim=1)
        return Tokens(tokens, grid, key_bias=self.key_bias(tokens))

    def key_bias(self, tokens: Tensor) -> Tensor | None:
        """The bias (T,) that makes the K class tokens attract as much attention as one, or None.

        With K equal tokens, softmax over all keys gives each 1/K of what one alone would get, and what every token
        takes from them is what it would take from the one: a network whose tokens are copies of the CLS token
        computes what its backbone computes.

        Args:
            tokens: (B, T, D), class tokens first.
        """
        if self.config.class_tokens == "each":
            return None
        bias = torch.zeros(tokens.shape[1], device=tokens.device)
        bias[: self.num_class_tokens] = -math.log(self.num_class_tokens)
        return bias

    def infuse(self, start: Tokens, class_tokens: Tensor) -> Tokens:
        """Average class tokens into those that leave block `infusion_index`.

        Args:
            start: What `first_blocks` returned.
            class_tokens: (B, C, D): foreground tokens only are averaged; (B, K, D): all of them.
        """
        K, infused = self.num_class_tokens, class_tokens.shape[1]
        if infused not in (len(self.classes), K):
            raise ValueError(f"infuse has {infused} class tokens; give {len(self.classes)} (foreground) or {K} (all).")
        untouched, own, patches = start.tokens.split([K - infused, infused, start.tokens.shape[1] - K], dim=1)
        mixed = (own + class_tokens.to(own.dtype)) / 2
        return replace(start, tokens=torch.cat([untouched, mixed, patches], dim=1))

    def last_blocks(self, starts: list[Tokens]) -> list[CTIOutput]:
        """The remaining blocks and the heads, for several passes of equal size as one batch.

        Args:
            starts: What `first_blocks` and `infuse` returned.
        """
        early = [start.early for start in starts if start.early is not None]
        joined = Tokens(
            torch.cat([start.tokens for start in starts]),
            starts[0].grid,
            early=torch.cat(early) if early else None,
            key_bias=starts[0].key_bias,
        )
        end = self._run(joined, self.infused_blocks)
        heads = self.heads(end.tokens, end.grid, end.early)
        # One pass alone is not cut: `chunk` would tie an exported graph to the batch size it was traced with.
        class_logits, patch_logits, patch_maps = (
            head.chunk(len(starts)) if len(starts) > 1 else (head,) for head in heads
        )
        return [
            CTIOutput(
                class_logits[i],
                patch_logits[i],
                patch_maps[i],
                start.class_tokens + part.class_tokens,
                start.attention + part.attention,
                self.located(part.tokens, part.early, end.grid),
            )
            for i, (start, part) in enumerate(zip(starts, end.split(len(starts)), strict=True))
        ]

    def heads(
        self, tokens: Tensor, grid: tuple[int, int], early: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits (B, C), patch logits (B, C) and patch maps (B, K, h, w) of the last block's tokens.

        Args:
            tokens: (B, T, D).
            grid: (h, w) patch grid.
            early: (B, N, D) patch tokens of `early_block`, for a network that has one.
        """
        C, K = len(self.classes), self.num_class_tokens
        class_logits = full_precision(tokens[:, K - C : K]).mean(dim=-1)
        with torch.autocast(tokens.device.type, enabled=False):  # maps are evidence: not rounded to half precision
            patches = self._patches(tokens, early).to(self.patch_head.weight.dtype)
            scores = self.patch_head(patches.transpose(1, 2).unflatten(-1, grid))
        return class_logits, pool_scores(scores[:, -C:], self.config.pooling), scores.relu()

    def located(self, tokens: Tensor, early: Tensor | None, grid: tuple[int, int]) -> Located | None:
        """What the densities say of patches; None while training, and if there are none or they were never fitted.

        Args:
            tokens: (B, T, D) of the last block.
            early: (B, N, D) patch tokens of `early_block`.
            grid: (h, w) patch grid.
        """
        locator, normality, tag_head = self.locator, self.normality, self.tag_head
        if self.training or early is None or locator is None or normality is None or tag_head is None:
            return None
        fitted = self.settled or fitted_parts(locator, normality, tag_head)
        if not fitted.locator:
            return None
        with torch.autocast(early.device.type, enabled=False), torch.no_grad():
            patches = self._patches(tokens, full_precision(early)).to(locator.means.dtype)
            normed = patches[..., : locator.means.shape[1]]
            places: Tensor = locator(normed)
            distance = normality(normed).unflatten(-1, grid) if fitted.normality else None
            tags = tag_head(pool_foreground(patches, places)) if fitted.tag_head else None
        return Located(places.transpose(1, 2).unflatten(-1, grid), distance, normality.speaks_for, tags)

    def _patches(self, tokens: Tensor, early: Tensor | None) -> Tensor:
        """What the patch head sees, (B, N, D or 2D): the last block's patches, behind those of the early one."""
        patches = tokens[:, self.num_class_tokens :]
        if self.final_norm:
            patches = self.backbone.norm(patches)
        return patches if early is None else torch.cat([F.layer_norm(early, early.shape[-1:]), patches], dim=-1)

    def features(self, images: Tensor) -> Tensor:
        """Patch features, (B, D, h, w), as the patch head sees them; 2D of them with `patch_features: two`.

        Args:
            images: (B, 3, H, W), normalised; H and W multiples of the patch.
        """
        end = self._run(self.first_blocks(images), self.infused_blocks)
        return self._patches(end.tokens, end.early).transpose(1, 2).unflatten(-1, end.grid)

    def _run(self, batch: Tokens, blocks: range) -> Tokens:
        tokens, class_tokens, attention = batch.tokens, list(batch.class_tokens), list(batch.attention)
        early = batch.early
        recompute = self.recompute and torch.is_grad_enabled()
        run = partial(checkpoint, run_block, use_reentrant=False) if recompute else run_block
        for block in blocks:
            tokens, queries, keys = run(self.backbone.blocks[block], tokens, key_bias=batch.key_bias)
            class_tokens.append(tokens[:, : self.num_class_tokens])
            attention.append(QueriesKeys(queries, keys, batch.key_bias))
            if block == self.early_block:
                early = tokens[:, self.num_class_tokens :]
        return Tokens(tokens, batch.grid, tuple(class_tokens), tuple(attention), early, batch.key_bias)

    @classmethod
    def from_config(cls, classes: Sequence[str], config: ModelConfig) -> "CTI":
        """Build the network that a configuration describes."""
        fields = dict(vars(config))
        return cls(classes, fields.pop("backbone"), fields.pop("weights"), **fields)

    @classmethod
    def from_official(
        cls, path_or_state_dict: str | Path | Mapping[str, Tensor], classes: Sequence[str] | None = None
    ) -> "CTI":
        """A model from a checkpoint in the authors' names (their published VOC and COCO networks).

        Args:
            path_or_state_dict: The file, or its tensors by name.
            classes: Class names; by default VOC's for 20 classes and COCO's for 80.

        Raises:
            ValueError: if the tensors are not those of the authors' network, or classes do not fit their number.
        """
        if isinstance(path_or_state_dict, str | Path):
            state, source = read_state_dict(path_or_state_dict), str(path_or_state_dict)
        else:
            state, source = dict(path_or_state_dict), "the state dict"
        model = cls.from_config(*describe_official(state, source, classes)).to(state["cls_token"].dtype)
        missing, unexpected = model.load_state_dict(to_our_names(state), strict=False)
        missing = [name for name in missing if not name.startswith("backbone.norm.")]
        if missing or unexpected:
            raise ValueError(f"{source} does not fit: missing {missing[:3]}, not used {unexpected[:3]}.")
        return model
