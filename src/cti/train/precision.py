"""Which number format to train in on which device."""

from typing import Literal

from cti.device import quick_bfloat16

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
