"""The C library's allocator, told to keep the memory that a training step gives back."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let this process reuse large freed blocks instead of handing them to the system and asking for them again.

    A step on the CPU frees and allocates the same gigabytes of activations over and over. By default glibc maps each
    block anew, and the system must zero every page of it: about a tenth of a step's time. The price is that the
    process keeps the memory of its largest moment.

    Returns:
        Whether the allocator took the advice: False on anything but glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    # Both: blocks come from the heap rather than from mappings of their own, and the heap does not shrink.
    return bool(library.mallopt(_M_MMAP_MAX, 0)) and bool(library.mallopt(_M_TRIM_THRESHOLD, -1))
