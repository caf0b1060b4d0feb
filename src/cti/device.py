"""Where to compute when nobody says."""

import torch


def default_device() -> torch.device:
    """The machine's accelerator if it is there, else the CPU.

    A CUDA build of torch names its accelerator also on machines without one, so it is asked whether it is there.
    """
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")
