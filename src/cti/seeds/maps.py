"""Maps of a batch of equally sized images: evidence from all blocks, the mirrored image included.

Source: docs/method.md, "Seeds". Shapes: B images, n classes asked for, (h, w) patch grid.
"""

import logging
import math
from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from cti.config import SeedsConfig
from cti.device import quick_bfloat16
from cti.method import CTI, CTIOutput
from cti.method.summed import summed_forward

logger = logging.getLogger(__name__)

# Attention of one photo and its mirror image takes 8 bytes x heads x this squared per block: 0.9 GB for 3 heads.
MAX_TOKENS = 6000


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
        kinds: Any of `refined`, `fused`, `patch`, `attention`.
        flip: Add the maps of the mirrored images, mirrored back.
        blocks: The last so many blocks give attention; 0 = all.

    Returns:
        Kind -> per image (n + 1, h, w), the background last (absent if the model has no background channel).
    """
    B = len(images)
    both = torch.cat([images, images.flip(-1)]) if flip else images
    used = model.all_blocks[-blocks:] if blocks else model.all_blocks
    out = summed_forward(model, both, used) if any(kind != "patch" for kind in kinds) else model(both)
    channels = _channels(model, class_indices).to(images.device).repeat(1 + flip, 1)  # (B or 2B, most n [+ 1])
    maps = {kind: _add_mirrored(maps_of_kind(out, channels, kind, used), B) for kind in kinds}
    background = model.config.background != "none"
    counts = [len(indices) for indices in class_indices]
    return {
        kind: [_rows(stack, count, background) for stack, count in zip(all_, counts, strict=True)]
        for kind, all_ in maps.items()
    }


def scaled_maps(
    model: CTI, images: Tensor, class_indices: Sequence[Sequence[int]], config: SeedsConfig
) -> dict[str, list[Tensor]]:
    """Maps as `batch_maps` gives them, of all scales added up on the grid of scale 1.

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
        for kind, rows in maps.items():
            at_grid = [_resize(row[None], grid)[0] for row in rows]
            before = totals.get(kind)
            totals[kind] = at_grid if before is None else [a + b for a, b in zip(before, at_grid, strict=True)]
    return totals


def fit_to_patches(size: tuple[int, int], patch_size: int, scale: float = 1.0) -> tuple[int, int]:
    """The size (H, W) times `scale`, each side at the nearest multiple of the patch, at least one patch.

    More than `MAX_TOKENS` patches are not fitted: the size is then reduced, which is said once.
    """
    rows, columns = (max(round(side * scale / patch_size), 1) for side in size)
    if rows * columns > MAX_TOKENS:
        _say_reduced()
        factor = math.sqrt(MAX_TOKENS / (rows * columns))
        rows, columns = max(int(rows * factor), 1), max(int(columns * factor), 1)
        columns = min(columns, MAX_TOKENS // min(rows, MAX_TOKENS))  # where the other side is one patch already
        rows = min(rows, MAX_TOKENS // columns)
    return rows * patch_size, columns * patch_size


@cache
def _say_reduced() -> None:
    logger.warning(
        "Photos of more than %d patches are reduced before the network sees them, because the memory of attention "
        "grows with the square of their number; set seeds.long_side to choose the size yourself.",
        MAX_TOKENS,
    )


def _resize(maps: Tensor, size: tuple[int, int], antialias: bool = False) -> Tensor:
    """Maps (B, c, h, w) at another size, bilinearly."""
    if tuple(maps.shape[-2:]) == size or maps.shape[1] == 0:
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=antialias)


def _channels(model: CTI, class_indices: Sequence[Sequence[int]]) -> Tensor:
    """(B, most n [+ 1]) channel numbers of the patch head, filled up with the last; the background, if any, last."""
    background = int(model.config.background != "none")
    most = max(map(len, class_indices))
    rows = [[background + index for index in indices] + [0] * (most - len(indices)) for indices in class_indices]
    return torch.tensor([row + [0] * background for row in rows], dtype=torch.long).reshape(len(rows), -1)


def maps_of_kind(out: CTIOutput, channels: Tensor, kind: str, blocks: range) -> Tensor:
    """(2B, most n [+ 1], h, w) maps of the channels asked for."""
    h, w = out.patch_maps.shape[-2:]
    index = channels[:, :, None, None].expand(-1, -1, h, w)
    if kind == "patch":
        return out.patch_maps.gather(1, index)
    if kind == "attention":
        attention = out.class_to_patch(blocks)
        tokenless = out.patch_maps.shape[1] - attention.shape[1]
        padded = F.pad(attention, (0, 0, 0, 0, tokenless, 0))  # a background channel without a token attends nowhere
        return padded.gather(1, index)
    fused = out.fused_maps(blocks).gather(1, index)
    return fused if kind == "fused" else out.refine(fused, blocks)


def _add_mirrored(maps: Tensor, batch: int) -> Tensor:
    if len(maps) == batch:
        return maps
    return maps[:batch] + maps[batch:].flip(-1)


def _rows(stack: Tensor, count: int, background: bool) -> Tensor:
    return torch.cat([stack[:count], stack[-1:]]) if background else stack[:count]
