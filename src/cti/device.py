"""Where to compute, in which number format, and what the processes that train together know of each other.

Without other processes, what is asked of all of them is what this one has.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")


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


def together() -> int:
    """The number of processes that train together; 1 outside of training on several devices."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the first, or the only, process that trains."""
    return together() == 1 or dist.get_rank() == 0


def of_all(tensor: Tensor) -> Tensor:
    """The tensors (n, ...) of all processes, one behind the other in the order of their ranks; no gradient.

    All processes must call it, with tensors of one shape.
    """
    if together() == 1:
        return tensor
    parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(together())]
    dist.all_gather(parts, tensor.detach().contiguous())
    return torch.cat(parts)


def sum_of_all(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes, which must all call it; no gradient."""
    if together() == 1:
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


def own_share(items: Sequence[T]) -> Sequence[T]:
    """This process's part of what all processes share out: every n-th, from its rank on."""
    return items[dist.get_rank() :: together()] if together() > 1 else items


def objects_of_all(one: T) -> list[T]:
    """The objects of all processes, which must all call it, in the order of their ranks."""
    found = [one] * together()
    if together() > 1:
        dist.all_gather_object(found, one)
    return found
