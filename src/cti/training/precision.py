"""Which number format to train in on which device."""

from typing import Literal

import torch

FabricPrecision = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]


def fabric_precision(precision: str, device_type: str) -> FabricPrecision:
    """Fabric's name for a precision; `auto` takes bfloat16 where the processor multiplies it quickly.

    Args:
        precision: `auto`, `32`, `bf16`, `16` or `64`.
        device_type: `cpu`, `cuda`, ...
    """
    if precision == "auto":
        precision = "bf16" if quick_bfloat16(device_type) else "32"
    names: dict[str, FabricPrecision] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed", "64": "64-true"}
    return names[precision]


def quick_bfloat16(device_type: str) -> bool:
    """Whether bfloat16 products are quicker than float32 ones here: AMX or AVX512-BF16, or a GPU with bfloat16 units.

    A processor without them emulates bfloat16 many times slower than it computes float32.
    """
    if device_type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device_type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
