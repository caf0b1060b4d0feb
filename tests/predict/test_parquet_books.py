"""`cti label --format parquet`: a row for each photo, with its mask as run-length codes."""

import builtins
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cti.cli import main
from cti.data.images import load_mask
from cti.data.mask_records import read_records
from cti.predict.label import label
from cti.predict.labeller import Labeller, Photo, Report
from cti.predict.shard import Shard
from tiny import RUN_CLASSES as CLASSES
from tiny import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("parquet"))


@pytest.fixture
def photos(run: Path, tmp_path: Path) -> Path:
    (tmp_path / "new").mkdir()
    for index in range(5):
        shutil.copy(run.parent / "photos" / "images" / f"p{index}.jpg", tmp_path / "new")
    return tmp_path / "new"


@pytest.fixture
def parquet() -> Any:
    pytest.importorskip("pycocotools", reason='pycocotools is not installed: pip install "cti[coco]"')
    return pytest.importorskip("pyarrow.parquet", reason='pyarrow is not installed: pip install "cti[parquet]"')


def rows(parquet: Any, out: Path) -> dict[str, dict[str, Any]]:
    """All files as one table, by id."""
    found = parquet.read_table(out / "photos").to_pylist()
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row for row in found}


def drawn(row: dict[str, Any]) -> NDArray[np.uint8]:
    """The mask that pycocotools makes of a row."""
    from pycocotools import mask as codes

    mask = np.zeros((row["height"], row["width"]), np.uint8)
    for part in row["masks"]:
        mask[codes.decode(part).astype(bool)] = part["category_id"]
        assert part["category"] == CLASSES[part["category_id"] - 1]
    return mask


def test_a_table_says_what_the_folder_says(run: Path, photos: Path, tmp_path: Path, parquet: Any) -> None:
    (photos / "bad.jpg").write_text("no photo")
    (tmp_path / "tags.csv").write_text("image,tags\np0.jpg,dog\n")
    label([photos], run, tmp_path / "png", labels=tmp_path / "tags.csv")
    out = tmp_path / "out"
    result = label([photos], run, out, labels=tmp_path / "tags.csv", format="parquet")
    assert (result.labelled, list(result.skipped)) == (5, [str(photos / "bad.jpg")])
    table, records = rows(parquet, out), read_records(tmp_path / "png")
    assert set(table) == set(records)
    for name, row in table.items():
        np.testing.assert_array_equal(drawn(row), load_mask(tmp_path / "png" / f"{name}.png"))
        record = records[name]
        assert (row["photo"], row["digest"], row["empty"]) == (record.photo, record.digest, record.empty)
        assert row["given"] == (None if record.given is None else list(record.given))
        assert row["tags"] == list(record.tags)
        assert row["scores"] == record.scores
        assert {key: share for key, share in row["shares"].items() if share is not None} == record.shares
        assert (row["confidence"], row["cannot_tell"]) == (record.confidence, record.cannot_tell)
        assert (row["certainty"] or {}) == record.certainty
    assert table["p0"]["given"] == ["dog"]
    assert (out / "errors.csv").read_text() == (tmp_path / "png" / "errors.csv").read_text()
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
    assert names == {"classes.txt", "errors.csv", "label.json", "manifest.json", "photos/part-00000.parquet"}


def test_what_stopped_goes_on_and_no_photo_is_there_twice(
    run: Path, photos: Path, tmp_path: Path, parquet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cti.predict.parquet_books._MOST_ROWS", 2)
    label([photos], run, tmp_path / "whole", format="parquet")
    assert len(list((tmp_path / "whole" / "photos").iterdir())) == 3
    out, through = tmp_path / "out", Labeller.label

    def disk_full(labeller: Labeller, todo: list[Photo], report: Report) -> None:
        through(labeller, todo[:3], report)
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Labeller, "label", disk_full)
        with pytest.raises(OSError, match="the disk is full"):
            label([photos], run, out, format="parquet")
    assert len(rows(parquet, out)) == 3  # also the one that waited for another
    (out / "photos" / ".part-00002.killed.tmp.parquet").write_bytes(b"half")
    kept = (out / "photos" / "part-00000.parquet").read_bytes()
    result = label([photos], run, out, format="parquet")
    assert (result.kept, result.labelled) == (3, 2)
    assert (out / "photos" / "part-00000.parquet").read_bytes() == kept
    found, whole = rows(parquet, out), rows(parquet, tmp_path / "whole")
    assert {name: row["masks"] for name, row in found.items()} == {name: row["masks"] for name, row in whole.items()}
    assert label([photos], run, out, format="parquet").kept == 5


def test_a_replaced_photo_has_its_old_row_replaced(run: Path, photos: Path, tmp_path: Path, parquet: Any) -> None:
    out = tmp_path / "out"
    label([photos], run, out, format="parquet")
    before = rows(parquet, out)
    shutil.copy(photos / "p1.jpg", photos / "p0.jpg")
    (photos / "p2.jpg").write_text("no photo")
    result = label([photos / "p0.jpg", photos / "p1.jpg", photos / "p2.jpg"], run, out, format="parquet")
    assert (result.kept, result.labelled, len(result.skipped)) == (1, 1, 1)
    after = rows(parquet, out)
    assert set(after) == {"p0", "p1", "p3", "p4"}  # what was not named stays
    assert after["p0"]["digest"] == before["p1"]["digest"]
    assert after["p0"]["masks"] == before["p1"]["masks"]
    assert after["p3"] == before["p3"]


def test_a_damaged_file_is_made_again(
    run: Path, photos: Path, tmp_path: Path, parquet: Any, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    label([photos], run, out, format="parquet")
    before, part = rows(parquet, out), out / "photos" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-50])
    assert label([photos], run, out, format="parquet").labelled == 5
    assert "part-00000.parquet cannot be read" in caplog.text
    assert rows(parquet, out) == before


def test_files_and_tables_are_not_mixed(run: Path, photos: Path, tmp_path: Path, parquet: Any) -> None:
    label([photos], run, tmp_path / "table", format="parquet")
    with pytest.raises(ValueError, match=r"made otherwise \(format 'parquet', now None\)"):
        label([photos], run, tmp_path / "table")
    label([photos], run, tmp_path / "png")
    with pytest.raises(ValueError, match=r"made otherwise \(format None, now 'parquet'\)"):
        label([photos], run, tmp_path / "png", format="parquet")


def test_shards_together_are_the_whole_table(
    run: Path, photos: Path, tmp_path: Path, parquet: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["label", str(photos), "--model", str(run), "--out", str(tmp_path / "out"), "--format", "parquet"]
    for index in range(2):
        assert main([*words, "--shard", f"{index}/2", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["out"] == str(tmp_path / "out" / f"{index}-of-2")
    parts = [rows(parquet, Shard(index, 2).folder(tmp_path / "out")) for index in range(2)]
    assert sorted(name for part in parts for name in part) == [f"p{index}" for index in range(5)]


def test_an_export_says_that_it_takes_no_tables(
    run: Path, photos: Path, tmp_path: Path, parquet: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    label([photos], run, tmp_path / "out", format="parquet")
    assert main(["export", "png", str(tmp_path / "out"), "--out", str(tmp_path / "masks")]) == 1
    assert "holds its masks in Parquet tables; label with --format png" in capsys.readouterr().err


def test_without_pyarrow_one_sentence_says_what_to_install(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any, **others: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError(f"No module named '{name}'")
        return real(name, *more, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r'need pyarrow and pycocotools: pip install "cti\[parquet,coco\]"'):
        label([photos], run, tmp_path / "out", format="parquet")
    assert not (tmp_path / "out").exists()
