"""The check finds every kind of damage, keeps what it found, and decides whether training may start."""

import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cti.config import DataConfig
from cti.data import read_photos, save_mask
from cti.data.check import _VERSION, _Fact, _lasts, check_cache, check_data, usable
from cti.data.check_report import FEW, CheckReport, few_sentence, print_report
from cti.data.depth import Reading
from cti.data.fingerprint import DataRecord, PhotoChange, compare_photos, mask_fingerprint, record_photos
from cti.data.photos import dropped_sentence

Writer = Callable[..., Path]


@pytest.fixture
def damaged(folder_set: Writer) -> Path:
    """Eight photos: one missing, one truncated, one no image, one twice; four with masks, of which three are wrong."""
    names = ["good", "missing", "cut", "text", "copy", "small", "rgb", "values"]
    root = folder_set(
        {f"{name}.png": "cat" for name in names} | {"val.png": "cat dog"},
        masks=("good.png",),
        train=names,
        val=["val"],
    )
    images = root / "images"
    (images / "missing.png").unlink()
    (images / "cut.png").write_bytes((images / "cut.png").read_bytes()[:150])
    (images / "text.png").write_text("no image")
    shutil.copy(images / "val.png", images / "copy.png")
    save_mask(root / "masks" / "small.png", np.zeros((4, 4), dtype=np.uint8))
    Image.new("RGB", (12, 8)).save(root / "masks" / "rgb.png")
    save_mask(root / "masks" / "values.png", np.full((8, 12), 99, dtype=np.uint8))
    return root


def _age(root: Path) -> None:
    """Make files look as if they had been written yesterday."""
    for path in root.rglob("*.*"):
        yesterday = path.stat().st_mtime - 86_400
        os.utime(path, (yesterday, yesterday))


def _check(root: Path, **settings: object) -> CheckReport:
    return check_data(DataConfig(root=str(root), **settings), root.parent / "cache.json", progress=False)  # type: ignore[arg-type]


def test_every_kind_of_damage_is_found(damaged: Path) -> None:
    report = _check(damaged)
    assert set(report.broken) == {"missing", "cut", "text"}
    assert "restore" in report.broken["missing"]
    assert "damaged" in report.broken["cut"]
    assert "not a readable image" in report.broken["text"]
    assert set(report.bad_masks) == {"small", "rgb", "values"}
    assert "4 x 4, its photo 12 x 8" in report.bad_masks["small"]
    assert "colour mode RGB" in report.bad_masks["rgb"]
    assert "unknown values 99" in report.bad_masks["values"]
    assert [set(ids) for ids in report.duplicates] == [{"copy", "val"}]
    assert [set(ids) for ids in report.leaks] == [{"copy", "val"}]
    assert report.classes["train"] == {"cat": 8, "dog": 0}
    assert report.tags_per_image == {1: 8, 2: 1}
    assert (report.num_photos, report.num_masks, report.num_trainable) == (9, 4, 5)
    text = " ".join(report.problems)
    assert "3 of 9 photos cannot be read, more than the 1.0%" in text
    assert "No photo to train on has the class dog" in text
    assert "No photo of val has the class" not in text
    assert "both in train and in val" in text
    assert report.stops_training
    json.dumps(report.to_dict(), allow_nan=False)


def test_training_stops_with_the_list_or_goes_on_without_the_broken(damaged: Path) -> None:
    photos, report = read_photos(DataConfig(root=str(damaged))), _check(damaged)
    with pytest.raises(ValueError, match=r"3 of 9 photos cannot be read") as error:
        usable(photos, report)
    assert all(f"{name}.png" in str(error.value) for name in ("missing", "cut", "text", "small", "rgb", "values"))
    clean = usable(photos, report, max_broken=0.8)
    assert [photo.id for photo in clean.lists["train"]] == ["good", "copy", "small", "rgb", "values"]
    assert [photo.id for photo in clean.lists["train"] if photo.mask] == ["good"]
    assert clean.notes[len(photos.notes) :] == (
        "3 unreadable photos were left out: missing, cut, text.",
        "3 unusable masks were left out: small, rgb, values.",
    )
    assert clean.has_masks
    assert not usable(replace(photos, lists={"score": photos.lists["train"][1:]}), report, max_broken=0.8).has_masks
    assert len(photos.lists["train"]) == 8


def test_one_broken_photo_of_many_does_not_stop_training(folder_set: Writer) -> None:
    root = folder_set({f"{index}.jpg": "cat" for index in range(100)})
    (root / "images" / "7.jpg").write_bytes(b"")
    report = _check(root)
    assert not report.stops_training
    assert report.problems == ("1 photos cannot be read and are left out: 7.",)
    (root / "images" / "8.jpg").write_bytes(b"")
    assert _check(root).stops_training
    assert not _check(root, max_broken=0.02).stops_training


def test_a_photo_in_both_lists_is_a_leak_and_only_readable_ones_are_learned_from(folder_set: Writer) -> None:
    root = folder_set({"a.jpg": "", "b.jpg": "cat", "c.jpg": "cat", "d.jpg": ""}, train=["a", "b", "d"], val=["c", "d"])
    shutil.copy(root / "images" / "a.jpg", root / "images" / "b.jpg")
    report = _check(root)
    assert report.duplicates == (("a", "b"),)
    assert report.leaks == (("d",),)  # two in one list do no harm
    assert (report.num_trainable, report.num_positive) == (3, 1)
    (root / "images" / "b.jpg").write_bytes(b"")
    report = _check(root, max_broken=0.5)
    assert (report.num_trainable, report.num_positive) == (2, 0)
    assert report.errors[0].startswith("No photo to train on has a tag")


def test_a_set_without_photos_to_train_on_stops(folder_set: Writer) -> None:
    root = folder_set({"a.jpg": "", "b.jpg": "cat"}, train=["a"], val=["b"])
    assert _check(root).errors == (
        "No photo to train on has a tag; look at data.train, data.classes, data.normal and the tags.",
    )
    report = _check(root, empty_tags="skip")
    assert report.stops_training
    assert "There is no photo to train on" in report.errors[0]


def test_found_facts_are_kept_until_a_file_changes(folder_set: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder_set({"a.png": "cat", "b.png": "cat", "gone.png": "cat"})
    (root / "images" / "gone.png").unlink()
    _age(root)
    opened: list[str] = []
    import cti.data.check as check

    original = check.open_image
    monkeypatch.setattr(check, "open_image", lambda path, size: (opened.append(path.name), original(path, size))[1])
    first = _check(root, max_broken=0.5)
    assert sorted(opened) == ["a.png", "b.png", "gone.png"]
    assert _check(root, max_broken=0.5) == first
    assert sorted(opened[3:]) == ["gone.png"]  # what is not there may come back
    Image.new("RGB", (12, 8)).save(root / "images" / "b.png")
    assert not _check(root, max_broken=0.5).duplicates
    assert sorted(opened[4:]) == ["b.png", "gone.png"]
    _check(root, max_broken=0.5)
    assert sorted(opened[6:]) == [
        "b.png",
        "gone.png",
    ]  # written just now: it may be written again in the same tick of the clock
    assert "b" in _check(root, max_pixels=90).broken  # a new limit is a new look
    (root.parent / "cache.json").write_text("{ damaged")
    assert _check(root, max_broken=0.5).broken.keys() == {"gone"}


def test_a_cache_that_cannot_be_written_stops_nothing(folder_set: Writer, caplog: pytest.LogCaptureFixture) -> None:
    root = folder_set({"a.png": "cat", "b.png": "cat"})
    (root.parent / "file").write_text("")
    report = check_data(DataConfig(root=str(root)), root.parent / "file" / "cache.json", progress=False)
    assert not report.stops_training
    assert "could not be kept" in caplog.text


def test_the_cache_lies_in_the_users_cache_folder(folder_set: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder_set({"a.png": "cat", "b.png": "cat"})
    monkeypatch.setenv("XDG_CACHE_HOME", str(root.parent / "xdg"))
    photos = read_photos(DataConfig(root=str(root)))
    check_data(photos, progress=False)
    assert check_cache(photos).is_file()
    assert check_cache(photos).is_relative_to(root.parent / "xdg")


def test_the_report_can_be_read(damaged: Path) -> None:
    console = Console(file=io.StringIO(), width=300)
    print_report(_check(damaged), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "train (8)" in text
    assert "score (8)" in text
    assert "1 tag: 8, 2 tags: 1" in text
    assert "Training would stop" in text
    assert "unknown values 99" in text


def test_without_masks_there_is_no_list_to_score(folder_set: Writer) -> None:
    root = folder_set({"a.png": "cat", "b.png": "dog"}, train=["a"], val=["b"])
    console = Console(file=io.StringIO(), width=200)
    print_report(_check(root), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "train (1)" in text
    assert "val (1)" in text
    assert "score" not in text.split("Tags per photo")[0]


def test_the_fingerprint_follows_the_data_not_the_place(folder_set: Writer, tmp_path: Path) -> None:
    root = folder_set({"a.png": "cat", "b.png": "cat dog"}, train=["a", "b"])
    first = record_photos(read_photos(DataConfig(root=str(root))))
    shutil.copytree(root, tmp_path / "moved")
    os.utime(tmp_path / "moved" / "images" / "a.png", (0, 0))
    assert record_photos(read_photos(DataConfig(root=str(tmp_path / "moved")))) == first
    assert record_photos(read_photos(DataConfig(root=str(root), classes=("cat",)))) != first
    Image.new("RGB", (3, 3)).save(root / "images" / "a.png")
    assert record_photos(read_photos(DataConfig(root=str(root)))) != first


def test_a_passing_error_is_not_kept(folder_set: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder_set({"a.png": "cat", "b.png": "cat"}, train=["a", "b"])
    _age(root)
    original = Path.open

    def refuse(path: Path, *arguments: Any, **more: Any) -> Any:
        if path.name == "a.png":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", refuse)
    assert "cannot be read at the moment" in _check(root).broken["a"]
    monkeypatch.undo()
    assert not _check(root).broken


def test_a_photo_that_does_not_fit_into_memory_may_fit_another_time(
    folder_set: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder_set({"a.png": "cat", "b.png": "cat"}, train=["a", "b"])
    _age(root)

    def refuse(image: Image.Image, reading: Reading) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("cti.data.check.to_rgb", refuse)
        broken = _check(root).broken
    assert broken == {name: f"{root}/images/{name}.png does not fit into memory; shrink it." for name in "ab"}
    assert not _check(root).broken


def test_progress_is_shown_to_people_only(folder_set: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder_set({"a.png": "cat", "b.png": "cat"}, train=["a", "b"])
    check_data(DataConfig(root=str(root)), root.parent / "shown.json")
    out, err = capsys.readouterr()
    assert out == ""
    assert err
    check_data(DataConfig(root=str(root)), root.parent / "silent.json", progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "content", ['{"version": NOW}', '{"version": NOW, "facts": {KEYS}}', "[1]", '{"version": NOW, "facts": 3}']
)
def test_a_damaged_cache_is_made_anew(folder_set: Writer, content: str) -> None:
    root = folder_set({"a.png": "cat", "b.png": "cat"}, train=["a", "b"])
    _age(root)
    first = _check(root)
    cache = root.parent / "cache.json"
    kept = json.loads(cache.read_text())["facts"]
    assert len(kept) == 2
    cache.write_text(content.replace("NOW", str(_VERSION)).replace("{KEYS}", json.dumps(dict.fromkeys(kept))))
    assert _check(root) == first


def test_what_was_found_by_another_version_is_not_used(folder_set: Writer) -> None:
    root = folder_set({"a.png": "cat", "b.png": "cat"}, train=["a", "b"])
    _age(root)
    _check(root)
    cache = root.parent / "cache.json"
    kept = json.loads(cache.read_text())
    assert kept["version"] == _VERSION
    wrong = {key: {**fact, "error": "b is bad"} for key, fact in kept["facts"].items() if "b.png" in key}
    cache.write_text(json.dumps({"version": _VERSION, "facts": kept["facts"] | wrong}))
    assert _check(root).broken == {"b": "b is bad"}
    cache.write_text(json.dumps({"version": _VERSION - 1, "facts": kept["facts"] | wrong}))
    assert not _check(root).broken


def test_what_is_known_of_a_file_changed_within_two_seconds_is_not_kept() -> None:
    """Before or, by another machine's clock, after the look at it."""
    now = 10**19
    for away, kept in ((2_000_000_000, False), (2_000_000_001, True), (-2_000_000_000, False), (-2_000_000_001, True)):
        assert _lasts(_Fact((1, now + away)), now) is kept
    assert not _lasts(_Fact((1, 0), passing=True), now)
    assert not _lasts(_Fact(None), now)


def test_replaced_photos_and_masks_of_equal_size_are_noticed(folder_set: Writer) -> None:
    root = folder_set({"a.bmp": "cat", "b.bmp": "cat"}, masks=("a.bmp",), train=["a", "b"])
    _age(root)
    photos, report = read_photos(DataConfig(root=str(root))), _check(root)
    assert record_photos(photos, report) == record_photos(photos)
    masks = mask_fingerprint(photos, report)
    path = root / "images" / "a.bmp"
    size = path.stat().st_size
    Image.new("RGB", (12, 8), "red").save(path)
    assert path.stat().st_size == size
    again = _check(root)
    assert record_photos(photos, again) != record_photos(photos, report)
    assert mask_fingerprint(photos, again) == masks
    save_mask(root / "masks" / "a.png", np.full((8, 12), 0, dtype=np.uint8))
    assert mask_fingerprint(photos, _check(root)) != masks


def test_few_photos_are_said_up_to_the_twentieth() -> None:
    assert few_sentence({"cat": 20, "dog": 0}) == ""
    sentence = few_sentence({"cat": 19, "cow": 7, "dog": 20, "owl": 0})
    assert sentence.startswith("Few photos of cow (7), cat (19): with fewer than 20, masks of a class may be ")
    assert sentence.endswith("add photos, or correct some masks (`cti serve`).")


def test_rare_and_misspelt_classes_and_classes_absent_from_val_are_said(folder_set: Writer) -> None:
    rows = {f"{number}.png": "cat" if number % 2 else "dog" for number in range(12)} | {"slip.png": "cta"}
    names = [f"{number}" for number in range(10)]
    root = folder_set(rows, train=[*names, "slip"], val=["11"])
    report = _check(root)
    assert report.suggestions == {"cta": "cat"}
    text = " ".join(report.problems)
    assert "'cta' may be meant as 'cat'" in text
    assert "on one or two photos to train on cannot be learnt: cta (1)" in text
    assert "Few photos of cat (5), dog (5): with fewer than 20" in text  # cta cannot be learnt anyway
    assert "No photo of val has the class cta, dog" in text
    assert not report.stops_training
    assert report.to_dict()["suggestions"] == {"cta": "cat"}
    assert "digests" not in report.to_dict()


def _report(**found: Any) -> CheckReport:
    """A report of a hundred sound photos of one class."""
    counts = {"train": {"cat": 80}, "val": {"cat": 20}}
    sound = CheckReport({"train": 80, "val": 20}, counts, {1: 100}, {}, {}, (), (), {}, (), 100, 100, 80, 0.02)
    return replace(sound, **found)


def _bad(count: int) -> dict[str, str]:
    return {f"p{number}": f"p{number} is bad" for number in range(count)}


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({"broken": _bad(2)}, "2 photos cannot be read and are left out: p0, p1."),
        ({"bad_masks": _bad(2)}, "2 masks cannot be used and are left out: p0, p1."),
        (
            {"classes": {"train": {"cat": 40, "dog": 0}, "val": {"cat": 2}}},
            "No photo to train on has the class dog; its maps will mean nothing.",
        ),
        (
            {"classes": {"train": {"cat": 40, "dog": 2, "fox": 1}, "val": {"cat": 2, "dog": 2, "fox": 1}}},
            "Classes on one or two photos to train on cannot be learnt: dog (2), fox (1); add photos.",
        ),
        ({"classes": {"train": {"cat": 3}, "val": {"cat": 2}}}, few_sentence({"cat": 3})),
        (
            {"classes": {"train": {"cat": 40, "dog": 20}, "val": {"cat": 1}}},
            "No photo of val has the class dog; it has no score there. Put photos of it into val.",
        ),
        ({"doubts": ("a doubt",)}, "a doubt"),
        ({"dropped_tags": {"cow": 2, "hen": 1}}, dropped_sentence({"cow": 2, "hen": 1})),
        ({"duplicates": (("a", "b"), ("c", "d"))}, "2 photos are there more than once: a = b, c = d."),
        ({"leaks": (("a", "b"),)}, "1 photos lie both in train and in val, so val scores flatter: a = b."),
    ],
)
def test_what_is_worth_looking_at_is_said_and_stops_nothing(found: dict[str, Any], sentence: str) -> None:
    report = _report(**found)
    assert report.problems == (sentence,)
    assert (report.errors, report.stops_training, report.exit_code) == ((), False, 0)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            {"broken": _bad(7)},
            "7 of 100 photos cannot be read, more than the 2.0% allowed by data.max_broken: p0, p1, p2, p3, p4 and "
            "2 more; repair or remove them.",
        ),
        (
            {"bad_masks": _bad(3)},
            "3 of 100 masks cannot be used, more than the 2.0% allowed by data.max_broken: p0, p1, p2; repair or "
            "remove them.",
        ),
        ({"contradictions": ("the masks mean something else",)}, "the masks mean something else"),
        (
            {"num_positive": 0},
            "No photo to train on has a tag; look at data.train, data.classes, data.normal and the tags.",
        ),
    ],
)
def test_what_stops_training_is_said_once(found: dict[str, Any], sentence: str) -> None:
    report = _report(**found)
    assert report.errors == report.problems == (sentence,)
    assert (report.stops_training, report.exit_code) == (True, 1)


def test_a_sound_set_gives_no_sentence() -> None:
    assert _report().problems == ()
    assert _report(classes={"train": {"cat": FEW}, "val": {}}, lists={"train": FEW, "val": 0}).problems == ()
    assert few_sentence({"none": 0, "enough": FEW}) == ""
    assert few_sentence({"b": FEW - 1, "a": 1}).startswith(f"Few photos of a (1), b ({FEW - 1}): with fewer than 20,")


def test_all_is_printed_as_it_is_called() -> None:
    """Names may hold what rich takes for markup."""
    report = _report(
        notes=("note [a]", "2 [b]"),
        broken={"[c]": "[c] is bad"},
        bad_masks={"[d]": "[d] is worse"},
        doubts=("[e]?", "2 [b]"),
    )
    console = Console(file=io.StringIO(), width=300)
    print_report(report, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[lines.index("Tags per photo: 1 tag: 100") + 1 :] == [
        "note [a]",
        "- [c] is bad",
        "- [d] is worse",
        "1 photos cannot be read and are left out: [c].",
        "1 masks cannot be used and are left out: [d].",
        "[e]?",
        "2 [b]",
        "This data set can be trained on.",
    ]


def test_what_stops_training_is_red_and_what_is_doubtful_is_yellow() -> None:
    for found, last in (
        ({"num_positive": 0}, "\x1b[1;31mTraining would stop on this data set.\x1b[0m"),
        ({"classes": {"train": {"cat": 2}, "val": {"cat": 1}}},
         "\x1b[33mTraining would run on this data set, and learn no class; add photos.\x1b[0m"),
        ({}, "\x1b[32mThis data set can be trained on.\x1b[0m"),
    ):  # fmt: skip
        console = Console(file=io.StringIO(), width=300, force_terminal=True, color_system="standard", _environ={})
        report = _report(notes=("7 notes",), doubts=("8 doubts",), broken={"a": "9 are bad"}, **found)  # type: ignore[arg-type]
        print_report(report, console)
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert lines[-1] == last
        assert {"Tags per photo: 1 tag: 100", "7 notes", "- 9 are bad", "\x1b[33m8 doubts\x1b[0m"} <= set(lines)
        assert [line for line in lines if line.startswith("\x1b[1;31mNo photo")] == [
            f"\x1b[1;31m{error}\x1b[0m" for error in report.errors
        ]


@pytest.mark.parametrize(
    ("found", "last"),
    [
        ({}, "This data set can be trained on."),
        ({"num_positive": 0}, "Training would stop on this data set."),
        (
            {"classes": {"train": {"cat": 2, "dog": 1}, "val": {"cat": 1, "dog": 1}}},
            "Training would run on this data set, and learn no class; add photos.",
        ),
        ({"classes": {"train": {"cat": 3, "dog": 1}, "val": {"cat": 1, "dog": 1}}}, "This data set can be trained on."),
    ],
)
def test_the_report_ends_with_the_verdict(found: dict[str, Any], last: str) -> None:
    console = Console(file=io.StringIO(), width=300)
    print_report(_report(**found), console)
    assert console.file.getvalue().splitlines()[-1] == last  # type: ignore[attr-defined]


def test_two_records_are_compared_photo_by_photo() -> None:
    before = DataRecord(
        {"train": ("gone", "moved", "new_file", "new_tag", "same"), "val": ("seen",)},
        {name: (name, ("cat",)) for name in ("gone", "moved", "new_file", "new_tag", "same", "seen")},
    )
    photos = {name: (name, ("cat",)) for name in ("added", "moved", "new_file", "new_tag", "same", "seen")}
    photos |= {"new_file": ("other", ("cat",)), "new_tag": ("new_tag", ("dog",))}
    now = DataRecord(
        {"train": ("added", "new_file", "new_tag", "same"), "val": ("moved", "seen")}, photos, {"seen": "mark"}
    )
    change = compare_photos(before, now)
    assert change == PhotoChange(
        added=("added",), removed=("gone",), replaced=("new_file",), retagged=("new_tag",), moved=("moved",),
        reviewed=("seen",),
    )  # fmt: skip
    assert change.remade == {"added", "moved", "new_file", "new_tag", "seen"}  # all but what is gone
    assert str(change) == "1 photo added, 1 removed, 1 replaced, 1 tag changed, 1 in another list, 1 mask reviewed"
    assert not compare_photos(now, now)
    assert str(PhotoChange(removed=("a", "b"), retagged=("c", "d"), reviewed=("e", "f"))) == (
        "2 photos removed, the tags of 2 changed, 2 masks reviewed"
    )


def test_the_digest_of_a_record_follows_each_of_its_parts() -> None:
    record = DataRecord({"train": ("a",)}, {"a": ("1", ("cat",))}, {"a": "mark"})
    others = (replace(record, lists={}), replace(record, photos={}), replace(record, reviews={}))
    assert len({one.digest for one in (record, *others)}) == 4
    assert replace(record).digest == record.digest
