"""Facts of a machine that its figures depend on."""

import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

from cti.device import quick_bfloat16
from cti.train.precision import fabric_precision


def machine_facts() -> dict[str, Any]:
    """Processor, threads, versions, and how fast a matrix product is: no name, no path."""
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "quick_bfloat16": quick_bfloat16("cpu"),
        "default_precision": fabric_precision("auto", "cpu"),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_before": round(os.getloadavg()[0], 1),
        "gflops_float32": round(_gflops(torch.float32)),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _gflops(dtype: torch.dtype, side: int = 1024) -> float:
    """Best of five products of two square matrices, in 10^9 operations a second."""
    a = torch.randn(side, side).to(dtype)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best / 1e9
