"""Files appear whole or not at all; a manifest is what makes a stage finished."""

import json
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

from cti.files import (
    MANIFEST,
    atomic_path,
    from_json,
    read_json,
    read_manifest,
    read_object,
    to_json,
    write_json,
    write_manifest,
    write_text,
)


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "numbers.npz"
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        assert not target.exists()
        assert temporary.suffix == ".npz"
        assert temporary.parent == target.parent
    assert target.read_bytes() == b"half"
    assert list(target.parent.iterdir()) == [target]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "table.txt"
    write_text(target, "old")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("new and only half")
            raise OSError("disk is full")

    with pytest.raises(OSError, match="disk is full"):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_full_disk_is_said_whatever_a_library_makes_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch ends in a RuntimeError about positions."""
    free = shutil.disk_usage(tmp_path)._replace(free=0)
    with pytest.raises(RuntimeError, match="unexpected pos"), atomic_path(tmp_path / "state.pt"):
        raise RuntimeError("unexpected pos 24832")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(OSError, match=r"No space left on device: '.*state\.pt'"), atomic_path(tmp_path / "state.pt"):
        raise RuntimeError("unexpected pos 24832")
    assert not list(tmp_path.iterdir())


def test_files_have_ordinary_permissions(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644


def test_json_keeps_letters_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"class": "Straße"})
    assert "Straße" in path.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"miou": float("nan")})
    assert read_json(path) == {"class": "Straße"}


def test_a_damaged_json_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "half.json"
    for content in (b'{"result": ', b'{"a": "\xff"}', b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"half\.json is not valid JSON"):
            read_json(path)


@pytest.mark.parametrize("content", ["[]", "null", '"x"', "3"])
def test_json_that_is_no_object_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"list\.json is damaged: it holds no JSON object; restore it"):
        read_object(path)


def test_a_manifest_says_what_made_the_result(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    write_manifest(tmp_path, {"miou": 0.5}, stage="seeds", seed=3)
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert manifest["result"] == {"miou": 0.5}
    assert (manifest["stage"], manifest["seed"]) == ("seeds", 3)
    assert {"cti", "torch", "timm", "numpy"} <= manifest["versions"].keys()
    assert json.loads((tmp_path / MANIFEST).read_text()) == manifest


@dataclass(frozen=True)
class Inner:
    thresholds: tuple[float, ...]
    by_count: dict[int, str]


@dataclass(frozen=True)
class Outer:
    score: float | None
    inner: dict[str, Inner]


def test_a_dataclass_comes_back_equal_through_a_json_file(tmp_path: Path) -> None:
    value = Outer(None, {"a": Inner((0.1, 1 / 3), {2: "two"})})
    write_json(tmp_path / "value.json", to_json(value))
    assert read_json(tmp_path / "value.json") == {
        "score": None,
        "inner": {"a": {"thresholds": [0.1, 1 / 3], "by_count": {"2": "two"}}},
    }
    assert from_json(Outer, read_json(tmp_path / "value.json"), tmp_path / "value.json") == value


@pytest.mark.parametrize(
    ("value", "entry"), [({"score": "high", "inner": {}}, "score"), ({"score": 1, "inner": {"a": {}}}, "inner.a.thres")]
)
def test_json_of_another_shape_is_named_in_one_sentence(value: object, entry: str) -> None:
    with pytest.raises(ValueError, match=rf"^value\.json was not written by this version of cti \({entry}") as error:
        from_json(Outer, value, "value.json")
    assert "\n" not in str(error.value)
