"""Learning rates over a run, and which parameters learn how fast and decay."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cti import pipeline
from cti.config import TrainConfig
from cti.method.step import CTIStep
from cti.train.optimiser import build_optimiser, epochs_by_size, learning_rate, parameter_groups
from tiny import tiny_config, tiny_shapes


@pytest.mark.parametrize(
    ("photos", "warm", "epochs"),
    [
        (100, False, 60), (500, False, 17), (1500, False, 6), (10_000, False, 4),
        (100, True, 20), (500, True, 7), (1500, True, 3), (10_000, True, 2),
    ],
)  # fmt: skip
def test_epochs_by_the_number_of_photos(photos: int, warm: bool, epochs: int) -> None:
    """About 500 steps in batches of 16, 200 from a warm start; the default warm-up fits and the rate falls."""
    steps = photos // 16
    assert epochs_by_size(steps, warm) == epochs
    config = TrainConfig(batch_size=16, epochs=epochs)
    rates = [learning_rate(config.lr, step, steps, config) for step in range(epochs * steps)]
    top = rates.index(max(rates))
    assert rates[0] == config.warmup_lr
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert top / len(rates) <= 0.27  # a quarter; the first step after it has the highest rate
    assert max(rates) > 0.85 * config.lr
    assert rates[-1] == pytest.approx(config.min_lr, rel=0.01)


def test_epochs_come_to_five_hundred_steps_or_two_hundred() -> None:
    assert [epochs_by_size(steps) for steps in (8, 10, 125, 126, 500)] == [60, 50, 4, 4, 4]
    assert [epochs_by_size(steps, warm=True) for steps in (10, 20, 100, 101)] == [20, 10, 2, 2]


@pytest.mark.parametrize("epochs", [1, 2, 3, 8])
def test_a_short_run_has_a_short_warm_up(epochs: int) -> None:
    config = TrainConfig(epochs=epochs, warmup_epochs=5)
    rates = [learning_rate(1.0, step, 100, replace(config, lr=1.0)) for step in range(100 * epochs)]
    assert rates.index(max(rates)) == 25 * epochs - 1  # the decay's clock started with the run


def test_a_warm_up_that_fits_is_left_alone() -> None:
    config = TrainConfig(epochs=20, warmup_epochs=5, lr=1.0, warmup_lr=0.1)
    assert learning_rate(1.0, 0, 10, config) == pytest.approx(0.1)
    assert learning_rate(1.0, 25, 10, config) == pytest.approx(0.1 + 0.9 / 2)
    assert learning_rate(1.0, 49, 10, config) == pytest.approx(0.1 + 0.9 * 0.98)


@pytest.mark.parametrize(
    ("schedule", "shape"),
    [("cosine", lambda done: (1 + torch.cos(torch.tensor(done * torch.pi)).item()) / 2),
     ("poly", lambda done: (1 - done) ** 0.9)],
)  # fmt: skip
def test_the_decay(schedule: Any, shape: Any) -> None:
    config = TrainConfig(epochs=10, warmup_epochs=0, schedule=schedule, lr=1.0, min_lr=0.2)
    for step in (0, 7, 50, 99, 100, 120):  # beyond the end it stays where it is
        expected = 0.2 + 0.8 * shape(min(step / 100, 1))
        assert learning_rate(1.0, step, 10, config) == pytest.approx(expected, rel=1e-6)
    # Per epoch, the rate stands still in between.
    per_epoch = replace(config, schedule_per="epoch")
    assert learning_rate(1.0, 59, 10, per_epoch) == learning_rate(1.0, 50, 10, config)


def test_new_parts_keep_the_proportion() -> None:
    config = TrainConfig(epochs=10, warmup_epochs=2, lr=1e-3, warmup_lr=1e-5, min_lr=1e-4)
    for step in (0, 5, 30, 99):
        assert learning_rate(1e-2, step, 10, config) == pytest.approx(10 * learning_rate(1e-3, step, 10, config))


def test_the_floor_is_no_higher_than_the_peak() -> None:
    config = TrainConfig(epochs=10, warmup_epochs=2, lr=1e-6, warmup_lr=1e-5, min_lr=1e-4)
    assert {learning_rate(1e-6, step, 10, config) for step in range(100)} == {1e-6}


def test_the_optimiser_takes_its_groups() -> None:
    layer = torch.nn.Linear(3, 2)
    config = TrainConfig(lr=1e-3, weight_decay=0.07)
    optimiser = build_optimiser(parameter_groups(layer, config))
    assert isinstance(optimiser, torch.optim.AdamW)
    assert [(group["peak_lr"], group["weight_decay"], len(group["params"])) for group in optimiser.param_groups] == [
        (1e-3, 0.07, 1),
        (1e-3, 0.0, 1),
    ]


def test_the_pipeline_gives_every_parameter_its_rate_and_decay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/method.md has it: all decay but 1-D tensors and the CLS token; what is new may learn faster."""
    steps: list[CTIStep] = []
    groups: list[dict[str, Any]] = []

    class Spy(torch.optim.AdamW):
        def __init__(self, given: Any, **options: Any) -> None:
            groups.extend(given)
            super().__init__(given, **options)

    built = CTIStep.__init__

    def remember(step: CTIStep, *arguments: Any, **options: Any) -> None:
        built(step, *arguments, **options)
        steps.append(step)

    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    monkeypatch.setattr(CTIStep, "__init__", remember)
    settings = {"stages": "[train]", "train__new_lr_factor": "10", "train__weight_decay": "0.05"}
    pipeline.run(tiny_config(tiny_shapes(tmp_path / "shapes"), tmp_path / "run", **settings))

    (step,) = steps
    found = {id(p): (group["peak_lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(found) == sum(len(group["params"]) for group in groups)  # each in one group only
    new = ("model.class_tokens.mlp.", "model.class_tokens.bg_token", "model.patch_head.")
    for name, parameter in step.named_parameters():
        if name.startswith("model.backbone.norm."):
            assert id(parameter) not in found  # plays no part
        else:
            decays = parameter.ndim > 1 and name != "model.class_tokens.cls_token"
            expected = (1e-2 if name.startswith(new) else 1e-3, 0.05 if decays else 0.0)
            assert found[id(parameter)] == (pytest.approx(expected[0]), expected[1]), name
    assert sum(name.startswith(new) for name, _ in step.named_parameters()) == 7
