"""Maps of a large photo: those of its windows, each before `max_norm`, joined on the patch grid of the whole photo.

Patch maps, and probabilities by the locator, mean the same in every window, so they are joined as they are. A class
token's attention does not: it is shared out within its window, also where nothing of the class is there. Maps that it
multiplies weigh as much as the window is sure of the class, relative to the surest window, so that a window without
evidence says nothing, and a photo of one window has the maps of a whole photo.
"""

import torch
from PIL import Image
from torch import Tensor

from cti.config import SeedsConfig
from cti.data.batches import Sight, normalised
from cti.data.windows import Joined, photo_windows
from cti.method import CTI
from cti.seeds.maps import ATTENDED, scaled_maps
from cti.train.tagging import window_tag_logits


@torch.inference_mode()
def windowed_maps(
    model: CTI,
    image: Image.Image,
    seen: Sight,
    indices: tuple[int, ...],
    config: SeedsConfig,
    tag_logits: Tensor | None = None,
) -> dict[str, Tensor]:
    """Maps of some classes of one photo, before `max_norm`; one window at a time is in the network.

    Args:
        model: In eval mode.
        image: RGB.
        seen: Its size (H, W) and windows.
        indices: The n 0-based classes wanted.
        config: `scales`, `kinds`, `flip`, `blocks`, `precision`.
        tag_logits: (windows, C) by `window_tag_logits`; None = found here if they are needed.

    Returns:
        Kind -> (n + 1, h, w) float32 on the CPU, the background last (absent if the model has no background channel).
    """
    grid = (seen.size[0] // model.patch_size, seen.size[1] // model.patch_size)
    joined: dict[str, Joined] = {kind: Joined(grid) for kind in config.kinds}
    sure = torch.ones(0)
    if ATTENDED & set(config.kinds):
        sure = _sureness(window_tag_logits(model, image, seen) if tag_logits is None else tag_logits, indices)
        sure = torch.cat([sure, sure.new_ones(len(sure), int(model.has_background))], dim=1)
    for number, window in enumerate(photo_windows(image, seen.size, seen.window, model.patch_size)):
        pixels = normalised(window.image, model.mean, model.std)[None].to(model.device)
        for kind, (maps,) in scaled_maps(model, pixels, [indices], config).items():
            joined[kind].add(window, maps.cpu() * sure[number, :, None, None] if kind in ATTENDED else maps)
    return {kind: all_.maps() for kind, all_ in joined.items()}


def _sureness(tag_logits: Tensor, indices: tuple[int, ...]) -> Tensor:
    """(windows, n) probability that a window holds a class, relative to the window where it is highest."""
    logs = torch.nn.functional.logsigmoid(tag_logits[:, list(indices)])
    return (logs - logs.amax(dim=0, keepdim=True)).exp()
