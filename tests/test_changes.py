"""A run that is changed: what still fits stays, what does not is made again, and both are said."""

import csv
import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load

from cti import pipeline
from cti.cli import main
from cti.config import Config
from cti.data.fingerprint import DataRecord, PhotoChange
from cti.data.images import load_mask, save_mask
from cti.data.review import Entry, write_entries
from cti.files import read_json, read_manifest, write_json, write_text
from cti.method.checkpoint import load_model
from cti.run import FOLDERS, Run
from cti.run.changes import (
    Action,
    Change,
    Made,
    compare,
    more_epochs,
    nothing_trained,
    on_other_photos,
    sentence,
)
from cti.run.stage_folder import damaged_files
from tiny import options, tiny_config, tiny_shapes

SOME, MORE = 12, 16
ACTIONS: tuple[Action, ...] = get_args(Action)
LOOK = {"stages": "[first_look, train, seeds, masks, segment, evaluate]", "train__warm_start": "only"}


SAME = DataRecord({"train": ("a",)}, {"a": ("0f", ("cat",))})
OTHER = DataRecord({"train": ("a", "b")}, {"a": ("0f", ("dog",)), "b": ("1f", ())}, {"a": "mark"})


def test_differences_are_told_by_the_names_of_settings() -> None:
    before = Made({"train": {"lr": 0.1, "deep": {"x": 1, "y": 2}}, "network": "0f", "gone": None, "z": 1}, SAME)
    now = Made({"train": {"lr": 0.1, "deep": {"x": 1, "y": 3}}, "network": "1f", "made": {"masks": 7}, "z": 1}, OTHER)
    change = compare(before, now, untrained=False)
    assert change.settings == {
        "made": (None, {"masks": 7}), "network": ("0f", "1f"), "train.deep.y": (2, 3),
    }  # fmt: skip
    assert change.photos == PhotoChange(added=("b",), retagged=("a",), reviewed=("a",))
    assert not compare(before, before, False)
    assert compare(before, replace(before, photos=OTHER), False)
    assert compare(before, replace(before, settings={}), False)
    untrained = compare(before, replace(now, settings=now.settings | {"train": {"lr": 5, "seed": 1}}), untrained=True)
    assert untrained.settings.keys() == {"made", "network", "train.seed"}


def test_a_change_is_said_in_words() -> None:
    settings = {"train.lr": (0.1, "high"), "network": ("0f", "1f"), "truth": (1, 2), "made.masks": (1, 2)}
    said = (
        "train.lr: 0.1 there, 'high' now; the network of train is another one; the true masks are others; "
        "masks is a new one"
    )
    assert str(Change(settings)) == said
    assert str(Change(settings, PhotoChange(added=("b",)))) == f"{said}; 1 photo added"
    assert str(Change(photos=PhotoChange(added=("b",)))) == "1 photo added"
    change = Change({"masks.x": (1, 2)})
    assert [sentence("seeds", action, change, 1).removeprefix("masks.x: 1 there, 2 now: ") for action in ACTIONS] == [
        "made again",
        "the network stays as it is (--retrain trains it again)",
        "seeds of 1 photo are made, the others stay",
        "the segmenter goes on from its weights (--retrain begins anew)",
        "training goes on",
        "made again",
    ]
    assert "masks of 2 photos are made" in sentence("masks", "by photo", change, 2)


@pytest.mark.parametrize(
    ("stage", "then", "now", "trained", "more"),
    [
        ("train", 1, 3, None, True),
        ("train", 3, 3, None, False),
        ("train", 3, 1, None, False),
        ("segment", 0, 30, 20, True),  # 0 = by the number of photos, which were 20 then
        ("segment", 0, 20, 20, False),
        ("segment", 0, 30, None, False),  # nobody knows
        ("segment", 20, 0, None, False),
        ("masks", 1, 3, None, False),
    ],
)
def test_more_epochs_are_more_than_were_trained(
    stage: str, then: int, now: int, trained: int | None, more: bool
) -> None:
    name = "train.epochs" if stage == "train" else "segment.train.epochs"
    manifest = {"result": {"fit": {"epochs": trained}}} if trained else None
    change = Change({name: (then, now)})
    assert more_epochs(stage, change, manifest) is more
    assert not more_epochs(stage, replace(change, photos=PhotoChange(added=("a",))), manifest)
    assert not more_epochs(stage, Change({**change.settings, "train.lr": (1, 2)}), manifest)
    assert not more_epochs("segment" if stage == "train" else "train", change, manifest)


def test_nothing_was_trained_where_no_step_was_taken() -> None:
    assert nothing_trained({"result": {"fit": {"steps": 0}}})
    for manifest in ({"result": {"fit": {"steps": 1}}}, {"result": {"fit": None}}, {"result": {}}, {}, None):
        assert not nothing_trained(manifest)


@pytest.mark.parametrize(
    ("stage", "finished", "retrain", "affinity", "stays", "action"),
    [
        ("seeds", True, True, True, True, "by photo"),
        ("masks", True, True, False, False, "by photo"),
        ("masks", True, False, True, False, "again"),  # learned affinity depends on all photos
        ("first_look", True, False, False, True, "keep"),
        ("train", True, False, False, True, "keep"),
        ("train", True, False, False, False, "again"),
        ("train", True, True, False, True, "again"),
        ("train", False, False, False, True, "again"),
        ("segment", True, False, False, True, "from weights"),
        ("segment", False, False, False, True, "again"),
        ("segment", True, True, False, False, "again"),
        ("evaluate", True, False, False, True, "again"),
    ],
)
def test_what_becomes_of_a_stage_on_other_photos(
    stage: str, finished: bool, retrain: bool, affinity: bool, stays: bool, action: str
) -> None:
    assert on_other_photos(stage, finished, retrain, affinity, stays) == action


@pytest.mark.parametrize(
    ("change", "review"),
    [
        (Change(photos=PhotoChange(reviewed=("b",))), True),
        (Change(photos=PhotoChange(retagged=("a",))), True),
        (Change(photos=PhotoChange(retagged=("a", "b"))), False),  # nobody said anything of b
        (Change(photos=PhotoChange(reviewed=("a",), added=("c",))), False),
        (Change({"network": (1, 2)}, PhotoChange(reviewed=("a",))), True),  # which follows from it
        (Change({"network": (1, 2)}), False),
        (Change({"network": (1, 2), "train.lr": (1, 2)}, PhotoChange(reviewed=("a",))), False),
    ],
)
def test_a_change_by_the_review_alone(change: Change, review: bool) -> None:
    assert change.is_review({"a"}) is review


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_shapes(tmp_path_factory.mktemp("drawn") / "shapes", MORE)


def write_photos(drawn: Path, root: Path, count: int, tags: dict[str, str] | None = None) -> Path:
    """The first photos of a set, and their tags, without lists or masks; `tags` replaces some."""
    with (drawn / "labels.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))[:count]
    (root / "images").mkdir(parents=True, exist_ok=True)
    for row in rows:
        shutil.copyfile(drawn / "images" / row["image"], root / "images" / row["image"])
    changed = {row["image"]: (tags or {}).get(row["image"], row["tags"]) for row in rows}
    write_text(root / "labels.csv", "image,tags\n" + "".join(f"{name},{found}\n" for name, found in changed.items()))
    shutil.copyfile(drawn / "classes.txt", root / "classes.txt")
    return root


def config_of(root: Path, out: Path, **more: str) -> Config:
    return tiny_config(root, out, data__val_fraction="0.4", masks__steps="[pamr]", **more)


@pytest.fixture(scope="module")
def finished(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos` and a finished `run`."""
    folder = tmp_path_factory.mktemp("finished")
    pipeline.run(config_of(write_photos(drawn, folder / "photos", SOME), folder / "run"))
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "copy")  # with times
    return tmp_path / "copy"


def overwrite(config: Config, **more: Any) -> Config:
    return replace(config, runtime=replace(config.runtime, overwrite=True, **more))


def times(folder: Path, pattern: str = "*") -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob(pattern) if path.is_file()}


def remade(before: dict[str, int], folder: Path, pattern: str) -> set[str]:
    return {Path(name).stem for name, time in times(folder, pattern).items() if before.get(name) != time}


def check_sealed(run: Path) -> None:
    for stage in FOLDERS:
        if (manifest := read_manifest(run / stage)) is not None:
            assert not damaged_files(run / stage, manifest["files"])


def test_photos_added_and_a_tag_changed(
    drawn: Path, copy: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    run = copy / "run"
    held_out = (run / "train" / "lists" / "val.txt").read_text().split()
    trained_on = (run / "train" / "lists" / "train.txt").read_text().split()
    mended = trained_on[0]
    with (drawn / "labels.csv").open(newline="") as handle:
        tags = next(row["tags"] for row in csv.DictReader(handle) if row["image"] == f"{mended}.png")
    other = "star" if tags != "star" else "disc"
    write_photos(drawn, copy / "photos", MORE, {f"{mended}.png": other})
    config = config_of(copy / "photos", run)
    seeds, pseudo = times(run / "seeds", "*.npz"), times(run / "masks" / "pseudo", "*.png")
    network, weights = times(run / "train", "model.*"), (run / "segment" / "model.safetensors").read_bytes()

    with pytest.raises(ValueError, match=r"made with other photos.*4 photos added, 1 tag changed") as refused:
        pipeline.run(config)
    assert "--overwrite" in str(refused.value)
    assert times(run / "seeds", "*.npz") == seeds

    starts: list[dict[str, torch.Tensor]] = []
    fit = pipeline.segment.__globals__["fit"]

    def seen(step: Any, *arguments: Any, **options: Any) -> Any:
        starts.append({name: tensor.clone() for name, tensor in step.network.state_dict().items()})
        return fit(step, *arguments, **options)

    monkeypatch.setitem(pipeline.segment.__globals__, "fit", seen)
    pipeline.run(overwrite(config))
    added = {f"shapes_{index:05d}" for index in range(SOME, MORE)}
    assert remade(seeds, run / "seeds", "*.npz") == {*added, mended}
    assert remade(pseudo, run / "masks" / "pseudo", "*.png") == {*added, mended}
    assert times(run / "train", "model.*") == network
    assert "seeds: 4 photos added, 1 tag changed: seeds of 5 photos are made, the others stay" in caplog.text
    assert "masks: 4 photos added, 1 tag changed: masks of 5 photos are made, the others stay" in caplog.text
    assert "the network stays as it is (--retrain trains it again)" in caplog.text
    assert "the segmenter goes on from its weights" in caplog.text
    assert "train: finished before" not in caplog.text  # which is said by then
    begun = [message for message in caplog.messages if message.startswith("Stage ")]  # as a fresh run says it
    assert [words.split(",")[0] for words in begun] == [
        f"Stage {number} of 5: {stage}"
        for number, stage in ((2, "seeds"), (3, "masks"), (4, "segment"), (5, "evaluate"))
    ]
    assert begun[-1].endswith(", about a minute left in all")
    before = load(weights)
    assert all(torch.equal(tensor, before[name]) for name, tensor in starts[0].items())
    assert not (run / "segment" / "start").exists()

    # Photos held out stay held out, and none of those trained on joins them.
    now = (run / "train" / "lists" / "val.txt").read_text().split()
    assert set(held_out) < set(now)
    assert not set(trained_on) & set(now)
    assert len(now) == 6
    assert {path.stem for path in (run / "masks").glob("*.png")} == {photo.id for photo in Run(config).photos.photos()}
    assert "4 photos added" in (run / "seeds" / "history.json").read_text()
    check_sealed(run)

    # It is done, so it is not done again, and nobody has to say --overwrite for ever.
    files = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    pipeline.run(Run.open(run).config)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert not Run.open(run).config.runtime.overwrite


def test_photos_removed_and_replaced(drawn: Path, copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run, images = copy / "run", copy / "photos" / "images"
    write_photos(drawn, copy / "photos", SOME - 1)
    gone = f"shapes_{SOME - 1:05d}"
    (images / f"{gone}.png").unlink()
    shutil.copyfile(drawn / "images" / f"shapes_{MORE - 1:05d}.png", images / "shapes_00002.png")
    seeds = times(run / "seeds", "*.npz")
    pipeline.run(overwrite(config_of(copy / "photos", run)))
    assert "seeds: 1 photo removed, 1 replaced: seeds of 1 photo are made" in caplog.text
    assert remade(seeds, run / "seeds", "*.npz") == {"shapes_00002"}
    for folder in ("seeds", "masks", "masks/pseudo"):
        assert not [path for path in (run / folder).iterdir() if path.stem == gone]
    assert gone not in (run / "masks" / "photos.csv").read_text()


def test_retrain_trains_anew(drawn: Path, copy: Path) -> None:
    run = copy / "run"
    write_photos(drawn, copy / "photos", MORE)
    network, seeds = times(run / "train", "model.*"), times(run / "seeds", "*.npz")
    config = overwrite(config_of(copy / "photos", run, stages="[train, seeds]"), retrain=True)
    pipeline.run(config)
    assert not network.items() & times(run / "train", "model.*").items()
    assert len(remade(seeds, run / "seeds", "*.npz")) == MORE
    assert not Run.open(run).config.runtime.retrain


def test_a_new_run_takes_what_still_fits(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line, without any other option than what changes."""
    old, new = finished / "run", tmp_path / "new"
    before = {path: path.stat().st_mtime_ns for path in old.rglob("*") if path.is_file()}
    words = ["--from", str(old), "--out", str(new), "--masks.threshold", "0.5"]
    assert main(["run", *words]) == 0
    linked = ("train/model.safetensors", "train/state.pt", "seeds/shapes_00000.npz")
    for name in linked:
        assert (new / name).stat().st_ino == (old / name).stat().st_ino
    for name in ("masks/pseudo/shapes_00000.png", "segment/model.safetensors", "evaluate/manifest.json"):
        assert (new / name).stat().st_ino != (old / name).stat().st_ino
    assert (new / "train" / "metrics.jsonl").stat().st_ino != (old / "train" / "metrics.jsonl").stat().st_ino
    said = " ".join(capsys.readouterr().err.split())
    assert "masks: masks.threshold: 0.25 there, 0.5 now: made again" in said
    assert "evaluate: masks is a new one; segment is a new one: made again" not in said  # scores are not taken
    assert f"seeds: finished before, taken from {old} " in said
    assert f"Made: masks, segment, evaluate; taken from {old}: train, seeds. " in said
    begun = re.findall(r"Stage (\d of 5: \w+)", said)
    assert begun == ["3 of 5: masks", "4 of 5: segment", "5 of 5: evaluate"]
    assert f"taken from {old}" in (new / "train" / "history.json").read_text()
    assert {path: path.stat().st_mtime_ns for path in old.rglob("*") if path.is_file()} == before
    assert Run.open(new).config.masks.threshold == 0.5
    check_sealed(new)
    check_sealed(old)


def test_stopping_early_is_asked_for_once(finished: Path, tmp_path: Path) -> None:
    config = replace(Run.open(finished / "run").config, out=str(tmp_path / "new"))
    assert list(pipeline.run(config, finished / "run", stop_after="seeds"))[-1] == "seeds"
    assert Run.open(tmp_path / "new").config.stages == config.stages  # so that --config goes on


def test_a_new_run_needs_a_folder_of_its_own(finished: Path, tmp_path: Path) -> None:
    config = Run.open(finished / "run").config
    with pytest.raises(ValueError, match="give it a folder of its own with --out"):
        pipeline.run(config, finished / "run")
    with pytest.raises(ValueError, match="is no run folder"):
        pipeline.run(replace(config, out=str(tmp_path / "new")), tmp_path)
    assert not (tmp_path / "new").exists()


def test_a_new_run_takes_the_review_along(copy: Path, tmp_path: Path) -> None:
    old = Run.open(copy / "run")
    write_entries(old.review, {"shapes_00001": Entry("rejected")})
    pipeline.run(overwrite(old.config))
    new = replace(old.config, out=str(tmp_path / "new"))
    pipeline.run(new, old.folder)
    assert (tmp_path / "new" / "review" / "photos.jsonl").read_text() == (old.review / "photos.jsonl").read_text()
    first, second = (run / "segment" / "model.safetensors" for run in (old.folder, tmp_path / "new"))
    assert first.stat().st_ino == second.stat().st_ino  # nothing has changed, so all is taken
    pipeline.run(Run.open(tmp_path / "new").config)


def test_training_goes_on_for_more_epochs(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run, words = copy / "run", {"train__epochs": "3"}
    config = config_of(copy / "photos", run, **words)
    with pytest.raises(ValueError, match=r"train\.epochs: 1 there, 3 now"):
        pipeline.run(config)
    lines = (run / "train" / "metrics.jsonl").read_text().splitlines()
    steps = read_json(run / "train" / "manifest.json")["result"]["fit"]["steps"]
    before = load_model(run / "train")[0].state_dict()
    pipeline.run(overwrite(config))
    assert "train: train.epochs: 1 there, 3 now: training goes on" in caplog.text
    assert f"Going on from step {steps} of" in caplog.text
    assert (run / "train" / "metrics.jsonl").read_text().splitlines()[: len(lines)] == lines  # the first epoch's
    assert read_json(run / "train" / "manifest.json")["result"]["fit"]["steps"] == 3 * steps
    after = load_model(run / "train")[0].state_dict()
    assert any(not torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert "the network of train is another one" in caplog.text  # so seeds and masks are made again
    check_sealed(run)


def test_fewer_epochs_begin_anew(copy: Path) -> None:
    run = copy / "run"
    more = overwrite(config_of(copy / "photos", run, stages="[train]", train__epochs="2"))
    pipeline.run(more)
    metrics = (run / "train" / "metrics.jsonl").read_text()
    pipeline.run(overwrite(config_of(copy / "photos", run, stages="[train]")))
    assert len((run / "train" / "metrics.jsonl").read_text().splitlines()) < len(metrics.splitlines())


def test_the_segmenter_goes_on_for_more_epochs(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run, words = copy / "run", {"segment__train__epochs": "2"}
    steps = read_json(run / "segment" / "manifest.json")["result"]["fit"]["steps"]
    pseudo = times(run / "masks" / "pseudo", "*.png")
    final, predictions = times(run / "masks", "*.png"), times(run / "segment" / "predictions" / "single", "*.png")
    pipeline.run(overwrite(config_of(copy / "photos", run, **words)))
    assert f"Going on from step {steps} of" in caplog.text
    assert times(run / "masks" / "pseudo", "*.png") == pseudo
    assert not final.items() & times(run / "masks", "*.png").items()  # another segmenter makes all of them
    assert not predictions.items() & times(run / "segment" / "predictions" / "single", "*.png").items()
    check_sealed(run)


@pytest.mark.parametrize("taken", [False, True], ids=["new", "from"])
def test_a_start_that_fails_leaves_nothing(finished: Path, tmp_path: Path, taken: bool) -> None:
    new = tmp_path / "new"
    config = config_of(finished / "photos", new, model__weights=str(tmp_path / "nowhere.pth"))
    with pytest.raises((ValueError, FileNotFoundError), match=r"nowhere\.pth"):
        pipeline.run(config, finished / "run" if taken else None)
    assert not new.exists()
    check_sealed(finished / "run")


def test_a_review_changes_only_what_it_is_about(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`cti run --config RUN`, as the report and the README say."""
    run = Run.open(copy / "run")
    known = np.full(load_mask(run.folder / "masks" / "shapes_00003.png").shape, 255, np.uint8)
    known[:10] = 2
    save_mask(run.review / "shapes_00003.png", known)
    write_entries(run.review, {"shapes_00003": Entry("accepted"), "shapes_00004": Entry("accepted")})
    seeds, pseudo = times(run.folder / "seeds", "*.npz"), times(run.pseudo_masks, "*.png")
    assert main(["run", "--config", str(run.folder)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "masks: 1 mask reviewed: masks of 1 photo are made, the others stay" in said
    assert "evaluate: masks is a new one; segment is a new one: made again" in said
    assert times(run.folder / "seeds", "*.npz") == seeds
    assert remade(pseudo, run.pseudo_masks, "*.png") == {"shapes_00003"}
    for path in (run.pseudo_masks / "shapes_00003.png", run.folder / "masks" / "shapes_00003.png"):
        assert (load_mask(path)[:10] == 2).all()
    check_sealed(run.folder)


def test_a_kill_while_way_is_made_hides_no_change(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was removed by then, the next call still knows that the rest is of before."""
    import cti.run.stage_folder as place

    run, remove = copy / "run", place._remove
    config = overwrite(config_of(copy / "photos", run, masks__threshold="0.5", stages="[masks]"))

    def killed(paths: Any) -> None:
        remove(sorted(paths)[:1])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(place, "_remove", killed)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(config)
    pseudo = times(run / "masks" / "pseudo", "*.png")
    pipeline.run(config)
    assert not pseudo.items() & times(run / "masks" / "pseudo", "*.png").items()


DAMAGE = {
    "train/model.safetensors": "made again from the state of training",
    "train/config.json": "made again from the state of training",
    "train/state.pt": "cannot be trained for more epochs",
    "train/lists/val.txt": "made again",
    "seeds/shapes_00003.npz": "made again",
    "seeds/stage.json": "seeds is made again",
    "seeds/manifest.json": "made again",
    "masks/pseudo/shapes_00003.png": "made again",
    "masks/shapes_00003.png": "made again",
    "masks/photos.jsonl": "made again",
    "masks/final.json": "made again",
    "segment/predictions/single/shapes_00003.png": "made again",
    "segment/model.safetensors": "made again from the state of training",
    "evaluate/panels.png": "evaluate is made again",
}


@pytest.mark.parametrize("how", ["changed", "deleted"])
@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_and_mended(
    finished: Path, copy: Path, name: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run, path = copy / "run", copy / "run" / name
    if how == "deleted":
        if path.name == "stage.json" or name == "evaluate/manifest.json":
            pytest.skip("is an unfinished stage, which is no damage")
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    pipeline.run(config_of(copy / "photos", run), verified=True)
    assert f"{path} is damaged or missing: " in caplog.text
    assert DAMAGE[name] in caplog.text
    if name != "train/state.pt":
        check_sealed(run)
    for kept in ("train/model.safetensors", "seeds/shapes_00003.npz", "masks/shapes_00003.png"):
        if kept.endswith(".png"):
            np.testing.assert_array_equal(load_mask(run / kept), load_mask(finished / "run" / kept))
        elif kept.startswith("train"):
            assert (run / kept).read_bytes() == (finished / "run" / kept).read_bytes()
        else:
            assert (run / kept).is_file()


def test_a_sound_run_is_said_to_be(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy / "run"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    words = options(copy / "photos", run, data__val_fraction="0.4", masks__steps="[pamr]")
    assert main(["run", "--verify", *words]) == 0
    assert "are as they were made" in " ".join(capsys.readouterr().err.split())
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("content", [b"[]", b"null", b"{}", b'"x"', b'{"a":"\xff"}', b"[" * 100_000], ids=len)
@pytest.mark.parametrize(
    "name", ["train/manifest.json", "train/stage.json", "masks/manifest.json", "seeds/photos.json"]
)
def test_files_of_another_shape_are_one_sentence(copy: Path, name: str, content: bytes) -> None:
    (copy / "run" / name).write_bytes(content)
    with pytest.raises(ValueError, match=str(Path(name).name) if content != b"{}" else "train|masks|photos"):
        pipeline.run(config_of(copy / "photos", copy / "run"))


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [("train__lr", "0.002", r"train\.lr: 0\.001 there, 0\.002 now"), ("seeds__long_side", "64", r"seeds\.long_side: ")],
)
def test_differences_are_named_and_never_hashes(copy: Path, setting: str, value: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        pipeline.run(config_of(copy / "photos", copy / "run", **{setting: value}))
    digests = read_json(copy / "run" / "train" / "manifest.json")["files"].values()
    assert not [digest for digest in digests if digest in str(refused.value)]


@pytest.fixture(scope="module")
def looked(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos` and a finished `run` of which nothing but the segmenter was trained."""
    folder = tmp_path_factory.mktemp("looked")
    pipeline.run(config_of(write_photos(drawn, folder / "photos", SOME), folder / "run", **LOOK))
    return folder


def test_a_section_that_is_new_or_gone_is_named_and_not_printed() -> None:
    change = Change({"train": (None, {"lr": 1}), "loader": ({"workers": 2}, None), "train.lr": (1, 2)})
    assert str(change) == (
        "train is newly among the settings; loader is no longer among the settings; train.lr: 1 there, 2 now"
    )


def test_a_setting_that_an_older_version_did_not_know_has_its_default(copy: Path) -> None:
    """And one that only an older version knew makes a difference."""
    path = copy / "run" / "train" / "stage.json"
    settings = read_json(path)
    del settings["data"]["bands"], settings["train"]["keep"]
    write_json(path, settings)
    assert Run(config_of(copy / "photos", copy / "run")).fits("train")
    assert not Run(config_of(copy / "photos", copy / "run", data__bands="[3,2,1]")).fits("train")
    write_json(path, {**settings, "data": settings["data"] | {"gone": 1}})
    assert not Run(config_of(copy / "photos", copy / "run")).fits("train")
    write_json(path, {name: value for name, value in settings.items() if name != "method"})  # not a whole section
    assert not Run(config_of(copy / "photos", copy / "run")).fits("train")


def test_where_nothing_was_trained_a_mended_tag_is_learned(
    drawn: Path, looked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first look is made again, as in a run from nothing with that split; the segmenter goes on."""
    shutil.copytree(looked, folder := tmp_path / "copy")
    run, photos = folder / "run", folder / "photos"
    held_out, trained_on = ((run / "train" / "lists" / f"{name}.txt").read_text().split() for name in ("val", "train"))
    write_photos(drawn, photos, MORE, {f"{trained_on[0]}.png": "star;ring"})
    weights = (run / "segment" / "model.safetensors").read_bytes()
    words = ["run", *options(photos, run, data__val_fraction="0.4", masks__steps="[pamr]", **LOOK)]
    assert main(words) == 1
    assert "4 photos added, 1 tag changed" in " ".join(capsys.readouterr().err.split())
    assert main([*words, "--overwrite"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    for stage in ("first-look", "train"):
        assert f"{stage}: 4 photos added, 1 tag changed: made again" in said
    assert "seeds: the network of train is another one; 4 photos added, 1 tag changed: made again" in said
    assert "4 photos added, 1 tag changed: the segmenter goes on from its weights" in said
    assert "Gained by the last round: segmenter's tag AP on photos held out (5 photos, too few to rely on)" in said
    now = (run / "train" / "lists" / "val.txt").read_text().split()
    assert set(held_out) < set(now)
    assert not set(trained_on) & set(now)
    assert (run / "segment" / "model.safetensors").read_bytes() != weights
    check_sealed(run)

    fresh = tmp_path / "fresh"
    shutil.copytree(photos, fresh / "photos")
    (fresh / "photos" / "lists").mkdir()
    for name in ("train", "val"):
        shutil.copyfile(run / "train" / "lists" / f"{name}.txt", fresh / "photos" / "lists" / f"{name}.txt")
    pipeline.run(config_of(fresh / "photos", fresh / "run", **LOOK | {"stages": "[first_look, train, seeds]"}))
    for name in ("first_look/model.safetensors", "train/model.safetensors", f"seeds/{trained_on[1]}.npz"):
        assert (run / name).read_bytes() == (fresh / "run" / name).read_bytes(), name

    # A tag that the review mends is learned unasked, for nothing dear is made again.
    write_entries(run / "review", {trained_on[0]: Entry("accepted", tags=("disc",))})
    network = (run / "train" / "model.safetensors").read_bytes()
    assert main(["run", "--config", str(run)]) == 0
    assert "first-look: 1 tag changed: made again" in " ".join(capsys.readouterr().err.split())
    assert (run / "train" / "model.safetensors").read_bytes() != network
    check_sealed(run)
