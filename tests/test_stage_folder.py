"""A stage's folder: what its files say, and what is moved and removed when it is to be made from something else."""

import os
from pathlib import Path

import pytest

from cti.config import DataConfig
from cti.data.fingerprint import DataRecord, PhotoChange
from cti.data.splits import EarlierSplit
from cti.files import file_digest, read_manifest, write_json, write_manifest
from cti.run.changes import Change, History, Made
from cti.run.stage_folder import (
    clear_failed_start,
    damaged_files,
    digests,
    keep_records,
    locked,
    make_way,
    read_history,
    read_made,
    read_split,
    remove_folders,
    seal,
    sweep,
    take_over,
    write_made,
)

MADE = Made({"train": {"lr": 0.1}, "classes": ["ä"]}, DataRecord({"train": ("a",)}, {"a": ("0f", ("ä",))}, {"a": "m"}))


def _fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def _held(folder: Path) -> set[str]:
    """The files below a folder, by relative path."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_a_stage_is_made_from_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    assert read_made(folder) is None
    write_made(folder, MADE)
    assert read_made(folder) == MADE
    assert "ä" in (folder / "photos.json").read_text(encoding="utf-8")
    (folder / "photos.json").unlink()
    with pytest.raises(ValueError, match=r"train was made by another version of cti \(no photos\.json\); delete it"):
        read_made(folder)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (DataConfig(val_fraction=0.2, split_seed=3), True),
        (DataConfig(val_fraction=0.3, split_seed=3), False),
        (DataConfig(val_fraction=0.2, split_seed=4), False),
    ],
)
def test_a_split_counts_as_long_as_it_would_be_drawn_so(tmp_path: Path, data: DataConfig, found: bool) -> None:
    _fill(tmp_path, "lists/train.txt")
    assert read_split(tmp_path, data) is None  # half a split is none
    (tmp_path / "lists" / "train.txt").write_text("b\na ä\n", encoding="utf-8")
    (tmp_path / "lists" / "val.txt").write_text("c\n")
    earlier = EarlierSplit(frozenset({"b", "a ä"}), frozenset({"c"}))
    assert read_split(tmp_path, data) == earlier  # nothing says how it was drawn
    write_json(tmp_path / "stage.json", {"data": {"val_fraction": 0.2, "split_seed": 3}})
    assert read_split(tmp_path, data) == (earlier if found else None)


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A finished stage."""
    folder = _fill(
        tmp_path / "run" / "segment", "stage.json", "photos.json", "config.json", "model.safetensors", "state.pt",
        "lists/val.txt", "a.npz", "b.npz", "b.txt", "pseudo/a.png", "pseudo/b.png", "predictions/single/b.png",
    )  # fmt: skip
    write_manifest(folder, {}, files=digests(folder))
    return folder


def test_of_changed_photos_the_files_go(stage: Path) -> None:
    before = _held(stage)
    make_way(stage, "by photo", Change(photos=PhotoChange(retagged=("b",), removed=("a",))))
    gone = {"a.npz", "b.npz", "pseudo/a.png", "pseudo/b.png", "predictions/single/b.png", "manifest.json"}
    assert _held(stage) == before - gone


def test_of_more_epochs_the_predictions_go(stage: Path) -> None:
    before = _held(stage)
    make_way(stage, "more epochs", Change())
    assert _held(stage) == before - {"manifest.json", "predictions/single/b.png"}


def test_made_again_nothing_stays_but_the_lists(stage: Path) -> None:
    make_way(stage, "again", Change())
    assert _held(stage) == {"lists/val.txt"}


def test_a_network_that_goes_on_lies_in_a_folder_of_its_own(stage: Path) -> None:
    _fill(stage, "before/single/old.png", "start/old")
    network = (stage / "model.safetensors").stat().st_ino
    kept = {"lists/val.txt", "stage.json", "photos.json", "before/single/b.png"}
    start = {"start/config.json", "start/model.safetensors"}
    make_way(stage, "from weights", Change())
    assert _held(stage) == {*kept, *start}
    assert (stage / "start" / "model.safetensors").stat().st_ino == network  # not copied
    _fill(stage, "model.safetensors", "predictions/single/half.png")
    make_way(stage, "from weights", Change())  # of one that did not finish nothing is kept
    assert _held(stage) == {*kept, *start}
    assert (stage / "start" / "model.safetensors").stat().st_ino == network


def test_files_that_came_later_are_sealed_too(stage: Path) -> None:
    first = digests(stage)
    assert first["a.npz"] == file_digest(stage / "a.npz")[:16]
    assert "predictions/single/b.png" in first
    _fill(stage, "history.json", ".a.tmp.png", "start/model", "before/single/a.png", "c.npz")
    assert digests(stage).keys() == first.keys() | {"c.npz"}
    time = (stage / "manifest.json").stat().st_mtime_ns
    (stage / "b.npz").write_text("changed")
    (stage / "a.npz").write_text("changed before, so it is damaged")
    os.utime(stage / "a.npz", ns=(time - 1, time - 1))
    os.utime(stage / "b.npz", ns=(time, time))
    seal(stage)
    manifest = read_manifest(stage)
    assert manifest is not None
    assert manifest["files"] == digests(stage) | {"a.npz": first["a.npz"]}
    assert damaged_files(stage, manifest["files"]) == ["a.npz"]
    (stage / "c.npz").unlink()
    assert damaged_files(stage, manifest["files"]) == ["a.npz", "c.npz"]
    seal(stage.parent / "nothing")  # an unfinished stage has no seal


def test_a_seal_that_holds_is_not_written_again(stage: Path) -> None:
    before = (stage / "manifest.json").stat().st_mtime_ns, (stage / "manifest.json").stat().st_ino
    seal(stage)
    assert ((stage / "manifest.json").stat().st_mtime_ns, (stage / "manifest.json").stat().st_ino) == before


def test_removed_folders_are_no_damage(stage: Path) -> None:
    _fill(stage, "predictions/single-2/a.png")
    seal(stage)
    remove_folders(stage, [stage / "predictions" / "single"])
    manifest = read_manifest(stage)
    assert manifest is not None
    assert "predictions/single/b.png" not in _held(stage)
    assert "predictions/single-2/a.png" in manifest["files"]
    assert not damaged_files(stage, manifest["files"])
    sealed = (stage / "manifest.json").stat().st_ino
    remove_folders(stage, [])
    assert (stage / "manifest.json").stat().st_ino == sealed
    (stage / "manifest.json").unlink()
    remove_folders(stage, [stage / "pseudo"])
    assert not (stage / "pseudo").exists()


def test_records_are_kept_beside_the_predictions_of_then(tmp_path: Path) -> None:
    masks, predictions = tmp_path / "masks", tmp_path / "predictions"
    keep_records(masks, predictions)
    assert not predictions.exists()
    _fill(masks, "photos.jsonl")
    keep_records(masks, predictions)
    (masks / "photos.jsonl").write_text("later")
    keep_records(masks, predictions)
    assert (predictions / "photos.jsonl").read_text() == "photos.jsonl"


def test_a_stage_is_taken_with_its_history_and_once(stage: Path, tmp_path: Path) -> None:
    _fill(stage, ".half.tmp.png", "photos.jsonl")
    write_json(stage / "history.json", {"taken_from": "", "kept_for": "0f", "changes": ["one"]})
    target = tmp_path / "new" / "segment"
    target.parent.mkdir()
    take_over(stage, target, stage.parent)
    assert _held(target) == _held(stage) - {".half.tmp.png"}
    assert read_history(target) == History(str(stage.parent), "", ("one", f"taken from {stage.parent}"))
    assert (target / "a.npz").samefile(stage / "a.npz")
    assert not (target / "photos.jsonl").samefile(stage / "photos.jsonl")  # lines are added to it
    assert [path.name for path in target.parent.iterdir()] == ["segment"]
    (target / "a.npz").unlink()
    take_over(stage, target, stage.parent)
    assert not (target / "a.npz").exists()
    (stage / "manifest.json").unlink()
    take_over(stage, tmp_path / "new" / "other", stage.parent)
    assert not (tmp_path / "new" / "other").exists()


def test_what_was_half_written_is_swept_up(tmp_path: Path) -> None:
    _fill(tmp_path, ".a.x.tmp", "a.tmp", "seeds/deep/.a.x.tmp.npz", "seeds/.hidden", "review/.a.x.tmp.png")
    sweep(tmp_path, ("seeds", "masks"))
    assert _held(tmp_path) == {"a.tmp", "seeds/.hidden", "review/.a.x.tmp.png"}


def test_a_lock_leaves_no_folder_that_nothing_came_into(tmp_path: Path) -> None:
    with locked(tmp_path / "deep" / "run"):
        assert (tmp_path / "deep" / "run").is_dir()
        with pytest.raises(ValueError, match=r"Another process works in .*run; wait for it, or choose another --out"):
            locked(tmp_path / "deep" / "run").__enter__()
        assert (tmp_path / "deep" / "run" / ".lock").is_file()  # whoever is kept out removes nothing
    assert not (tmp_path / "deep" / "run").exists()
    with locked(tmp_path / "kept"):
        _fill(tmp_path / "kept", "work")
    assert (tmp_path / "kept" / "work").is_file()


BEGUN = ("segment/config.yaml", "segment/stage.json", "segment/photos.json", "segment/lists/val.txt")


@pytest.mark.parametrize(
    ("fresh", "new_run", "others", "left"),
    [
        (True, True, ("config.yaml", ".lock"), {".lock"}),
        (True, False, ("config.yaml", "train/model"), {"config.yaml", "train/model"}),
        (False, False, ("config.yaml", "train/model"), {"config.yaml", "train/model", "segment/lists/val.txt"}),
        (True, False, ("config.yaml", ".lock"), {".lock"}),  # the run holds nothing else
        (True, False, ("segment/model", "config.yaml"), {"segment/model", "config.yaml", *BEGUN}),  # something was made
        (True, True, ("segment/.half", "config.yaml"), set()),
    ],
)
def test_a_start_that_fails_leaves_what_was_there(
    tmp_path: Path, fresh: bool, new_run: bool, others: tuple[str, ...], left: set[str]
) -> None:
    _fill(tmp_path, *BEGUN, *others)
    clear_failed_start(tmp_path / "segment", fresh, new_run)
    assert _held(tmp_path) == left


@pytest.mark.parametrize(("made_here", "stays"), [(False, False), (True, True)])
def test_a_run_of_nothing_but_taken_stages_goes_with_a_failed_start(
    tmp_path: Path, made_here: bool, stays: bool
) -> None:
    _fill(tmp_path, *BEGUN, "config.yaml", "train/model", "seeds/a.npz")
    write_json(tmp_path / "train" / "history.json", {"taken_from": "there"})
    write_json(tmp_path / "seeds" / "history.json", {"taken_from": "" if made_here else "there"})
    clear_failed_start(tmp_path / "segment", fresh=True, new_run=False)
    assert (tmp_path / "config.yaml").exists() is (tmp_path / "train").exists() is stays


def test_where_there_are_no_hard_links_files_are_copied(
    stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError("another file system")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    (tmp_path / "new").mkdir()
    take_over(stage, tmp_path / "new" / "segment", stage.parent)
    assert (tmp_path / "new" / "segment" / "a.npz").read_text() == "a.npz"
    assert not (tmp_path / "new" / "segment" / "a.npz").samefile(stage / "a.npz")
