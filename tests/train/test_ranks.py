"""Several processes train what one does: step by step, when they are killed, and when others start them."""

import json
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from logging.handlers import QueueHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.multiprocessing.spawn import ProcessExitedException

from cti.cli import main
from cti.config import RuntimeConfig, SegmentTrainConfig
from cti.method.checkpoint import load_model
from cti.train import ranks
from cti.train.fit import STATE, fit
from cti.train.optimiser import parameter_groups
from cti.train.ranks import check_batch_size, on_all, processes
from recording import CONFIG, Broken, Noise, cti_step, job, record, segmentation_step
from tiny import options, tiny_shapes

RUNTIME = RuntimeConfig(workers=0, checkpoint_every=1, accelerator="cpu", devices=1)
TWO = replace(RUNTIME, devices=2)
STEPS = {
    "per_class": lambda: cti_step(bank_size=5, gate="per_class"),  # so that classes are ready one after the other
    "all": lambda: cti_step(gate="all", start_epoch=1),
    "segmenter": segmentation_step,
}


def close(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(actual, expected, rtol=1e-9, atol=1e-13)


def near(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    """After many steps: AdamW makes something of gradients that are mere rounding, as those of key biases are."""
    return torch.allclose(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    """In float64: losses, gradients, weights and the bank of every step, with batches of 2 x 2 and of 1 x 4."""
    half = job(STEPS["per_class"](), tmp_path / "resumed-2", CONFIG, RUNTIME, Noise(dies_after=17))
    with pytest.raises(KeyboardInterrupt):
        on_all(record, {"half": half}, RUNTIME, "64")
    for runtime in (RUNTIME, TWO):
        jobs = {
            name: job(step(), tmp_path / f"{name}-{runtime.devices}", CONFIG, runtime, Noise())
            for name, step in STEPS.items()
        }
        # One photo per process: often only one of them has a class that is ready. Gradients of two steps are averaged.
        jobs["accumulated"] = job(
            cti_step(bank_size=3, gate="per_class"),
            tmp_path / f"accumulated-{runtime.devices}",
            replace(CONFIG, batch_size=2, accumulate=2),
            runtime,
            Noise(),
        )
        more = {} if runtime is RUNTIME else {"resumed": replace(half, runtime=TWO, dataset=Noise())}
        on_all(record, jobs | more, runtime, "64")
    begun_by_one, alone = (torch.load(tmp_path / name / STATE)["module"] for name in ("resumed-2", "per_class-1"))
    assert all(close(begun_by_one[key], value) for key, value in alone.items())
    for name in jobs:
        one, two = tmp_path / f"{name}-1" / "steps", tmp_path / f"{name}-2" / "steps"
        steps = len(list(one.iterdir()))
        assert steps == (8 if name == "accumulated" else 6)  # in two epochs of 14 photos
        assert len(list(two.iterdir())) == 2 * steps
        seen: set[str] = set()
        for step in range(steps):
            whole = torch.load(one / f"{step}-0.pt")
            parts = [torch.load(two / f"{step}-{rank}.pt") for rank in (0, 1)]
            for place, losses in enumerate(whole["losses"]):
                seen |= set(losses)
                for loss, value in losses.items():
                    mean = sum(part["losses"][place][loss] for part in parts) / 2
                    # The segmenter's accuracy is in single precision.
                    assert float(mean) == pytest.approx(float(value), rel=1e-6 if name == "segmenter" else 1e-10), loss
            for part in parts:
                for kind in ("gradients", "state"):
                    assert part[kind].keys() == whole[kind].keys()
                    assert all(close(part[kind][key], value) for key, value in whole[kind].items()), (name, kind, step)
            assert all(torch.equal(value, parts[1]["state"][key]) for key, value in parts[0]["state"].items())
        assert name == "segmenter" or "loss/cross" in seen


def test_averaged_gradients_are_those_of_the_larger_batch(tmp_path: Path) -> None:
    """Where losses are means over photos: not the cross loss, which sees more of the bank after every part."""
    for name, step in (("cti", lambda: cti_step(cross_weight=0)), ("segmenter", segmentation_step)):
        final = []
        for size, accumulate in ((8, 1), (4, 2)):
            config = replace(CONFIG, batch_size=size, accumulate=accumulate, schedule_per="epoch")
            made = job(step(), tmp_path / f"{name}-{size}", config, RUNTIME, Noise(16, labelled=True))
            on_all(record, {"one": made}, RUNTIME, "64")
            final.append(made.step.state_dict())
        assert all(close(final[1][key], value) for key, value in final[0].items()), name


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the processes in /proc")
def test_a_killed_process_ends_the_others_and_another_number_goes_on(tmp_path: Path) -> None:
    """Two are killed, one goes on to the end: it is what one alone would have come to."""
    photos = tiny_shapes(tmp_path / "shapes")
    more = {"train__precision": "64", "train__epochs": "30", "runtime__checkpoint_every": "1"}
    killed, alone = (["train", *options(photos, tmp_path / name, **more)] for name in ("killed", "alone"))
    run = start([*killed, "--runtime.devices", "2"])
    state = tmp_path / "killed" / "train" / STATE
    wait_for(run, state)
    os.kill(children_of(run.pid)[1], signal.SIGKILL)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 1, said
    assert "was ended by SIGKILL, and the others with it; call the command again to go on" in " ".join(said.split())
    assert "Traceback" not in said
    assert not children_of(run.pid)
    assert 0 < torch.load(state)["progress"]["step"] < 60

    assert main(killed) == main(alone) == 0
    ends = [torch.load(tmp_path / name / "train" / STATE) for name in ("killed", "alone")]
    assert ends[0]["progress"]["step"] == ends[1]["progress"]["step"] == 60
    assert all(near(ends[0]["module"][name], value) for name, value in ends[1]["module"].items())


@pytest.mark.slow
def test_torchrun_starts_the_command_and_all_but_training_is_done_once(tmp_path: Path) -> None:
    photos = tiny_shapes(tmp_path / "shapes")
    words = options(photos, tmp_path / "two", train__precision="64", segment__train__precision="64")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cti"]
    done = start(["run", *words, "--runtime.devices", "auto", "--json"], torchrun, stdout=subprocess.PIPE)
    out, said = done.communicate(timeout=240)
    assert done.returncode == 0, said
    assert set(json.loads(out)) >= {"train", "segment"}  # one object, of the first process
    assert said.count("Made:") == 1
    assert main(["train", *options(photos, tmp_path / "one", train__precision="64")]) == 0
    ends = [torch.load(tmp_path / name / "train" / STATE) for name in ("one", "two")]
    assert "others_random" in ends[1]
    assert all(near(ends[1]["module"][name], value) for name, value in ends[0]["module"].items())


@pytest.mark.slow
def test_tasks_of_srun_train_together(tmp_path: Path) -> None:
    photos = tiny_shapes(tmp_path / "shapes")
    words = ["train", *options(photos, tmp_path / "run", runtime__devices="2")]
    said = {
        "STEP_NUM_TASKS": "2",
        "STEP_NUM_NODES": "1",
        "STEP_NODELIST": "localhost",
        "JOB_ID": "777123",
        "NODEID": "0",
    }
    tasks = [start(words, more=said | {"PROCID": rank, "LOCALID": rank}) for rank in ("0", "1")]
    heard = [task.communicate(timeout=120)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], heard
    assert "tag mAP" in heard[0]
    assert "tag mAP" not in heard[1]
    assert "others_random" in torch.load(tmp_path / "run" / "train" / STATE)


@pytest.mark.slow
def test_what_goes_wrong_in_any_process_is_said_once(tmp_path: Path) -> None:
    step = Broken(rank=1)
    with pytest.raises(ValueError, match="the other one cannot go on"):
        fit(step, Noise(), CONFIG, tmp_path, parameter_groups(step, CONFIG), TWO)


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path: Path) -> None:
    step = cti_step()
    sentence = r"train\.batch_size is 4, which 3 devices cannot share evenly; give a multiple of 3"
    with pytest.raises(ValueError, match=sentence):
        fit(step, Noise(), CONFIG, tmp_path / "run", parameter_groups(step, CONFIG), replace(TWO, devices=3))
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"segment\.train\.batch_size is 5, which 2 devices"):
        check_batch_size(SegmentTrainConfig(batch_size=5), TWO)


def test_it_is_refused_before_the_first_stage_and_not_where_nothing_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tiny_shapes(tmp_path / "shapes")
    more = {"runtime__devices": "3", "model__patch_features": "two"}
    assert main(["run", *options(photos, tmp_path / "a", **more)]) == 1
    assert "train.batch_size is 4, which 3 devices" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
    assert main(["train", *options(photos, tmp_path / "b", **more, train__warm_start="on")]) == 1
    assert not (tmp_path / "b").exists()  # not even a first look
    assert main(["train", *options(photos, tmp_path / "c", **more, train__warm_start="only")]) == 0


@pytest.mark.parametrize("class_tokens", ["each", "as_one"])
def test_a_training_in_float64_is_validated_and_kept_like_any_other(tmp_path: Path, class_tokens: str) -> None:
    photos = tiny_shapes(tmp_path / "shapes")
    more = {"train__precision": "64", "train__warm_start": "on", "model__patch_features": "two"}
    assert main(["train", *options(photos, tmp_path / "run", **more, model__class_tokens=class_tokens)]) == 0
    state = torch.load(tmp_path / "run" / "train" / STATE)
    assert state["module"]["model.patch_head.weight"].dtype == torch.float64
    assert state["progress"]["validation"]["tag_map"] > 0
    model, _ = load_model(tmp_path / "run" / "train")
    assert model.patch_head.weight.dtype == torch.float32


@pytest.mark.parametrize("devices", [0, "some"])
def test_devices_that_there_are_not_are_refused(devices: int | str) -> None:
    with pytest.raises(ValueError, match=rf"runtime\.devices is {devices}, which cannot be had here"):
        processes(replace(RUNTIME, devices=devices))


def test_other_machines_are_not_waited_for_unless_something_starts_them() -> None:
    with pytest.raises(ValueError, match=r"runtime\.nodes is 2, but nothing has started processes there; use torchrun"):
        processes(replace(RUNTIME, nodes=2))


def test_batch_norms_are_computed_together_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    ranks.check_batch_norms(network, RUNTIME)
    ranks.check_batch_norms(network[0], TWO)
    with pytest.raises(ValueError, match="batch norms, which processes on CPUs cannot compute together"):
        ranks.check_batch_norms(network, TWO)
    with pytest.raises(ValueError, match="batch norms, which processes on CPUs cannot compute together"):
        fit(network, Noise(), CONFIG, tmp_path / "run", parameter_groups(network, CONFIG), TWO)
    assert not (tmp_path / "run").exists()
    assert ranks.synchronised(network) is network
    assert not isinstance(network[1], nn.SyncBatchNorm)  # one process computes its own
    monkeypatch.setattr(ranks, "together", lambda: 2)
    weight = network[1].weight
    synchronised = ranks.synchronised(network)
    assert isinstance(synchronised[1], nn.SyncBatchNorm)
    assert synchronised[1].weight is weight  # the one that the optimiser has


def _environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """A copy of the environment, with these variables, that a test may change."""
    monkeypatch.setattr(os, "environ", {**os.environ, **variables})


@pytest.fixture
def _quiet() -> Iterator[None]:
    """Loggers are as before when the test is over."""
    root, logger = logging.getLogger(), logging.getLogger("cti")
    level = logger.level
    yield
    logger.setLevel(level)
    for handler in [handler for handler in root.handlers if isinstance(handler, QueueHandler)]:
        root.removeHandler(handler)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, _quiet: None) -> list[str]:
    """What `_started` does in its own process can be done in this one; says when processes met and parted."""
    met: list[str] = []
    _environment(monkeypatch)
    monkeypatch.setattr(ranks, "_join", lambda: met.append("joined as " + os.environ["RANK"]))
    monkeypatch.setattr(ranks.dist, "destroy_process_group", lambda: met.append("parted"))
    monkeypatch.setattr(ranks, "_fabric", lambda runtime, precision: (runtime, precision))
    return met


def _answer(fabric: object, job: object) -> object:
    if isinstance(job, Exception):
        raise job
    return fabric, job


@pytest.mark.parametrize("rank", [0, 1])
def test_a_started_process_knows_its_place_and_the_first_one_answers(
    rank: int, tmp_path: Path, alone: list[str]
) -> None:
    (tmp_path / "work").write_bytes(pickle.dumps((_answer, "job", RUNTIME, "64")))
    ranks._started(rank, 3, 5555, tmp_path, queue.SimpleQueue(), logging.WARNING)
    expected = {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "WORLD_SIZE": "3",
                "LOCAL_WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "5555"}  # fmt: skip
    assert expected.items() <= os.environ.items()
    assert alone == [f"joined as {rank}", "parted"]
    first = rank == 0
    assert (tmp_path / "work").is_file() != first  # removed once, after all have read it
    assert (tmp_path / "answer").is_file() == first
    if first:
        assert pickle.loads((tmp_path / "answer").read_bytes()) == ((RUNTIME, "64"), "job")
    assert logging.getLogger("cti").level == (logging.WARNING if first else logging.CRITICAL)
    assert any(isinstance(handler, QueueHandler) for handler in logging.getLogger().handlers) == first


def test_the_first_error_of_a_started_process_is_kept(tmp_path: Path, alone: list[str]) -> None:
    for rank, error in ((1, ValueError("first")), (2, OSError("second"))):
        (tmp_path / "work").write_bytes(pickle.dumps((_answer, error, RUNTIME, "64")))
        with pytest.raises(SystemExit):
            ranks._started(rank, 3, 5555, tmp_path, None, logging.WARNING)
    assert str(pickle.loads((tmp_path / "error").read_bytes())) == "first"
    assert not (tmp_path / "answer").exists()


@pytest.mark.parametrize(
    ("initialised", "message", "kind"),
    [
        (True, "[gloo] Connection closed by peer", ChildProcessError),
        (True, "NCCL error", ChildProcessError),
        (True, "shapes do not match", RuntimeError),
        (False, "gloo", RuntimeError),
    ],
)
def test_a_lost_process_is_told_from_an_error_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, alone: list[str], initialised: bool, message: str, kind: type[Exception]
) -> None:
    monkeypatch.setattr(ranks.dist, "is_initialized", lambda: initialised)
    with pytest.raises(kind) as caught:
        ranks._call(_answer, RuntimeError(message), RUNTIME, "32")
    assert ("Another process" in str(caught.value)) == (kind is ChildProcessError)


@pytest.mark.parametrize(
    ("codes", "error", "kind", "sentence"),
    [
        ((0, 0), None, None, ""),
        ((-15, -9), None, ChildProcessError, "Process 1 of the 2 that trained was ended by SIGKILL"),
        ((-15, 1), ValueError("the second cannot go on"), ValueError, "the second cannot go on"),
        ((-15, 1), None, ProcessExitedException, "ended"),
    ],
)
def test_how_started_processes_ended(
    monkeypatch: pytest.MonkeyPatch, codes: tuple[int, int], error: Any, kind: Any, sentence: str
) -> None:
    done: list[str] = []
    processes = [
        SimpleNamespace(exitcode=code, terminate=lambda: done.append("terminate"), join=lambda: done.append("join"))
        for code in codes
    ]

    def start(function: Any, given: tuple[Any, ...], count: int, join: bool, start_method: str) -> Any:
        folder = given[2]
        assert (function, given[0], count, join, start_method) == (ranks._started, 2, 2, False, "spawn")
        assert pickle.loads((folder / "work").read_bytes()) == ("the", "work")
        turns = iter((False, True))

        def wait() -> bool:
            if any(codes):
                if error is not None:
                    (folder / "error").write_bytes(pickle.dumps(error))
                raise ProcessExitedException("ended", 1, 1, 1)
            (folder / "answer").write_bytes(pickle.dumps("answer"))
            return next(turns)

        return SimpleNamespace(processes=processes, join=wait)

    monkeypatch.setattr(ranks, "start_processes", start)
    if kind is None:
        assert ranks._start(2, ("the", "work")) == "answer"
    else:
        with pytest.raises(kind, match=sentence):
            ranks._start(2, ("the", "work"))
    assert done == ["terminate"] * 2 + ["join"] * 2


def test_what_torchrun_has_started_must_be_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    _environment(monkeypatch, LOCAL_WORLD_SIZE="4")
    monkeypatch.setattr(ranks, "_control", object())
    monkeypatch.setattr(ranks.dist, "get_world_size", lambda: 8)
    asked = RuntimeConfig(devices="auto")
    assert processes(asked) == processes(replace(asked, devices=4, nodes=2)) == processes(replace(asked, nodes=0)) == 8
    assert ranks.runs_here(asked)
    assert processes(replace(asked, devices=-1)) == 8
    with pytest.raises(ValueError, match=r"runtime\.devices is 8, but 4 were started; give 4"):
        processes(replace(asked, devices=8))
    with pytest.raises(ValueError, match=r"runtime\.nodes is 3, but 2 were started; give 2"):
        processes(replace(asked, nodes=3))


def test_this_process_trains_where_it_is_the_only_one() -> None:
    assert processes(RUNTIME) == 1
    assert ranks.runs_here(RUNTIME)
    assert processes(TWO) == 2
    assert not ranks.runs_here(TWO)


def test_work_is_handed_to_the_others_or_to_new_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    monkeypatch.setattr(ranks, "_hand_over", lambda work: done.append(("handed over", *work)))
    monkeypatch.setattr(ranks, "_call", lambda *work: done.append(("called", *work)) or "mine")
    monkeypatch.setattr(ranks, "_start", lambda count, work: done.append(("started", count, *work)) or "theirs")
    work = (_answer, "job", RUNTIME, "64")
    assert on_all(*work) == "mine"
    assert on_all(_answer, "job", TWO, "64") == "theirs"
    assert done == [("called", *work), ("started", 2, _answer, "job", TWO, "64")]
    done.clear()
    monkeypatch.setattr(ranks, "_control", object())
    assert on_all(*work) == "mine"  # and the others do the same
    assert done == [("handed over", *work), ("called", *work)]


@pytest.mark.parametrize(
    ("started", "control", "devices"), [(False, False, 3), (True, False, 3), (True, True, 2)], ids=str
)
def test_each_process_has_its_device(
    monkeypatch: pytest.MonkeyPatch, started: bool, control: bool, devices: int
) -> None:
    """Buffers are kept equal by who changes them; what torchrun has started on this machine is all it has."""
    given: dict[str, Any] = {}

    def fabric(**settings: Any) -> Any:
        given.update(settings)
        return SimpleNamespace(launch=lambda: given.update(launched=True))

    _environment(monkeypatch, LOCAL_WORLD_SIZE="2")
    monkeypatch.setattr(ranks, "Fabric", fabric)
    monkeypatch.setattr(ranks, "DDPStrategy", lambda **buffers: buffers)
    monkeypatch.setattr(ranks, "TorchElasticEnvironment", lambda: "elastic")
    monkeypatch.setattr(ranks, "_device_type", lambda runtime: "cpu")
    monkeypatch.setattr(ranks, "_control", object() if control else None)
    monkeypatch.setattr(ranks.dist, "is_initialized", lambda: started)
    monkeypatch.setattr(ranks.dist, "get_world_size", lambda: 6)
    ranks._fabric(replace(RUNTIME, devices=3), "64")
    more = {"num_nodes": 3, "strategy": {ranks._BUFFERS: False}, "plugins": ["elastic"]} if started else {}
    expected = {"accelerator": "cpu", "devices": devices, "precision": "64-true", "launched": True}
    assert given == expected | more


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda", "cpu:gloo,cuda:nccl")])
def test_processes_meet_over_gloo_and_over_what_suits_their_devices(
    monkeypatch: pytest.MonkeyPatch, device: str, backend: str
) -> None:
    met: list[str] = []
    _environment(monkeypatch, WORLD_SIZE="6")
    os.environ.pop("LOCAL_WORLD_SIZE", None)
    monkeypatch.setattr(ranks, "default_device", lambda: torch.device(device))
    monkeypatch.setattr(ranks.dist, "init_process_group", met.append)
    ranks._join()
    assert (met, os.environ["LOCAL_WORLD_SIZE"]) == ([backend], "6")  # all on one machine, if nobody says otherwise
    os.environ["LOCAL_WORLD_SIZE"] = "2"
    ranks._join()
    assert os.environ["LOCAL_WORLD_SIZE"] == "2"


def test_the_first_process_is_followed_until_there_is_no_more_work(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = [(1, 2), (3,), None]
    done: list[tuple[object, ...]] = []

    def broadcast(objects: list[object], src: int, group: object, device: torch.device) -> None:
        assert (src, group, device.type) == (0, "control", "cpu")
        objects[0] = sent.pop(0)

    monkeypatch.setattr(ranks, "_control", "control")
    monkeypatch.setattr(ranks.dist, "broadcast_object_list", broadcast)
    monkeypatch.setattr(ranks, "_call", lambda *work: done.append(work))
    ranks._follow()
    assert done == [(1, 2), (3,)]
    assert not sent
    monkeypatch.setattr(ranks.dist, "broadcast_object_list", lambda *_, **__: exec("raise RuntimeError"))
    with pytest.raises(ChildProcessError, match="The first process of this training has ended"):
        ranks._follow()


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("rank", [0, 1])
def test_processes_that_something_started_meet_and_part(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    monkeypatch.setattr(ranks, "_understand_slurm", lambda: done.append("srun"))
    monkeypatch.setattr(ranks, "_join", lambda: done.append("join"))
    monkeypatch.setattr(ranks, "_follow", lambda: done.append("follow"))
    monkeypatch.setattr(ranks, "_hand_over", lambda work: done.append(work))
    monkeypatch.setattr(ranks.dist, "new_group", lambda backend, timeout: (backend, timeout.days >= 1))
    monkeypatch.setattr(ranks.dist, "get_rank", lambda: rank)
    monkeypatch.setattr(ranks.dist, "destroy_process_group", lambda: done.append("part"))
    logging.getLogger("cti").setLevel(logging.NOTSET)
    with ranks.with_the_others() as first:
        assert first == (rank == 0)
        assert ranks._control == ("gloo", True)
        done.append("body")
    assert done == (["srun", "join", "body", None, "part"] if first else ["srun", "join", "follow", "body", "part"])
    assert ranks._control is None
    assert (logging.getLogger("cti").level == logging.CRITICAL) == (rank > 0)


def test_tasks_that_do_not_fill_their_nodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"SLURM_STEP_NUM_TASKS": "7", "SLURM_STEP_NUM_NODES": "2"}
    without = {name: value for name, value in os.environ.items() if name != "RANK"}
    monkeypatch.setattr(os, "environ", without | said)
    with pytest.raises(ValueError, match="srun started 7 tasks on 2 nodes"):
        ranks._understand_slurm()


def test_srun_is_asked_only_where_nothing_else_has_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    without = {name: value for name, value in os.environ.items() if name != "RANK" and not name.startswith("MASTER_")}
    for said in ({"RANK": "3", "SLURM_STEP_NUM_TASKS": "1", **places}, places):
        monkeypatch.setattr(os, "environ", without | said)
        ranks._understand_slurm()
        assert os.environ == without | said
    # One node of this machine, if it says no more; an address that was given stays.
    monkeypatch.setattr(os, "environ", without | places | {"SLURM_STEP_NUM_TASKS": "4", "MASTER_PORT": "77"})
    ranks._understand_slurm()
    found = [os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT", "LOCAL_WORLD_SIZE", "WORLD_SIZE", "RANK")]
    assert found == ["127.0.0.1", "77", "4", "4", "0"]
    monkeypatch.setattr(os, "environ", without | places | {"SLURM_STEP_NUM_TASKS": "4"})
    ranks._understand_slurm()
    assert os.environ["MASTER_PORT"] == "15000"


def test_what_srun_says_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "GROUP_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    said = {"STEP_NUM_TASKS": "8", "STEP_NUM_NODES": "2", "STEP_NODELIST": "gpu[07-08]", "JOB_ID": "123456",
            "PROCID": "5", "LOCALID": "1", "NODEID": "1"}  # fmt: skip
    for name, value in said.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    ranks._understand_slurm()
    found = {name: os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "GROUP_RANK", "LOCAL_WORLD_SIZE")}
    assert found == {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "GROUP_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("gpu07", "18456")


def start(
    words: list[str],
    before: Sequence[str] = ("-m", "cti"),
    stdout: int = subprocess.DEVNULL,
    more: Mapping[str, str] | None = None,
) -> "subprocess.Popen[str]":
    """Start `cti WORDS` with the package that is tested, and with more variables of SLURM."""
    places = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    environment |= {f"SLURM_{name}": value for name, value in (more or {}).items()}
    command = [sys.executable, *before, *words]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for(process: "subprocess.Popen[str]", path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.is_file():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    """The processes that train, in the order of their ranks."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            command = (folder / "cmdline").read_text()
        except (OSError, IndexError):
            continue
        if parent == str(pid) and "spawn_main" in command:
            found.append(int(folder.name))
    return sorted(found)
