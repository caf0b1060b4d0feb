"""The loop: resuming is exact, schedules and groups are the method's, bad runs stop with a sentence."""

import json
import math
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import Precision
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import Dataset

from cti.config import MethodConfig, RuntimeConfig, TrainConfig
from cti.method.step import CTIStep
from cti.train.fit import (
    METRICS,
    STATE,
    FitResult,
    Validation,
    _Clock,
    _load_state,
    _loader,
    _Log,
    _means,
    _set_random,
    fit,
    nothing_fitted,
)
from cti.train.optimiser import build_optimiser, learning_rate, parameter_groups
from cti.train.sampler import EpochSampler
from tiny import CLASSES, tiny_model

CONFIG = TrainConfig(epochs=2, batch_size=4, lr=1e-3, warmup_epochs=1, precision="32")
RUNTIME = RuntimeConfig(workers=0, checkpoint_every=1, accelerator="cpu", devices=1)


class Photos(Dataset[dict[str, Tensor]]):
    """Noise that depends on (epoch, index) only."""

    def __init__(self, length: int = 12) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = key
        generator = torch.Generator().manual_seed(1000 * epoch + index)
        labels = torch.zeros(len(CLASSES))
        labels[index % len(CLASSES)] = 1
        views = torch.randn(2, 3, 32, 32, generator=generator)
        return {"images": views[0], "images_pos": views[1], "labels": labels}


def new_step() -> CTIStep:
    return CTIStep(tiny_model(drop_path=0.5), MethodConfig(bank_size=2, gate="per_class"))


def train(step: nn.Module, folder: Path, config: TrainConfig = CONFIG, dataset: Photos | None = None) -> None:
    fit(step, Photos() if dataset is None else dataset, config, folder, parameter_groups(step, config), RUNTIME)


class Killed(Exception):
    pass


class Dying(Photos):
    """Kills the run in the middle of the second epoch."""

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        self.seen = getattr(self, "seen", 0) + 1
        if self.seen > 17:
            raise Killed
        return super().__getitem__(key)


def test_a_resumed_run_is_bit_identical(tmp_path: Path) -> None:
    whole, resumed = new_step(), new_step()
    train(whole, tmp_path / "whole")
    with pytest.raises(Killed):
        train(resumed, tmp_path / "killed", dataset=Dying())
    again = new_step()
    train(again, tmp_path / "killed")
    for (name, expected), actual in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(expected, actual), name
    metrics = [(tmp_path / run / METRICS).read_text() for run in ("whole", "killed")]
    assert metrics[0] == metrics[1]


def test_the_scale_of_losses_in_float16_is_part_of_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Fabric keeps for a precision is stored and given back (float16, which has a scale, is for GPUs)."""
    kept, given = {"scale": 8.0}, []
    monkeypatch.setattr(Precision, "state_dict", lambda self: kept)
    monkeypatch.setattr(Precision, "load_state_dict", lambda self, state: given.append(state))
    with pytest.raises(Killed):
        train(new_step(), tmp_path, dataset=Dying())
    assert given == []
    train(new_step(), tmp_path)
    assert given == [kept]


def test_a_state_cut_short_is_named(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(new_step(), tmp_path, dataset=Dying())
    state = tmp_path / STATE
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"state\.pt is damaged, so this training cannot go on; delete it"):
        train(new_step(), tmp_path)


def test_drop_path_makes_the_run_depend_on_the_seed(tmp_path: Path) -> None:
    first, second = new_step(), new_step()
    train(first, tmp_path / "0")
    train(second, tmp_path / "1", replace(CONFIG, seed=1))
    assert not torch.equal(first.model.patch_head.weight, second.model.patch_head.weight)


def test_metrics_are_logged_each_epoch(tmp_path: Path) -> None:
    step = new_step()
    result = fit(
        step,
        Photos(),
        CONFIG,
        tmp_path,
        parameter_groups(step, CONFIG),
        RUNTIME,
        lambda epoch: Validation({"tag_map": epoch / 2}),
    )
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [line["tag_map"] for line in lines if "tag_map" in line] == [0.0, 0.5]
    assert result.final == {"tag_map": 0.5}
    assert result.steps == 6
    assert 0 < result.waited < 1
    assert any("loss/classification" in line for line in lines)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert result.peak_memory_gb == pytest.approx(used, rel=0.2)
    assert (result.epochs, result.stopped) == (2, "")


def test_who_validates_may_end_the_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And it stays ended: another call shows no photo again."""
    caplog.set_level("INFO", "cti")
    step, config, judged = new_step(), replace(CONFIG, epochs=3), []

    def validate(epoch: int) -> Validation:
        judged.append(epoch)
        return Validation({}, "enough")

    for _ in range(2):
        result = fit(step, Photos(), config, tmp_path, parameter_groups(step, config), RUNTIME, validate)
        assert result.stopped == "enough"
    assert judged == [0]
    said = [(record.levelname, record.message) for record in caplog.records]
    assert said == [("WARNING", "Training ends: enough."), ("INFO", f"Going on from step 3 of {tmp_path / STATE}")]


@pytest.mark.parametrize("warm", [None, False, True])
def test_how_long_is_decided_by_the_number_of_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm: bool | None
) -> None:
    """If no number of epochs is asked for; a warm start is shorter, and is not assumed."""
    asked: list[tuple[int, bool]] = []
    monkeypatch.setattr("cti.train.fit.epochs_by_size", lambda *given: asked.append(given) or 2)
    step, config = Known(), replace(CONFIG, epochs=0)
    more = {} if warm is None else {"warm": warm}
    result = fit(step, Photos(), config, tmp_path, parameter_groups(step, config), RUNTIME, **more)
    assert asked == [(3, bool(warm))]
    assert (result.steps, result.epochs) == (6, 2)
    assert nothing_fitted() == FitResult(0, 0, 0, 0, 0, {}, "", 0)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 2))

        def forward(self, batch: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
            return {"loss": self.weight.sum() * float("nan")}

    with pytest.raises(ValueError, match="loss is nan"):
        train(Broken(), tmp_path)
    assert not (tmp_path / STATE).is_file()


def test_the_start_of_a_run_depends_on_its_seed_alone(tmp_path: Path) -> None:
    """Drop path draws from torch's state; what validates draws from a copy, without gradients and in eval mode."""
    modes = []

    def validate(epoch: int) -> Validation:
        modes.append((steps[1].training, torch.is_grad_enabled()))
        torch.rand(5)
        return Validation({"nothing": math.nan})

    steps = [new_step(), new_step()]
    for number, (step, judge) in enumerate(zip(steps, (None, validate), strict=True)):
        torch.manual_seed(number)
        result = fit(step, Photos(), CONFIG, tmp_path / str(number), parameter_groups(step, CONFIG), RUNTIME, judge)
    assert all(torch.equal(*pair) for pair in zip(steps[0].parameters(), steps[1].parameters(), strict=True))
    assert modes == [(False, False)] * 2
    assert result.final == {"nothing": None}
    assert steps[0].training  # of the second epoch too


def test_steps_are_logged_now_and_then_with_their_rate(tmp_path: Path) -> None:
    """Every ten steps and at the end of an epoch; all of it goes to TensorBoard, too."""
    config = replace(CONFIG, epochs=1)
    train(Known(), tmp_path, config, Photos(96))
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 24]
    for line in lines:
        assert line["epoch"] == 0
        assert line["lr"] == learning_rate(config.lr, line["step"] - 1, 24, config)


def test_lines_of_steps_that_come_again_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            written.append((folder, purge_step))

        def add_scalar(self, *given: Any) -> None:
            written.append(given)

        def close(self) -> None:
            written.append("closed")

    monkeypatch.setattr("cti.train.fit.SummaryWriter", Writer)
    lines = [json.dumps({"step": step}) + "\n" for step in (1, 2, 3)]
    (tmp_path / METRICS).write_text("".join(lines) + '{"step": 1, "lo')
    log = _Log(tmp_path, 2, enabled=True)
    assert (tmp_path / METRICS).read_text() == "".join(lines[:2])
    log.write(3, {"loss": 0.5})
    log.close()
    assert (tmp_path / METRICS).read_text() == "".join(lines[:2]) + '{"step": 3, "loss": 0.5}\n'
    assert written == [(str(tmp_path), 3), ("loss", 0.5, 3), "closed"]
    other = _Log(tmp_path, 0, enabled=False)  # of another process
    other.write(1, {"loss": 1.0})
    other.close()
    assert len((tmp_path / METRICS).read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("every", "accumulate", "saved"),
    [(0, 1, [4, 8]), (3, 1, [3, 4, 6, 8]), (4, 1, [4, 8]), (1, 2, [2, 4, 6, 8]), (1, 3, [3, 4, 7, 8])],
)
def test_when_the_state_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, accumulate: int, saved: list[int]
) -> None:
    """Every so many steps, but never between the parts of one update, and once at the end of an epoch."""
    found: list[int] = []
    monkeypatch.setattr("cti.train.fit._save_state", lambda *given: found.append(given[4]["step"]))
    config, step = replace(CONFIG, accumulate=accumulate), Known()
    runtime = replace(RUNTIME, checkpoint_every=every)
    fit(step, Photos(16), config, tmp_path, parameter_groups(step, config), runtime)
    assert found == saved


def test_speed_is_of_the_training_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """24 photos in 4 seconds; each of 6 batches was waited for an eighth of one; earlier sittings count as time."""
    now = [0.0]

    def look() -> float:
        now[0] += 0.125
        return now[0]

    monkeypatch.setattr("cti.train.fit.time.perf_counter", look)
    monkeypatch.setattr(_Clock, "training", lambda self: 4.0)
    monkeypatch.setattr(_Clock, "total", lambda self: self.before + 4.0)
    reused: list[bool] = []
    monkeypatch.setattr("cti.train.fit.keep_freed_memory", lambda: reused.append(True))
    step = Known()
    result = fit(step, Photos(), CONFIG, tmp_path, parameter_groups(step, CONFIG), RUNTIME)
    assert (result.images_per_second, result.waited, result.seconds) == (6.0, 6 * 0.125 / 4, 4.0)
    again = fit(step, Photos(), CONFIG, tmp_path, parameter_groups(step, CONFIG), RUNTIME)
    assert (again.images_per_second, again.seconds, again.steps) == (0.0, 8.0, 6)
    assert reused == [True, True]  # the CPU's allocator was told to keep what steps give back


@pytest.mark.parametrize(
    ("asked", "device", "workers"), [(-1, "cpu", 1), (-1, "cuda", 3), (0, "cuda", 0), (2, "cpu", 2)]
)
def test_how_photos_are_loaded(monkeypatch: pytest.MonkeyPatch, asked: int, device: str, workers: int) -> None:
    """On a GPU by all cores, shared out among the processes of the machine; on a CPU, which trains too, by one more."""
    given: dict[str, Any] = {}
    monkeypatch.setattr("cti.train.fit.DataLoader", lambda dataset, **settings: given.update(settings))
    monkeypatch.setattr("cti.train.fit.os.sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    sampler = EpochSampler(10, 4, 0, 1, world=2)
    _loader(Photos(), sampler, 17, asked, device)
    assert given.pop("generator").initial_seed() == 17
    assert given == {
        "batch_size": 2, "sampler": sampler, "num_workers": workers, "pin_memory": device == "cuda", "drop_last": True,
        "prefetch_factor": 4 if workers else None,
    }  # fmt: skip


def test_scalars_of_several_devices_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Tensor] = []
    monkeypatch.setattr("cti.train.fit.together", lambda: 4)
    monkeypatch.setattr("cti.train.fit.sum_of_all", lambda values: asked.append(values) or values + 3)
    assert _means({"loss": torch.tensor(1.0), "other": torch.tensor(5.0)}) == {"loss": 1.0, "other": 2.0}
    assert asked[0].dtype == torch.float64


def test_more_devices_than_before_draw_anew_and_the_others_go_on(tmp_path: Path) -> None:
    """Three processes have a state; what a fourth draws differs by its rank and by the step."""
    states = []
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        states.append({"random": torch.get_rng_state()})
    network = nn.Linear(2, 2)
    optimiser = build_optimiser(parameter_groups(network, CONFIG))

    def draws(rank: int, step: int = 5) -> list[float]:
        progress = {"step": step, "seconds": 0.0, "validation": {}, "stop": ""}
        content = {
            "module": network.state_dict(), "optimiser": optimiser.state_dict(), **states[0],
            "others_random": states[1:], "progress": progress,
        }  # fmt: skip
        fabric: Any = SimpleNamespace(
            is_global_zero=rank == 0, global_rank=rank, device=torch.device("cpu"), broadcast=lambda _: content
        )
        torch.manual_seed(99)
        assert _load_state(fabric, tmp_path, network, optimiser) == progress
        return torch.rand(3).tolist()

    expected = []
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        expected.append(torch.rand(3).tolist())
    assert [draws(rank) for rank in range(3)] == expected
    fresh = [draws(3), draws(4), draws(3, step=6)]
    assert len({tuple(each) for each in (*expected, *fresh)}) == 6
    assert draws(3) == fresh[0]


def test_an_empty_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no photo to train on"):
        train(new_step(), tmp_path, dataset=Photos(0))


def test_sampler_shows_every_photo_once_and_skips_exactly() -> None:
    sampler = EpochSampler(length=10, batch_size=3, seed=0)
    sampler.epoch = 4
    order = list(sampler)
    assert len(order) == 9
    assert len({index for _, index in order}) == 9
    sampler.start_step = 2
    assert list(sampler) == order[6:]


def test_devices_share_an_epoch() -> None:
    """Each batch is cut, so that all devices together show what one shows, in its order."""
    whole = list(EpochSampler(10, 4, 0))
    parts = [list(EpochSampler(10, 4, 0, rank, world=2)) for rank in (0, 1)]
    assert parts[0] + parts[1] == whole[0:2] + whole[4:6] + whole[2:4] + whole[6:8]
    late = EpochSampler(10, 4, 0, rank=1, world=2)
    late.start_step = 1
    assert list(late) == whole[6:8]
    assert len(late) == 2


def test_fewer_photos_than_a_batch_are_shared_too() -> None:
    parts = [EpochSampler(7, 16, 0, rank, world=2) for rank in (0, 1)]
    assert [(part.batch_size, part.share, part.steps) for part in parts] == [(6, 3, 1)] * 2
    assert len({index for part in parts for _, index in part}) == 6
    assert [len(EpochSampler(2, 16, 0, rank, world=2)) for rank in (0, 1)] == [1, 1]  # one photo for each is enough


@pytest.mark.parametrize(("length", "batch_size"), [(10, 3), (1, 2)])
def test_what_devices_cannot_share_is_refused(length: int, batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"2 devices cannot share batches of {batch_size} of {length} photos"):
        EpochSampler(length, batch_size, 0, 0, world=2)


def test_the_papers_schedule() -> None:
    """Cosine per epoch, five warm-up epochs from 1e-6, floor 1e-5, peak 6.25e-5 (docs/method.md)."""
    paper = TrainConfig(schedule_per="epoch")
    rate = [learning_rate(paper.lr, epoch * 10 + 9, 10, paper) for epoch in range(60)]
    assert rate[0] == pytest.approx(1e-6)
    assert rate[1] == pytest.approx(1e-6 + (6.25e-5 - 1e-6) / 5)
    assert rate[30] == pytest.approx(1e-5 + (6.25e-5 - 1e-5) / 2)
    assert rate[59] == pytest.approx(1e-5 + (6.25e-5 - 1e-5) * 0.5 * (1 + math.cos(math.pi * 59 / 60)))


def test_groups_are_the_methods() -> None:
    step = new_step()
    config = TrainConfig(lr=1e-4, new_lr_factor=10, weight_decay=0.05)
    groups = parameter_groups(step, config, new=("model.patch_head",), no_decay=("cls_token",))
    names = {id(parameter): name for name, parameter in step.named_parameters()}
    found = {
        names[id(parameter)]: (group["peak_lr"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    assert found["model.patch_head.weight"] == (pytest.approx(1e-3), 0.05)
    assert found["model.patch_head.bias"] == (pytest.approx(1e-3), 0.0)
    assert found["model.class_tokens.cls_token"] == (1e-4, 0.0)
    assert found["model.class_tokens.bg_token"] == (1e-4, 0.05)
    assert found["model.class_tokens.pos_embed"] == (1e-4, 0.05)
    assert found["model.backbone.pos_embed"] == (1e-4, 0.05)
    assert found["model.backbone.blocks.0.norm1.weight"] == (1e-4, 0.0)
    assert "model.backbone.norm.weight" not in found  # plays no part without a final norm
    assert len(build_optimiser(groups).param_groups) == 4


class Known(nn.Module):
    """Its gradient is the mean of the batch's images, times `strength`, at each of its four weights."""

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))
        self.strength, self.means = strength, []

    def forward(self, batch: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        self.means.append(batch["images"].mean().item())
        return {"loss": self.weight.sum() * batch["images"].mean() * self.strength}


def gradients_of(step: Known, folder: Path, config: TrainConfig) -> list[float]:
    """The gradient of one weight at every update of a run."""
    seen: list[float] = []
    hook = register_optimizer_step_pre_hook(lambda *_: seen.append(step.weight.grad[0, 0].item()))
    try:
        train(step, folder, config, Photos(16))
    finally:
        hook.remove()
    return seen


def test_gradients_of_accumulated_steps_are_averaged(tmp_path: Path) -> None:
    step = Known()
    seen = gradients_of(step, tmp_path, replace(CONFIG, accumulate=2))
    assert len(step.means) == 8
    assert seen == pytest.approx([(step.means[i] + step.means[i + 1]) / 2 for i in range(0, 8, 2)], rel=1e-4)
    step = Known()
    seen = gradients_of(step, tmp_path / "three", replace(CONFIG, accumulate=3))  # of four: the last one is alone
    expected = [mean for i in (0, 4) for mean in (sum(step.means[i : i + 3]) / 3, step.means[i + 3])]
    assert seen == pytest.approx(expected, rel=1e-4)


def test_gradients_longer_than_the_threshold_are_cut_to_it(tmp_path: Path) -> None:
    """A gradient that is g at four weights is 2 |g| long."""
    long, short = Known(strength=1e4), Known(strength=1e-2)
    cut = gradients_of(long, tmp_path / "long", replace(CONFIG, clip=0.5))
    assert [abs(gradient) for gradient in cut] == pytest.approx([0.25] * 8, rel=1e-3)
    left = gradients_of(short, tmp_path / "short", replace(CONFIG, clip=0.5))
    assert left == pytest.approx([mean * 1e-2 for mean in short.means], rel=1e-4)
    free = gradients_of(Known(strength=1e4), tmp_path / "free", CONFIG)
    assert max(map(abs, free)) > 1


def test_every_epoch_has_its_own_order_and_every_seed_too(tmp_path: Path) -> None:
    class Asked(Photos):
        def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
            asked.append(key)
            return super().__getitem__(key)

    orders = []
    for seed in (0, 1):
        asked: list[tuple[int, int]] = []
        train(Known(), tmp_path / str(seed), replace(CONFIG, seed=seed, epochs=3), Asked())
        assert [epoch for epoch, _ in asked] == [0] * 12 + [1] * 12 + [2] * 12
        orders += [tuple(index for _, index in asked[start : start + 12]) for start in (0, 12, 24)]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert len(set(orders)) == 6
    assert tuple(range(12)) not in orders


def test_the_clock_tells_all_sittings_from_training_and_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("cti.train.fit.time.perf_counter", lambda: now[0])

    def loader() -> Iterator[int]:
        for number in range(2):
            now[0] += 3  # the next batch takes three seconds
            yield number

    clock = _Clock(before=1000.0)
    for _ in clock.waiting(loader()):
        now[0] += 5
    with clock.pause():
        now[0] += 20
    assert (clock.total(), clock.training(), clock.waited) == (1036.0, 16.0, 6.0)


def test_the_random_state_of_another_device_is_left_alone() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    expected = torch.rand(4)
    torch.manual_seed(9)
    other = torch.get_rng_state()
    _set_random(Fabric(accelerator="cpu", devices=1), {"random": state, "device_random": other})
    assert torch.equal(torch.rand(4), expected)
