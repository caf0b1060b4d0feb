"""Small networks and batches for tests, and the oracle's inputs."""

import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cti.method import CTI

CLASSES = ("disc", "ring", "star")


def tiny_model(**options: Any) -> CTI:
    """A 3-block ViT with 8-pixel patches for 32-pixel images; parameters moved off their near-zero start."""
    settings = {"image_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2, "infusion_index": 0,
                "drop_path": 0.0}  # fmt: skip
    torch.manual_seed(0)
    model = CTI(CLASSES, backbone="vit", pretrained=False, **(settings | options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def tiny_batch(size: int = 32, batch: int = 4, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(batch, len(CLASSES))
    labels[torch.arange(batch), torch.arange(batch) % len(CLASSES)] = 1
    labels[0, 1] = 1
    shape = (batch, 3, size, size)
    return {
        "images": torch.randn(shape, generator=generator),
        "images_pos": torch.randn(shape, generator=generator),
        "labels": labels,
    }


def official_state(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    state = {}
    for name, shape in shapes.items():
        values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape) * 0.05
        is_norm = name.split(".")[-2:-1] in (["norm1"], ["norm2"], ["norm"]) and name.endswith("weight")
        state[name] = torch.from_numpy(values + is_norm)
    return state


def noise(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))
