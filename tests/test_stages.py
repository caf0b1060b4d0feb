"""Stages: finished ones are not redone, other settings are refused, half a stage never counts as a whole one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cti.config import Config, TrainConfig
from cti.files import read_json, read_manifest, write_json
from cti.settings import load_config
from cti.stages import SETTINGS, run_stage, settings_of


class Body:
    """Counts how often it runs."""

    def __init__(self, fails: bool = False) -> None:
        self.runs, self.fails = 0, fails

    def __call__(self, folder: Path) -> dict[str, Any]:
        self.runs += 1
        (folder / "work.txt").write_text("some")
        if self.fails:
            raise KeyboardInterrupt
        return {"run": self.runs}


def run(config: Config, body: Body, repeatable: bool = False) -> dict[str, Any]:
    return run_stage(config, "train", settings_of(config, ("train",)), body, repeatable=repeatable)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(out=str(tmp_path / "run"))


def test_a_finished_stage_is_not_done_again(config: Config) -> None:
    body = Body()
    assert run(config, body) == run(config, body) == {"run": 1}
    assert body.runs == 1


def test_a_stage_leaves_its_configuration_and_the_runs(config: Config) -> None:
    run(config, Body())
    assert load_config(Path(config.out) / "train") == load_config(config.out) == config
    manifest = read_manifest(Path(config.out) / "train")
    assert manifest is not None
    assert manifest["stage"] == "train"
    assert manifest["seconds"] >= 0


def test_an_unfinished_stage_goes_on_in_its_folder(config: Config) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(config, Body(fails=True))
    assert read_manifest(Path(config.out) / "train") is None
    assert run(config, Body()) == {"run": 1}


def test_other_settings_are_refused_and_shown(config: Config) -> None:
    run(config, Body())
    other = replace(config, train=TrainConfig(lr=1e-3))
    with pytest.raises(ValueError, match=r"train\.lr: 6\.25e-05 there, 0\.001 now.*--out"):
        run(other, Body())


def test_other_settings_are_refused_in_an_unfinished_stage_too(config: Config) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(config, Body(fails=True))
    with pytest.raises(ValueError, match="other settings"):
        run(replace(config, train=TrainConfig(lr=1e-3)), Body())


def test_what_changes_no_result_may_change(config: Config) -> None:
    body = Body()
    run(config, body)
    moved = replace(config, train=TrainConfig(workers=3, checkpoint_every=7))
    assert run(moved, body) == {"run": 1}
    assert body.runs == 1


def test_a_repeatable_stage_is_done_again_when_its_settings_change(config: Config) -> None:
    body = Body()
    run(config, body, repeatable=True)
    other = replace(config, train=TrainConfig(lr=1e-3))
    assert run(other, body, repeatable=True) == {"run": 2}
    assert run(other, body, repeatable=True) == {"run": 2}


def test_a_stopped_repetition_does_not_pass_off_the_old_result(config: Config) -> None:
    run(config, Body(), repeatable=True)
    other = replace(config, train=TrainConfig(lr=1e-3))
    with pytest.raises(KeyboardInterrupt):
        run(other, Body(fails=True), repeatable=True)
    body = Body()
    run(other, body, repeatable=True)
    assert body.runs == 1


def test_settings_that_come_and_go_do_not_orphan_a_folder(tmp_path: Path) -> None:
    config = Config(out=str(tmp_path))
    settings = settings_of(config, ["model"])
    run_stage(config, "stage", settings, lambda folder: {"value": 1})
    stored = read_json(tmp_path / "stage" / SETTINGS)
    del stored["model"]["stem"]  # as if written by a version that had no such setting
    stored["model"]["forgotten"] = 1  # and another one that has gone since
    write_json(tmp_path / "stage" / SETTINGS, stored)
    assert run_stage(config, "stage", settings, lambda folder: {"value": 2}) == {"value": 1}
    other = settings_of(replace(config, model=replace(config.model, backbone="vit", stem="conv")), ["model"])
    with pytest.raises(ValueError, match="stem: 'patch' there, 'conv' now"):
        run_stage(config, "stage", other, lambda folder: {"value": 3})
