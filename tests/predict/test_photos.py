"""Photos named by a table of paths."""

import builtins
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cti.predict.label import label
from cti.predict.photos import find_photos
from tiny import make_run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for place in ("a.jpg", "sub/b.jpg", "far/c.jpg"):
        (tmp_path / "data" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 40), (200, 90, 10)).save(tmp_path / "data" / place)
    return tmp_path / "data"


def test_a_table_names_photos_relative_to_its_folder(photos: Path) -> None:
    far = photos.parent / "elsewhere.jpg"
    (photos / "list.csv").write_text(f"id,path,note\n1,a.jpg,x\n2,./sub/b.jpg,y\n3,{photos}/far/c.jpg,z\n4,{far},\n")
    assert find_photos([photos / "list.csv"]) == {
        "a": photos / "a.jpg",
        "sub__b": photos / "sub" / "b.jpg",
        "far__c": photos / "far" / "c.jpg",
        str(far.with_suffix("")).lstrip("/").replace("/", "__"): far,
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "a.jpg\nsub/b.jpg\n"),
        ("list.csv", "filename\na.jpg\nsub/b.jpg\n"),
        ("l.tsv", "7\ta.jpg\n8\tsub/b.jpg\n"),
    ],
)
def test_lists_with_and_without_headings(photos: Path, name: str, text: str) -> None:
    (photos / name).write_text(text)
    assert set(find_photos([photos / name])) == {"a", "sub__b"}


def test_a_table_that_is_not_clear_is_refused(photos: Path) -> None:
    table = photos / "list.csv"
    table.write_text("left,right\na.jpg,sub/b.jpg\n")
    with pytest.raises(ValueError, match=r"list.csv: none of the columns .* surely names the photos"):
        find_photos([table])
    table.write_text("path,note\na.jpg,x\n,y\n")
    with pytest.raises(ValueError, match=r"list.csv, line 3: the column of photos is empty"):
        find_photos([table])
    table.write_text("path\n")
    with pytest.raises(ValueError, match=r"There is no photo in .*list.csv"):
        find_photos([table])


def test_what_a_table_names_and_is_not_there_is_skipped(photos: Path, tmp_path: Path) -> None:
    (photos / "list.csv").write_text("path\na.jpg\ngone.jpg\n")
    result = label([photos / "list.csv"], make_run(tmp_path / "made"), tmp_path / "out")
    assert list(result.photos) == ["a"]
    assert list(result.skipped) == [str(photos / "gone.jpg")]
    assert "gone.jpg" in (tmp_path / "out" / "errors.csv").read_text()


def test_parquet_is_read_as_csv_is(photos: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"number": [1, 2], "path": ["a.jpg", "sub/b.jpg"]})
    parquet.write_table(table, photos / "list.parquet")
    assert set(find_photos([photos / "list.parquet"])) == {"a", "sub__b"}
    (photos / "list.parquet").write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"list.parquet is no Parquet file that can be read"):
        find_photos([photos / "list.parquet"])


def test_parquet_without_pyarrow_says_what_to_install(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any, **others: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError(f"No module named '{name}'")
        return real(name, *more, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    (photos / "list.parquet").write_bytes(b"PAR1")
    with pytest.raises(ModuleNotFoundError, match=r'needs pyarrow: pip install "cti\[parquet\]"; or give .* as CSV'):
        find_photos([photos / "list.parquet"])
