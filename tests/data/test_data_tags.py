"""Tags files: every separator, and an error that names file, line and remedy for everything else."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cti.data.tags import read_tags


def _csv(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text.encode("utf-8"))
    return path


def test_separators_may_mix(tmp_path: Path) -> None:
    text = 'image,tags\na.jpg,cat dog\nb.jpg,cat;dog\nc.jpg,"cat,dog"\nd.jpg,"cat, dog"\ne.jpg, cat ; dog;\nf.jpg,\n'
    tags = read_tags(_csv(tmp_path, text))
    assert all(tags[f"{name}.jpg"] == {"cat", "dog"} for name in "abcde")
    assert tags["f.jpg"] == frozenset()


def test_spreadsheet_habits_are_understood(tmp_path: Path) -> None:
    text = "\ufeffImage,Tags,note\r\nsub\\a.jpg,cat,x\r\n\r\n./b.JPG,dog dog,\r\n,,\r\n"
    assert read_tags(_csv(tmp_path, text)) == {"sub/a.jpg": {"cat"}, "b.JPG": {"dog"}}


def test_names_with_spaces_stay_whole(tmp_path: Path) -> None:
    text = "image,tags\na.jpg,traffic light;cat\nb.jpg,traffic light\nc.jpg,cat traffic light dog\n"
    tags = read_tags(_csv(tmp_path, text))
    assert tags["b.jpg"] == {"traffic light"}
    assert tags["c.jpg"] == {"cat", "traffic light", "dog"}
    assert read_tags(_csv(tmp_path, "image,tags\na.jpg,stop sign\n"), known=("stop sign",)) == {"a.jpg": {"stop sign"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"labels\.csv, line 1: the first line must be image,tags but is nothing"),
        ("photo,label\na.jpg,cat\n", r"labels\.csv, line 1: .* but is photo,label"),
        ("image;tags\na.jpg;cat\n", r"labels\.csv, line 1: .* but is image;tags"),
        ("image,tags\n", r"labels\.csv names no photo; add one line per photo"),
        ("image,tags\na.jpg,cat\nb.jpg,cat,dog\n", r"labels\.csv, line 3: 3 columns where .* put quotes"),
        ("image,tags\na.jpg\n", r"labels\.csv, line 2: 1 columns"),
        ("image,tags\n,cat\n", r"labels\.csv, line 2: the image column is empty"),
        ("image,tags\na.jpg,cat\n./a.jpg,dog\n", r"labels\.csv, line 3: 'a\.jpg' was on line 2 already"),
        ("image,tags\n../a.jpg,cat\n", r"labels\.csv, line 2: '\.\./a\.jpg' leaves the photo folder"),
        ("image,tags\n/etc/a.jpg,cat\n", r"labels\.csv, line 2: .* leaves the photo folder"),
        ('image,tags\na.jpg,"cat\n', r"labels\.csv, line 2: .*quotes"),
        ('image,tags\na.jpg,"cat" dog\n', r"labels\.csv, line 2: .*quotes"),
    ],
)
def test_errors_name_file_line_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_tags(_csv(tmp_path, text))


def test_other_encodings_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes("image,tags\nä.jpg,cat\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"labels\.csv is not UTF-8"):
        read_tags(tmp_path / "labels.csv")
    with pytest.raises(FileNotFoundError, match=r"other\.csv; write one with the first line image,tags"):
        read_tags(tmp_path / "other.csv")


def test_text_files_hold_one_photo_a_line(tmp_path: Path) -> None:
    (tmp_path / "tags.txt").write_text("2007_000032 aeroplane person\n\n2007_000033\n", encoding="utf-8")
    assert read_tags(tmp_path / "tags.txt") == {"2007_000032": {"aeroplane", "person"}, "2007_000033": frozenset()}


@given(text=st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_is_tags_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("csv") / "labels.csv"
    path.write_bytes(("image,tags\n" + text).encode("utf-8", "surrogatepass"))
    try:
        outcome = [str(path) for image in read_tags(path) if image]
    except ValueError as error:
        outcome = [str(error)]
    assert outcome
    assert str(path) in outcome[0]
