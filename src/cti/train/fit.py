"""The training loop: devices, precision, schedule, logging, checkpoints, resuming. It knows no method.

What it trains is a module whose `forward(batch, epoch)` returns scalars by name, among them `loss`.
All state that shapes training is in the checkpoint: the module with its buffers, the optimiser, the step, torch's
random state (on the processor and on the device) and the scale of losses in float16. Data sets are indexed by (epoch,
index) and draw from nothing else, so a resumed run is the same run. Several devices share each batch out
(`cti.train.ranks`); a run may be resumed with another number of them.
"""

import json
import logging
import math
import os
import pickle
import resource
import time
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter

from cti.config import OptimiserConfig, RuntimeConfig
from cti.device import objects_of_all, sum_of_all, together
from cti.files import atomic_path, parse_json
from cti.train.allocator import keep_freed_memory
from cti.train.optimiser import build_optimiser, epochs_by_size, learning_rate
from cti.train.ranks import check_batch_norms, check_batch_size, on_all, runs_here, synchronised
from cti.train.sampler import EpochSampler

logger = logging.getLogger(__name__)

STATE = "state.pt"
METRICS = "metrics.jsonl"
LOG_EVERY = 10  # steps


@dataclass(frozen=True)
class Validation:
    """What is found after an epoch.

    Args:
        scores: Numbers by name, to be logged.
        stop: Why training should end here; empty = it goes on.
    """

    scores: dict[str, float]
    stop: str = ""


@dataclass(frozen=True)
class FitResult:
    """What a training run cost.

    Args:
        steps: Optimiser steps of the whole run.
        seconds: Time in the loop, all sittings added up, validation included.
        images_per_second: Of this sitting, validation left out.
        waited: Share of this sitting's training time spent waiting for data, 0 to 1.
        peak_memory_gb: Largest resident memory of this process so far.
        final: Last validation; None where it is undefined.
        stopped: Why training ended before its last epoch; empty if it did not.
        epochs: Passes over the photos that were planned.
    """

    steps: int
    seconds: float
    images_per_second: float
    waited: float
    peak_memory_gb: float
    final: dict[str, float | None]
    stopped: str = ""
    epochs: int = 0


def nothing_fitted() -> FitResult:
    """The cost of a network that is taken as it is."""
    return FitResult(steps=0, seconds=0, images_per_second=0, waited=0, peak_memory_gb=0, final={})


@dataclass(frozen=True)
class _Job:
    """What `fit` is called with; see there."""

    step: nn.Module
    dataset: Dataset[dict[str, Tensor]]
    config: OptimiserConfig
    folder: Path
    groups: list[dict[str, Any]]
    runtime: RuntimeConfig
    validate: Callable[[int], Validation] | None
    title: str
    warm: bool


def fit(
    step: nn.Module,
    dataset: Dataset[dict[str, Tensor]],
    config: OptimiserConfig,
    folder: Path,
    groups: list[dict[str, Any]],
    runtime: RuntimeConfig,
    validate: Callable[[int], Validation] | None = None,
    title: str = "train",
    warm: bool = False,
) -> FitResult:
    """Train `step` on `dataset`, or go on where an earlier sitting in `folder` stopped.

    Args:
        step: `forward(batch, epoch) -> {"loss": scalar, name: scalar, ...}`.
        dataset: Map-style, indexed by (epoch, index); items are dicts of tensors.
        config: Everything about optimisation.
        folder: Gets `state.pt`, `metrics.jsonl` and TensorBoard events.
        groups: From `parameter_groups`.
        runtime: Devices, loading processes, checkpoints.
        validate: Called with the epoch after each; its numbers are logged, and it may end the training. It sees the
            module in eval mode. With several devices all call it, and what the first one returns counts.
        title: Word before the progress bar.
        warm: Whether the heads know something already: `epochs: 0` then comes to fewer passes.

    With several devices all of these must be such that they can be pickled.

    Raises:
        ValueError: if the data set is empty, the devices cannot share it, or the loss stops being a finite number.
        ChildProcessError: if one of several processes has ended; the last checkpoint is whole.
    """
    if len(cast(Sized, dataset)) == 0:
        raise ValueError("There is no photo to train on; check the tags and lists with `cti data check`.")
    check_batch_size(config, runtime)
    check_batch_norms(step, runtime)
    kind = next(step.parameters()).dtype
    job = _Job(step, dataset, config, folder, groups, runtime, validate, title, warm)
    result = on_all(_fit, job, runtime, config.precision)
    if not runs_here(runtime):
        step.load_state_dict(torch.load(folder / STATE, map_location="cpu", weights_only=True)["module"])
    step.to(kind)  # trained in float64, it is used as all others are
    return result


def _fit(fabric: Fabric, job: _Job) -> FitResult:
    """The training of one device."""
    step, config, folder, runtime, validate = job.step, job.config, job.folder, job.runtime, job.validate
    device_type = fabric.device.type
    if device_type == "cpu":
        keep_freed_memory()
    step = synchronised(step)
    torch.manual_seed(config.seed + fabric.global_rank)
    optimiser = build_optimiser(job.groups)
    module, optimiser = fabric.setup(step, optimiser)

    num_photos = len(cast(Sized, job.dataset))
    sampler = EpochSampler(num_photos, config.batch_size, config.seed, fabric.global_rank, fabric.world_size)
    config = replace(config, epochs=config.epochs or epochs_by_size(sampler.steps, job.warm))
    loader = fabric.setup_dataloaders(
        _loader(job.dataset, sampler, config.seed, runtime.workers, device_type), use_distributed_sampler=False
    )
    state = _load_state(fabric, folder, step, optimiser)
    total_steps = config.epochs * sampler.steps
    log = _Log(folder, state["step"], enabled=fabric.is_global_zero)
    clock = _Clock(state["seconds"])

    with _progress(enabled=fabric.is_global_zero) as progress:
        bar = progress.add_task(job.title, total=total_steps, completed=state["step"], note="")
        while state["step"] < total_steps and not state["stop"]:
            epoch = state["step"] // sampler.steps
            sampler.epoch, sampler.start_step = epoch, state["step"] % sampler.steps
            module.train()
            for batch in clock.waiting(loader):
                rate = _set_rates(optimiser, state["step"], sampler.steps, config)
                # Gradients of a group of steps are averaged; the last group of an epoch may be smaller.
                place = state["step"] % sampler.steps
                group = min(config.accumulate, sampler.steps - place // config.accumulate * config.accumulate)
                updates = place % config.accumulate == group - 1
                with fabric.no_backward_sync(module, enabled=not updates):
                    scalars = module(batch, epoch)
                    fabric.backward(scalars["loss"] / group)
                if updates:
                    if config.clip:
                        fabric.clip_gradients(module, optimiser, max_norm=config.clip)
                    optimiser.step()
                    optimiser.zero_grad(set_to_none=True)
                state["step"] += 1
                clock.images += sampler.batch_size
                values = _means(scalars)
                loss = values["loss"]
                if not math.isfinite(loss):
                    raise ValueError(
                        f"The loss is {loss} at step {state['step']} (epoch {epoch}): lower the learning rate "
                        f"({rate:.2g}), clip gradients, or train with precision 32. The last checkpoint in {folder} is "
                        "from before."
                    )
                if state["step"] % LOG_EVERY == 0 or state["step"] % sampler.steps == 0:
                    log.write(state["step"], {"epoch": epoch, "lr": rate, **values})
                _show(progress, bar, state["step"], loss, clock)
                whole_epoch = state["step"] % sampler.steps == 0
                due = runtime.checkpoint_every and state["step"] % runtime.checkpoint_every == 0
                if due and updates and not whole_epoch:
                    _save_state(fabric, folder, step, optimiser, {**state, "seconds": clock.total()})
            if validate is not None:
                module.eval()
                with clock.pause(), torch.random.fork_rng(devices=[]), torch.no_grad():
                    found = fabric.broadcast(validate(epoch))
                state["validation"], state["stop"] = found.scores, found.stop
                log.write(state["step"], {"epoch": epoch, **found.scores})
                if found.stop:
                    logger.warning("Training ends: %s.", found.stop)
            state["seconds"] = clock.total()
            _save_state(fabric, folder, step, optimiser, state)
    log.close()
    return FitResult(
        steps=state["step"],
        seconds=clock.total(),
        images_per_second=clock.images / max(clock.training(), 1e-9),
        waited=clock.waited / max(clock.training(), 1e-9),
        peak_memory_gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        final={name: value if math.isfinite(value) else None for name, value in state["validation"].items()},
        stopped=state["stop"],
        epochs=config.epochs,
    )


def _loader(
    dataset: Dataset[dict[str, Tensor]], sampler: EpochSampler, seed: int, workers: int, device_type: str
) -> DataLoader[dict[str, Tensor]]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # On a processor that also trains, one loading process keeps up; more would take its cores.
    automatic = 1 if device_type == "cpu" else max(cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)
    workers = automatic if workers == -1 else workers
    return DataLoader(
        dataset,
        batch_size=sampler.share,
        sampler=sampler,
        num_workers=workers,
        pin_memory=device_type == "cuda",
        drop_last=True,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator().manual_seed(seed),  # the loader's own draws stay off torch's global state
    )


def _set_rates(optimiser: Any, step: int, steps_per_epoch: int, config: OptimiserConfig) -> float:
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(group["peak_lr"], step, steps_per_epoch, config)
    return learning_rate(config.lr, step, steps_per_epoch, config)


def _load_state(fabric: Fabric, folder: Path, step: nn.Module, optimiser: Any) -> dict[str, Any]:
    path, saved = folder / STATE, None
    if fabric.is_global_zero and path.is_file():
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(f"{path} is damaged, so this training cannot go on; delete it to begin anew.") from error
    saved = fabric.broadcast(saved)  # other machines need not see the folder
    if saved is None:
        return {"step": 0, "seconds": 0.0, "validation": {}, "stop": ""}
    step.load_state_dict(saved["module"])
    optimiser.load_state_dict(saved["optimiser"])
    rank, others = fabric.global_rank, saved.get("others_random", [])
    if rank == 0:
        _set_random(fabric, {name: saved[name] for name in ("random", "device_random") if name in saved})
    elif rank <= len(others):
        _set_random(fabric, others[rank - 1])
    else:  # there were fewer devices: draws of its own, another stretch of them each time
        torch.manual_seed((saved["progress"]["step"] + 1) * 1_000_003 + rank)
    if saved.get("precision"):
        fabric.strategy.precision.load_state_dict(saved["precision"])
    logger.info("Going on from step %d of %s", saved["progress"]["step"], path)
    progress: dict[str, Any] = saved["progress"]
    return progress


def _save_state(fabric: Fabric, folder: Path, step: nn.Module, optimiser: Any, progress: dict[str, Any]) -> None:
    random = {"random": torch.get_rng_state()}
    if fabric.device.type != "cpu":
        random["device_random"] = torch.get_device_module(fabric.device).get_rng_state()
    own, *others = objects_of_all(random)
    if fabric.is_global_zero:
        content = {
            "module": step.state_dict(),
            "optimiser": optimiser.state_dict(),
            **own,
            "precision": fabric.strategy.precision.state_dict(),  # the scale of losses in float16
            "progress": progress,
        }
        if others:
            content["others_random"] = others
        with atomic_path(folder / STATE) as temporary:
            torch.save(content, temporary)
    fabric.barrier()


def _set_random(fabric: Fabric, state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["random"])
    if "device_random" in state and fabric.device.type != "cpu":
        torch.get_device_module(fabric.device).set_rng_state(state["device_random"])


def _means(scalars: dict[str, Tensor]) -> dict[str, float]:
    """The means of all devices' scalars, which are those of the whole batch; the same on each."""
    values = [scalar.item() for scalar in scalars.values()]
    if together() > 1:
        means = sum_of_all(torch.tensor(values, dtype=torch.float64, device=next(iter(scalars.values())).device))
        values = (means / together()).tolist()
    return dict(zip(scalars, values, strict=True))


class _Log:
    """`metrics.jsonl` and TensorBoard; lines after the resumed step are dropped, for they will be written again."""

    def __init__(self, folder: Path, step: int, enabled: bool) -> None:
        self.path, self.writer = folder / METRICS, None
        if enabled:
            if self.path.is_file():
                kept = [line for line in self.path.read_text().splitlines(keepends=True) if _step_of(line) <= step]
                with atomic_path(self.path) as temporary:
                    temporary.write_text("".join(kept))
            self.writer = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        if self.writer is None:
            return
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def _step_of(line: str) -> float:
    try:
        return float(parse_json(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # a line cut short by a kill


class _Clock:
    """Seconds of a run: in all sittings, of this one's training, and of its waiting for data."""

    def __init__(self, before: float) -> None:
        self.before, self.started = before, time.perf_counter()
        self.waited, self.paused, self.images = 0.0, 0.0, 0

    def total(self) -> float:
        return self.before + time.perf_counter() - self.started

    def training(self) -> float:
        return time.perf_counter() - self.started - self.paused

    def waiting(self, loader: Any) -> Iterator[Any]:
        batches = iter(loader)
        while True:
            since = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.waited += time.perf_counter() - since
            yield batch

    def pause(self) -> "_Pause":
        return _Pause(self)


class _Pause:
    def __init__(self, clock: _Clock) -> None:
        self.clock = clock

    def __enter__(self) -> None:
        self.since = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.clock.paused += time.perf_counter() - self.since


def _progress(enabled: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        disable=not enabled,
    )


def _show(progress: Progress, bar: TaskID, step: int, loss: float, clock: _Clock) -> None:
    speed = clock.images / max(clock.training(), 1e-9)
    progress.update(bar, completed=step, note=f"loss {loss:.3f}  {speed:.1f} images/s")
