"""Where to compute, and in which number format, when nobody says."""

import torch


def default_device() -> torch.device:
    """The machine's accelerator if it is there, else the CPU.

    A CUDA build of torch names its accelerator also on machines without one, so it is asked whether it is there.
    """
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def quick_bfloat16(device_type: str) -> bool:
    """Whether bfloat16 products are quicker than float32 ones here: AMX or AVX512-BF16, or a GPU with bfloat16 units.

    A processor without them emulates bfloat16 many times slower than it computes float32.
    """
    if device_type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device_type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
