"""Training by several processes, one per device; all else in a run is done once, by one of them.

They are started here and end with the training, or torchrun or srun has started them all at once. Then the first one
runs the command, and the others do nothing but take part in its trainings, which it hands to them.
"""

import logging
import os
import pickle
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from inspect import signature
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment, find_free_network_port
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import distributed as dist
from torch import multiprocessing, nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes
from torch.nn.parallel import DistributedDataParallel as DDP

from cti.config import OptimiserConfig, RuntimeConfig
from cti.device import default_device, together
from cti.train.precision import fabric_precision

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

_BUFFERS = next(name for name in ("forward_sync_buffers", "broadcast_buffers") if name in signature(DDP).parameters)
_PATIENCE = timedelta(days=30)  # for the next training; stages in between take hours
_control: Any = None  # the group in which trainings are handed over; None where no other program has started us


def processes(runtime: RuntimeConfig) -> int:
    """How many processes train: one per device.

    Raises:
        ValueError: if `runtime.devices` or `runtime.nodes` is not what torchrun or srun has started.
    """
    if _control is None:
        if runtime.nodes > 1:
            raise ValueError(
                f"runtime.nodes is {runtime.nodes}, but nothing has started processes there; use torchrun or srun "
                "(docs/scale.md)."
            )
        try:
            one = Fabric(accelerator=runtime.accelerator, devices=runtime.devices, plugins=[LightningEnvironment()])
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"runtime.devices is {runtime.devices}, which cannot be had here: {error}") from error
        return getattr(one.strategy, "num_processes", 1)
    here, nodes = int(os.environ["LOCAL_WORLD_SIZE"]), dist.get_world_size() // int(os.environ["LOCAL_WORLD_SIZE"])
    for name, asked, found in (("devices", runtime.devices, here), ("nodes", runtime.nodes or nodes, nodes)):
        if str(asked) not in ("auto", "-1", str(found)):
            raise ValueError(f"runtime.{name} is {asked}, but {found} were started; give {found}.")
    return dist.get_world_size()


def check_batch_size(config: OptimiserConfig, runtime: RuntimeConfig) -> None:
    """Refuse a batch that cannot be shared out to the devices.

    Raises:
        ValueError: if it does not divide.
    """
    count = processes(runtime)
    if config.batch_size % count:
        raise ValueError(
            f"{config.section}.batch_size is {config.batch_size}, which {count} devices cannot share evenly; give a "
            f"multiple of {count}, or another runtime.devices."
        )


def on_all(function: Callable[[Fabric, T], R], job: T, runtime: RuntimeConfig, precision: str) -> R:
    """Call `function(fabric, job)` in every process that trains.

    Args:
        function: Of a module, so that others find it.
        job: Can be pickled, if there is more than one process.
        runtime: Devices.
        precision: Of training, as in the configuration.

    Returns:
        What it returned in the first process. Whether that is this one says `runs_here`.

    Raises:
        ValueError: if it raised one in any process.
        ChildProcessError: if a process was ended from outside.
    """
    if _control is not None:
        _hand_over((function, job, runtime, precision))
    if runs_here(runtime):
        return _call(function, job, runtime, precision)
    return _start(processes(runtime), (function, job, runtime, precision))


def runs_here(runtime: RuntimeConfig) -> bool:
    """Whether this process takes part in training itself, rather than starting those that do."""
    return _control is not None or processes(runtime) == 1


def check_batch_norms(module: nn.Module, runtime: RuntimeConfig) -> None:
    """Refuse a network with batch norms where they cannot be computed over the photos of all devices.

    Raises:
        ValueError: on several CPU processes, for which torch has no such batch norm.
    """
    if _has_batch_norms(module) and processes(runtime) > 1 and _device_type(runtime) == "cpu":
        raise ValueError(
            "The network has batch norms, which processes on CPUs cannot compute together; train it with "
            "runtime.devices 1, on GPUs, or take another segment.network."
        )


def synchronised(module: nn.Module) -> nn.Module:
    """The module, with batch norms (if it has any) over the photos of all devices."""
    if together() == 1 or not _has_batch_norms(module):
        return module
    return nn.SyncBatchNorm.convert_sync_batchnorm(module)


def _has_batch_norms(module: nn.Module) -> bool:
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())


def _device_type(runtime: RuntimeConfig) -> str:
    return Fabric(accelerator=runtime.accelerator, devices=1, plugins=[LightningEnvironment()]).device.type


def _call(function: Callable[[Fabric, T], R], job: T, runtime: RuntimeConfig, precision: str) -> R:
    try:
        return function(_fabric(runtime, precision), job)
    except RuntimeError as error:
        if dist.is_initialized() and any(word in str(error) for word in ("gloo", "NCCL", "Connection closed")):
            raise ChildProcessError(
                "Another process of this training has ended, so it stopped; call the command again to go on from the "
                "last checkpoint."
            ) from error
        raise


def _fabric(runtime: RuntimeConfig, precision: str) -> Fabric:
    devices = runtime.devices
    device_type = _device_type(runtime)
    if not dist.is_initialized():
        fabric = Fabric(
            accelerator=runtime.accelerator, devices=devices, precision=fabric_precision(precision, device_type)
        )
    else:
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        buffers: dict[str, Any] = {_BUFFERS: False}
        fabric = Fabric(
            accelerator=runtime.accelerator,
            devices=devices if _control is None else here,
            num_nodes=dist.get_world_size() // here,
            strategy=DDPStrategy(**buffers),  # they are kept equal by who changes them
            precision=fabric_precision(precision, device_type),
            plugins=[TorchElasticEnvironment()],
        )
    # Of parameters of one row, whose strides mean nothing.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    fabric.launch()
    return fabric


# Processes that are started here.


def _start(count: int, work: tuple[Any, ...]) -> Any:
    """Train in `count` new processes on this machine; what the first one returned."""
    with tempfile.TemporaryDirectory(prefix="cti.") as name:
        folder, port = Path(name), find_free_network_port()
        (folder / "work").write_bytes(pickle.dumps(work))
        records = multiprocessing.get_context("spawn").Queue()
        level = logging.getLogger("cti").getEffectiveLevel()
        # What the first process has to say comes out here, as if it had been said here.
        listener = QueueListener(records, *logging.getLogger().handlers)
        listener.start()
        started = start_processes(
            _started, (count, port, folder, records, level), count, join=False, start_method="spawn"
        )
        try:
            while not started.join():
                pass
        except (ProcessExitedException, ProcessRaisedException) as error:
            ended = {rank: process.exitcode or 0 for rank, process in enumerate(started.processes)}
            killed = [rank for rank, code in ended.items() if code < 0 and code != -signal.SIGTERM]
            if killed:
                raise ChildProcessError(
                    f"Process {killed[0]} of the {count} that trained was ended by "
                    f"{signal.Signals(-ended[killed[0]]).name}, and the others with it; call the command again to go "
                    "on from the last checkpoint."
                ) from None
            if (folder / "error").is_file():
                raise pickle.loads((folder / "error").read_bytes()) from None
            raise error
        finally:
            for process in started.processes:
                process.terminate()
            for process in started.processes:
                process.join()
            listener.stop()
        return pickle.loads((folder / "answer").read_bytes())


def _started(rank: int, count: int, port: int, folder: Path, records: Any, level: int) -> None:
    """What a process does that was started here."""
    if rank == 0:
        logging.getLogger().addHandler(QueueHandler(records))
    logging.getLogger("cti").setLevel(level if rank == 0 else logging.CRITICAL)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "WORLD_SIZE": str(count),
                   "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    work = pickle.loads((folder / "work").read_bytes())
    _join()
    if rank == 0:
        (folder / "work").unlink()  # all have read it; it is large, and a kill would leave it behind
    try:
        answer = _call(*work)
    except (ValueError, OSError) as error:
        temporary = folder / f"error-{rank}"
        temporary.write_bytes(pickle.dumps(error))
        with suppress(FileExistsError):  # the first one counts: who lost that process has another
            (folder / "error").hardlink_to(temporary)
        raise SystemExit(1) from error
    if rank == 0:
        (folder / "answer").write_bytes(pickle.dumps(answer))
    dist.destroy_process_group()


# Processes that torchrun or srun has started.


@contextmanager
def with_the_others() -> Iterator[bool]:
    """Join the other processes that were started with this one.

    Yields:
        True in the first process, which now does what there is to do; False in the others, when it has done so.

    Raises:
        ValueError, ChildProcessError: in the others, if a training fails, or the first process ends.
    """
    global _control
    _understand_slurm()
    _join()
    _control = dist.new_group(backend="gloo", timeout=_PATIENCE)
    try:
        if dist.get_rank() > 0:
            logging.getLogger("cti").setLevel(logging.CRITICAL)
            _follow()
            yield False
        else:
            yield True
            _hand_over(None)
    finally:
        _control = None
    dist.destroy_process_group()


def _follow() -> None:
    while True:
        try:
            work = _hand_over(None)
        except RuntimeError as error:
            raise ChildProcessError("The first process of this training has ended.") from error
        if work is None:
            return
        _call(*work)


def _hand_over(work: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """Send work from the first process to the others; None = there is no more."""
    sent = [work]
    dist.broadcast_object_list(sent, src=0, group=_control, device=torch.device("cpu"))
    return sent[0]


def _understand_slurm() -> None:
    """Say in torchrun's variables what srun says in its own."""
    found = os.environ
    if "RANK" in found or "SLURM_STEP_NUM_TASKS" not in found:
        return
    count, nodes = int(found["SLURM_STEP_NUM_TASKS"]), int(found.get("SLURM_STEP_NUM_NODES", "1"))
    if count % nodes:
        raise ValueError(f"srun started {count} tasks on {nodes} nodes; give the same --ntasks-per-node to each.")
    names = found.get("SLURM_STEP_NODELIST", "127.0.0.1")
    found.setdefault("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(names))
    found.setdefault("MASTER_PORT", str(15000 + int(found.get("SLURM_JOB_ID", "0")[-4:])))
    found |= {"RANK": found["SLURM_PROCID"], "LOCAL_RANK": found["SLURM_LOCALID"], "WORLD_SIZE": str(count),
              "GROUP_RANK": found["SLURM_NODEID"], "LOCAL_WORLD_SIZE": str(count // nodes)}  # fmt: skip


def _join() -> None:
    """Meet the processes of this training, as torchrun's variables say."""
    os.environ.setdefault("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])
    kind = default_device().type
    dist.init_process_group("gloo" if kind == "cpu" else f"cpu:gloo,{kind}:{dist.get_default_backend_for_device(kind)}")
