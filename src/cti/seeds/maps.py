"""Maps of a batch of equally sized images: evidence from all blocks, the mirrored image included.

Source: docs/method.md, "Seeds". Shapes: B images, n classes asked for, (h, w) patch grid.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cti.config import SeedsConfig
from cti.data.batches import fit_to_patches
from cti.device import quick_bfloat16
from cti.method import CTI, CTIOutput
from cti.method.network import Located
from cti.method.summed import summed_forward

SPREAD = {"spread", "located"}
"""Kinds of maps that use the affinity of the middle blocks."""
ATTENDED = {"refined", "fused", "attention"}
"""Kinds of maps that a class token's attention multiplies."""
_SHARPNESS = 8  # a distance of 1.1 limits is unusual with a probability of 0.68, of 1.5 limits with 0.96


@torch.inference_mode()
def batch_maps(
    model: CTI,
    images: Tensor,
    class_indices: Sequence[Sequence[int]],
    kinds: Sequence[str] = ("refined",),
    flip: bool = True,
    blocks: int = 0,
) -> dict[str, list[Tensor]]:
    """Maps before `max_norm`, of the asked classes only.

    Args:
        model: In eval mode.
        images: (B, 3, H, W), normalised; H and W multiples of the patch.
        class_indices: Per image the 0-based classes wanted.
        kinds: Any of `refined`, `fused`, `patch`, `spread`, `located`, `attention`.
        flip: Add the maps of the mirrored images, mirrored back.
        blocks: The last so many blocks give attention; 0 = all.

    Returns:
        Kind -> per image (n + 1, h, w), the background last (absent if the model has no background channel).
    """
    B = len(images)
    both = torch.cat([images, images.flip(-1)]) if flip else images
    used = model.all_blocks[-blocks:] if blocks else model.all_blocks
    sets = [model.middle_blocks] if set(kinds) & SPREAD else []
    if set(kinds) - {"patch", *SPREAD}:
        sets.append(used)
    out = summed_forward(model, both, *sets) if sets else model(both)
    channels = _channels(model, class_indices).to(images.device).repeat(1 + flip, 1)  # (B or 2B, most n [+ 1])
    maps = {
        kind: _add_mirrored(maps_of_kind(out, channels, kind, model.middle_blocks if kind in SPREAD else used), B)
        for kind in kinds
    }
    background = model.has_background
    counts = [len(indices) for indices in class_indices]
    return {
        kind: [_rows(stack, count, background) for stack, count in zip(all_, counts, strict=True)]
        for kind, all_ in maps.items()
    }


def scaled_maps(
    model: CTI, images: Tensor, class_indices: Sequence[Sequence[int]], config: SeedsConfig
) -> dict[str, list[Tensor]]:
    """Maps as `batch_maps` gives them, of all scales added up on the grid of scale 1.

    A class token's attention is shared out among the patches, so with four times as many each gets a quarter: maps that
    it multiplies are weighted by the number of patches, so that all scales count alike.

    Args:
        model: In eval mode.
        images: (B, 3, H, W), normalised; H and W multiples of the patch.
        class_indices: Per image the 0-based classes wanted.
        config: `scales`, `kinds`, `flip`, `blocks`, `precision`.
    """
    size = (images.shape[-2], images.shape[-1])
    grid = (size[0] // model.patch_size, size[1] // model.patch_size)
    device = images.device.type
    half = config.precision == "bf16" or (config.precision == "auto" and quick_bfloat16(device))
    totals: dict[str, list[Tensor]] = {}
    for scale in config.scales:
        scaled = _resize(images, fit_to_patches(size, model.patch_size, scale), antialias=True)
        with torch.autocast(device, torch.bfloat16, enabled=half):
            maps = batch_maps(model, scaled, class_indices, config.kinds, config.flip, config.blocks)
        patches = scaled.shape[-2] * scaled.shape[-1] / (size[0] * size[1])
        for kind, rows in maps.items():
            weight = patches if kind in ATTENDED else 1.0
            at_grid = [weight * _resize(row[None], grid)[0] for row in rows]
            before = totals.get(kind)
            totals[kind] = at_grid if before is None else [a + b for a, b in zip(before, at_grid, strict=True)]
    return totals


def _resize(maps: Tensor, size: tuple[int, int], antialias: bool = False) -> Tensor:
    """Maps (B, c, h, w) at another size, bilinearly."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    if maps.shape[1] == 0:  # of a photo without a class, by a network without a background channel
        return maps.new_empty(maps.shape[0], 0, *size)
    return F.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=antialias)


def _channels(model: CTI, class_indices: Sequence[Sequence[int]]) -> Tensor:
    """(B, most n [+ 1]) channel numbers of the patch head, filled up with the first; the background, if any, last."""
    background = int(model.has_background)
    most = max(map(len, class_indices))
    rows = [
        [background + index for index in indices] + [background + indices[0] if indices else 0] * (most - len(indices))
        for indices in class_indices
    ]
    return torch.tensor([row + [0] * background for row in rows], dtype=torch.long).reshape(len(rows), -1)


def maps_of_kind(out: CTIOutput, channels: Tensor, kind: str, blocks: range) -> Tensor:
    """(2B, most n [+ 1], h, w) maps of the channels asked for; `blocks` give the attention that they need."""
    h, w = out.patch_maps.shape[-2:]
    index = channels[:, :, None, None].expand(-1, -1, h, w)
    if kind == "located" and out.located is not None:
        return located_maps(out, out.located, channels, blocks)
    if kind in ("patch", *SPREAD):
        maps = out.patch_maps.gather(1, index)
        return maps if kind == "patch" else out.refine(maps, blocks)
    if kind == "attention":
        attention = out.class_to_patch(blocks)
        tokenless = out.patch_maps.shape[1] - attention.shape[1]
        padded = F.pad(attention, (0, 0, 0, 0, tokenless, 0))  # a background channel without a token attends nowhere
        return padded.gather(1, index)
    fused = out.fused_maps(blocks).gather(1, index)
    return fused if kind == "fused" else out.refine(fused, blocks)


def located_maps(out: CTIOutput, known: Located, channels: Tensor, blocks: range) -> Tensor:
    """What the locator says, (B, most n [+ 1], h, w): a patch's probability of each own class, squared.

    Probabilities are spread by the affinity of `blocks`. Classes that stand out from normal photos have the probability
    of an unusual patch instead, shared out by the locator and not spread, for they are small. What is neither is
    background. Squares, because then the usual threshold of 0.25 is a probability of a half.
    """
    with_background = out.patch_maps.shape[1] == known.places.shape[1]
    numbers = channels if with_background else channels + 1  # of the locator, which always knows a background
    asked = torch.zeros_like(known.places[:, :, 0, 0], dtype=torch.bool).scatter(1, numbers, True)
    asked[:, 0] = True
    places = known.places.masked_fill(~asked[:, :, None, None], -torch.inf).softmax(dim=1)
    index = numbers[:, :, None, None].expand(-1, -1, *places.shape[-2:])
    located = out.refine(places.gather(1, index), blocks) / len(blocks)
    if known.distance is None:
        return located.square()
    speaks = F.pad(known.speaks_for, (1, 0))  # not for the background
    unusual = (_SHARPNESS * known.distance.log()).sigmoid()[:, None]
    shares = places / places[:, 1:].sum(dim=1, keepdim=True).clamp(min=1e-6)
    located = torch.where(speaks[numbers][:, :, None, None], (unusual * shares).gather(1, index), located)
    if with_background:
        silent = (asked & ~speaks)[:, 1:].any(dim=1)[:, None, None]  # a class that may look normal
        spoken = (asked & speaks).any(dim=1)[:, None, None]
        usual = 1 - unusual[:, 0]
        either = torch.where(silent, torch.minimum(usual, located[:, -1]), usual)
        located = torch.cat([located[:, :-1], torch.where(spoken, either, located[:, -1])[:, None]], dim=1)
    return located.square()


def _add_mirrored(maps: Tensor, batch: int) -> Tensor:
    if len(maps) == batch:
        return maps
    return maps[:batch] + maps[batch:].flip(-1)


def _rows(stack: Tensor, count: int, background: bool) -> Tensor:
    return torch.cat([stack[:count], stack[-1:]]) if background else stack[:count]
