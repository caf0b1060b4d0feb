"""What is known of each mask: written line by line, read back, and as a table."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cti.data.images import save_mask
from cti.data.mask_records import (
    PhotoRecord,
    add_record,
    claim,
    file_digest,
    is_whole,
    locked,
    read_records,
    write_records,
)

CAT = PhotoRecord(
    "photos/ä.jpg", "0f", (2, 3), ("cat",), ("cat",), {"cat": 0.75, "dog": 0.5}, {"background": 0.5, "cat": 0.5},
    False, 0.25, {"cat": 0.125}, None,
)  # fmt: skip
NOTHING = PhotoRecord(
    "b.jpg", "", (4, 5), None, (), {"cat": 0.00004, "dog": 0.00005}, {"background": 1.0}, True, 1.0, {}, True
)


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    assert read_records(tmp_path) == {}
    add_record(tmp_path, "ä", NOTHING)
    add_record(tmp_path, "b", NOTHING)
    add_record(tmp_path, "ä", CAT)  # of several lines the last one counts
    assert read_records(tmp_path) == {"ä": CAT, "b": NOTHING}
    assert "photos/ä.jpg" in (tmp_path / "photos.jsonl").read_text(encoding="utf-8")
    write_records(tmp_path, {"b": NOTHING, "ä": CAT}, ("cat", "dog"))
    assert list(read_records(tmp_path).items()) == [("b", NOTHING), ("ä", CAT)]
    with pytest.raises(ValueError, match="not JSON compliant"):
        add_record(tmp_path, "c", replace(CAT, confidence=float("nan")))


@pytest.mark.parametrize(
    "line", ['{"id": "c"}', '{"id": "c", "given": null, "size": 3, "tags": []}', "[1]", '{"id', "3"]
)
def test_lines_that_are_cut_short_do_not_count(tmp_path: Path, line: str) -> None:
    add_record(tmp_path, "a", CAT)
    with (tmp_path / "photos.jsonl").open("ab") as handle:
        handle.write(line.encode() + b"\xff\n")
    add_record(tmp_path, "b", NOTHING)
    assert read_records(tmp_path) == {"a": CAT, "b": NOTHING}


def test_the_table_has_a_row_for_each_photo_in_the_order_of_their_ids(tmp_path: Path) -> None:
    write_records(tmp_path, {"b": NOTHING, "a": replace(CAT, cannot_tell=False)}, ("cat", "dog"))
    assert (tmp_path / "photos.csv").read_bytes().decode() == (
        "id,photo,tags,empty,confidence,cannot tell,score cat,score dog,share background,share cat,share dog,"
        "certainty cat,certainty dog\n"
        "a,photos/ä.jpg,cat,0,0.2500,0,0.7500,0.5000,0.5000,0.5000,0.0000,0.1250,\n"
        "b,b.jpg,,1,1.0000,1,0.0000,0.0001,1.0000,0.0000,0.0000,,\n"
    )
    write_records(tmp_path, {"a": replace(CAT, tags=("cat", "dog"))}, ("cat", "dog"))
    assert "a,photos/ä.jpg,cat;dog,0,0.2500,,0.75" in (tmp_path / "photos.csv").read_text(encoding="utf-8")


def test_a_folder_is_locked_at_once_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    with locked(folder):
        with pytest.raises(ValueError, match=r"Another run is writing to .*out; wait for it, or choose another folder"):
            locked(folder).__enter__()
        with pytest.raises(ValueError, match="Another run"):  # whoever was kept out has unlocked nothing
            locked(folder).__enter__()
    with pytest.raises(ZeroDivisionError), locked(folder):
        raise ZeroDivisionError
    with locked(folder):
        pass


def test_masks_of_other_settings_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    claim(tmp_path, {"tags": ["cat"], "threshold": None})
    claim(tmp_path, {"tags": ["cat"], "threshold": None, "format": None})  # which folders of before do not say
    assert json.loads((tmp_path / "label.json").read_text()) == {"tags": ["cat"], "threshold": None, "format": None}
    said = r"made otherwise \(tags \['cat'\], now None; format None, now 'parquet'\); choose another folder"
    with pytest.raises(ValueError, match=said):
        claim(tmp_path, {"tags": None, "threshold": None, "format": "parquet"})
    assert json.loads((tmp_path / "label.json").read_text())["tags"] == ["cat"]


def test_a_mask_is_whole_if_it_has_its_photos_size_and_classes(tmp_path: Path) -> None:
    assert not is_whole(tmp_path, "a", CAT)
    save_mask(tmp_path / "a.png", np.full((2, 3), 2, np.uint8))
    assert is_whole(tmp_path, "a", CAT)
    assert not is_whole(tmp_path, "a", replace(CAT, size=(3, 2)))
    assert not is_whole(tmp_path, "a", replace(CAT, size=(1, 2)))
    assert not is_whole(tmp_path, "a", replace(CAT, scores={"cat": 1.0}))
    (tmp_path / "a.png").write_bytes(b"half")
    assert not is_whole(tmp_path, "a", CAT)
    assert len(file_digest(tmp_path / "a.png")) == 64
    assert file_digest(tmp_path / "gone") == ""
