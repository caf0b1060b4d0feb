"""Parameter groups, the optimiser and the learning-rate schedule."""

import math
from typing import Any

import torch
from torch import nn

from cti.config import OptimiserConfig


def parameter_groups(
    module: nn.Module, config: OptimiserConfig, new: tuple[str, ...] = (), no_decay: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Sort trainable parameters by learning rate and weight decay.

    1-D tensors (biases, norms, layer scales) are never decayed.

    Args:
        module: What is trained.
        config: `lr`, `new_lr_factor`, `weight_decay`.
        new: Beginnings of the names of newly initialised parts; they learn at `lr * new_lr_factor`.
        no_decay: Further names, or ends of names, that are not decayed.

    Returns:
        Groups for AdamW; `peak_lr` is what the schedule multiplies.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decayed = parameter.ndim > 1 and not name.endswith(no_decay or ("\0",))
            groups.setdefault((name.startswith(new or ("\0",)), decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "peak_lr": config.lr * (config.new_lr_factor if is_new else 1.0),
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (is_new, decayed), parameters in groups.items()
    ]


def build_optimiser(groups: list[dict[str, Any]]) -> torch.optim.AdamW:
    """AdamW over groups from `parameter_groups`; the schedule sets the learning rates."""
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


def epochs_by_size(steps_per_epoch: int, warm: bool = False) -> int:
    """Passes for `epochs: 0`: enough for about 500 steps, at least 4 and at most 60; after a warm start fewer.

    With batches of 16, 100 photos get 60 passes, 500 get 17, 1,500 get 6, and 2,000 or more get 4. A network whose
    heads know the tags already has to adjust, not to learn: about 200 steps, at least 2 and at most 20 passes (100
    photos get 20, 500 get 7, 1,500 get 3).

    Below 4 passes the extra losses, which start after the first ones, would hardly count; beyond 60, the paper's
    number, few photos are only learned by heart.

    Args:
        steps_per_epoch: Steps in an epoch.
        warm: Whether training starts from a linear head (`train.warm_start`).
    """
    enough, least, most = (200, 2, 20) if warm else (500, 4, 60)
    return min(max(math.ceil(enough / steps_per_epoch), least), most)


def learning_rate(peak: float, step: int, steps_per_epoch: int, config: OptimiserConfig) -> float:
    """The learning rate of one step: linear warm-up, then cosine or poly decay to `min_lr`.

    The warm-up takes a quarter of the run at most: `epochs: 0` may come to fewer epochs than `warmup_epochs`, and then
    the rate would never fall.

    Args:
        peak: Rate at the end of the warm-up. `warmup_lr` and `min_lr` are those of a group whose peak is `config.lr`;
            other groups keep the proportion.
        step: 0-based step of the whole run.
        steps_per_epoch: Steps in an epoch.
        config: Epochs, shape and granularity of the schedule.
    """
    moment = step / steps_per_epoch  # in epochs
    if config.schedule_per == "epoch":
        moment = math.floor(moment)
    scale = peak / config.lr
    start, floor = min(config.warmup_lr * scale, peak), min(config.min_lr * scale, peak)
    warmup = min(config.warmup_epochs, config.epochs / 4)
    if moment < warmup:
        return start + (peak - start) * moment / warmup
    # As in the released code, the decay's clock starts with the run, not with the end of the warm-up.
    done = min(moment / config.epochs, 1.0)
    shape = 0.5 * (1 + math.cos(math.pi * done)) if config.schedule == "cosine" else (1 - done) ** 0.9
    return floor + (peak - floor) * shape
