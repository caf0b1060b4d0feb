"""Tags files of every form, and an error that names file, line and remedy for everything else."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cti.data.photo_folder import PhotoFolder
from cti.data.source import tags_of_photos
from cti.data.tags import Hints, read_tags
from cti.data.tags.cells import split_cells
from cti.data.tags.delimited import read_delimited
from cti.data.tags.read import find_tags_file
from cti.data.tags.tools import read_label_studio


def _csv(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode("utf-8"))
    return path


def _tags(path: Path, **hints: Any) -> dict[str, set[str]]:
    table = read_tags(path, hints=Hints(**hints))
    return {photo: set(tags) for photo, tags in tags_of_photos(table, PhotoFolder(path.parent)).items()}


A_CAT_B_BOTH = {"a.jpg": {"cat"}, "b.jpg": {"cat", "dog"}, "c.jpg": set()}


@pytest.mark.parametrize(
    "text",
    [
        "image,tags\na.jpg,cat\nb.jpg,cat dog\nc.jpg,\n",
        "filename,label\na.jpg,cat\nb.jpg,cat;dog\nc.jpg,\n",
        "image_name,labels\na.jpg,cat\nb.jpg,cat|dog\nc.jpg,\n",
        "image;tags\na.jpg;cat\nb.jpg;cat,dog\nc.jpg;\n",
        "image;tags\na.jpg;cat\nb.jpg;cat;dog\nc.jpg;\n",
        "sep=;\nimage;tags\na.jpg;cat\nb.jpg;cat dog\nc.jpg;\n",
        "image\ttags\na.jpg\tcat\nb.jpg\tcat, dog\nc.jpg\t\n",
        "a.jpg,cat\nb.jpg,cat;dog\nc.jpg,\n",
        "a.jpg;cat\nb.jpg;cat,dog\nc.jpg;\n",
        "a.jpg,cat\nb.jpg,cat,dog\nc.jpg\n",
        "image,tags\na.jpg,cat\nb.jpg,cat,dog\nc.jpg,\n",
        "image,tags\na.jpg,cat\nb.jpg,cat\nb.jpg,dog\nc.jpg,\n",
        "image,cat,dog\na.jpg,1,0\nb.jpg,1,1\nc.jpg,0,0\n",
        "Image ID;cat;dog\na.jpg;1.0;0.0\nb.jpg;true;x\nc.jpg;;\n",
        "id,filename,width,cat,dog\n7,a.jpg,640,1,0\n8,b.jpg,480,1,1\n9,c.jpg,50,0,0\n",
        "image,tags\na.jpg,\"['cat']\"\nb.jpg,\"['cat', 'dog']\"\nc.jpg,[]\n",
        "image,tags\na.jpg,['cat']\nb.jpg,['cat', 'dog']\nc.jpg,\n",
        "image,tags\na.jpg,\"[\"\"cat\"\"]\"\nb.jpg,\"[\"\"cat\"\", \"\"dog\"\"]\"\nc.jpg,\n",
        "image,tags\na.jpg,cat\nb.jpg,\"[cat, dog]\"\nc.jpg,\n",
        "image,tags\na.jpg,cat\nd.jpg,dog\nb.jpg,cat/dog\nc.jpg,\n",
        "image,tag1,tag2\na.jpg,cat,\nb.jpg,cat,dog\nc.jpg,,\n",
        'image, tags\na.jpg, cat\nb.jpg, "cat, dog"\nc.jpg,\n',
        "pic_no,tags\na.jpg,['cat']\nb.jpg,['cat', 'dog']\nc.jpg,[]\n",
        "width,photo,Schlagwort\n640,a.jpg,cat\n480,b.jpg,cat;dog\n3,c.jpg,\n",
        "image,id,choice\na.jpg,1,cat\nb.jpg,2,\"{\"\"choices\"\": [\"\"cat\"\", \"\"dog\"\"]}\"\nc.jpg,3,\n",
    ],
)  # fmt: skip
def test_every_form_of_a_table(tmp_path: Path, text: str) -> None:
    options = {"tags_column": "Schlagwort"} if "Schlagwort" in text else {}
    tags = _tags(_csv(tmp_path, text), **options)
    assert tags | {"d.jpg": {"dog"}} == A_CAT_B_BOTH | {"d.jpg": {"dog"}}


def _task(image: str, *choices: list[str]) -> dict[str, Any]:
    """A task as Label Studio exports it: one annotation per list of choices."""
    results = [{"result": [{"value": {"choices": names}}] if names else []} for names in choices]
    return {"data": {"image": image}, "annotations": results}


_JSON_FORMS: dict[str, Any] = {
    "by name": {"a.jpg": "cat", "b.jpg": ["cat", "dog"], "c.jpg": []},
    "one-hot": {"a.jpg": {"cat": 1, "dog": 0}, "b.jpg": {"cat": True, "dog": True}, "c.jpg": None},
    "records": [
        {"file_name": "a.jpg", "label": "cat"},
        {"file_name": "b.jpg", "label": "cat, dog"},
        {"file_name": "c.jpg", "label": ""},
    ],
    "by name, wrapped": {"photos": {"a.jpg": "cat", "b.jpg": "cat dog", "c.jpg": None}},
    "wrapped": {
        "version": 1,
        "photos": [
            {"image": "a.jpg", "tags": ["cat"]},
            {"image": "b.jpg", "tags": [{"name": "cat"}, {"name": "dog"}]},
            {"image": "c.jpg"},
        ],
    },
    "Label Studio": [
        _task("/data/upload/3/0badcafe-a.jpg", ["cat"]),
        _task("/data/local-files/?d=x/b.jpg", ["cat"], ["dog"]),
        _task("s3://bucket/c.jpg", []),
        _task("nobody-looked.jpg"),
    ],
    "Label Studio's short form": [
        {"image": "/data/upload/3/0badcafe-a.jpg", "id": 1, "choice": "cat"},
        {"image": "b.jpg", "id": 2, "choice": {"choices": ["cat", "dog"]}},
        {"image": "c.jpg", "id": 3},
    ],
}


@pytest.mark.parametrize("form", _JSON_FORMS)
def test_every_form_of_json(tmp_path: Path, form: str) -> None:
    for photo in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / photo).touch()
    (tmp_path / "labels.json").write_text(json.dumps(_JSON_FORMS[form]))
    assert _tags(tmp_path / "labels.json") == A_CAT_B_BOTH


def test_of_label_studio_only_what_somebody_said_counts(tmp_path: Path) -> None:
    """Whatever else lies in the file; the photo goes by its own name if it was uploaded, else by its path."""
    results = [3, {}, {"value": None}, {"value": {"choices": "cat"}}, {"value": {"labels": ["dog", " cat"], "x": 1}}]
    cancelled = {"was_cancelled": True, "result": [{"value": {"choices": ["cow"]}}]}
    tasks = [
        {"data": {"n": 1, "image": "s3://bucket/a.jpg"}, "annotations": [None, {"result": results}, cancelled]},
        {"data": {"text": "no photo", "img": "sub/b.jpg"}, "completions": [{"result": "broken"}]},
        {"data": {"any": "/data/c.jpg"}, "annotations": [cancelled]},
        {"data": {"any": "d.jpg"}, "annotations": {}},
    ]
    table = read_label_studio(tmp_path / "export.json", tasks)
    assert [(row.image, row.tags, row.where) for row in table.rows] == [
        ("a.jpg", ("cat", "dog"), f"{tmp_path}/export.json, task 1"),
        ("sub/b.jpg", (), f"{tmp_path}/export.json, task 2"),
    ]
    assert table.note == "export.json: Label Studio, 2 of 4 tasks annotated, e.g. a.jpg -> cat, dog."
    assert read_label_studio(tmp_path / "export.json", tasks[2:]).note.endswith("0 of 2 tasks annotated.")


def test_json_lines_and_text_and_cvat(tmp_path: Path) -> None:
    lines = ['{"file_name": "a.jpg", "tags": ["cat"]}', "", '{"file_name": "b.jpg", "tags": ["cat", "dog"]}',
             '{"file_name": "c.jpg", "tags": []}']  # fmt: skip
    assert _tags(_csv(tmp_path, "\n".join(lines), "metadata.jsonl")) == A_CAT_B_BOTH
    assert _tags(_csv(tmp_path, "a.jpg cat\nb.jpg cat dog\nc.jpg\n", "tags.txt")) == A_CAT_B_BOTH
    assert _tags(_csv(tmp_path, "my cat 1.jpg cat\n", "tags.txt")) == {"my cat 1.jpg": {"cat"}}
    assert _tags(_csv(tmp_path, "image tags\na.jpg cat\n", "tags.txt")) == {"a.jpg": {"cat"}}
    assert _tags(_csv(tmp_path, "image;tags\na.jpg;cat dog\n", "tags.txt")) == {"a.jpg": {"cat", "dog"}}
    assert _tags(_csv(tmp_path, "a.jpg|cat\n", "tags.txt")) == {"a.jpg": {"cat"}}
    assert _tags(_csv(tmp_path, "2007_000032 aeroplane person\n\n2007_000033\n", "tags.txt")) == {
        "2007_000032": {"aeroplane", "person"},
        "2007_000033": set(),
    }
    images = '<image id="0" name="a.jpg"><tag label="cat"/></image><image id="1" name="b.jpg"><tag label="cat"/>'
    images += '<box label="dog" xtl="1"/></image><image id="2" name="c.jpg"></image>'
    assert _tags(_csv(tmp_path, f"<annotations>{images}</annotations>", "annotations.xml")) == A_CAT_B_BOTH


def test_what_was_understood_is_one_line_with_an_example(tmp_path: Path) -> None:
    table = read_tags(_csv(tmp_path, "filename,label\na.jpg,cat\nb.jpg,cat;dog\n"))
    assert table.note == "labels.csv: one row per photo, column 'label' split at ';', e.g. b.jpg -> cat, dog."
    table = read_tags(_csv(tmp_path, "image,cat,dog\na.jpg,1,1\n"))
    assert table.note == "labels.csv: one column per class (2), e.g. a.jpg -> cat, dog."
    table = read_tags(_csv(tmp_path, "image,tags\na.jpg,cat\na.jpg,dog\n"))
    assert table.note.startswith("labels.csv: one row per photo and tag, column 'tags', e.g. a.jpg -> cat")


@pytest.mark.parametrize("header", [("image", "x, y, z"), ("one, two, three", "tags")])
def test_headings_that_are_understood_say_what_separates(tmp_path: Path, header: tuple[str, ...]) -> None:
    """There are as many commas, or more, but between them nothing is a heading."""
    path = _csv(tmp_path, ";".join(header) + "\n" + ";".join("abc"[: len(header)]) + "\n")
    assert read_delimited(path, lambda name: False).header == header


def test_only_what_separates_is_said() -> None:
    assert split_cells(["cat", 7, ["dog"], '["bird"]'])[1] == ""
    assert split_cells(["cat", ["dog", "cat"]])[1] == "lists"
    assert split_cells(["cat;", "dog|cat"])[1] == "split at '|'"
    assert split_cells(["cat\ndog"])[1] == "split at line breaks"
    assert split_cells(["cat", "dog", "cat/dog"])[1] == "split at '/'"
    assert split_cells(["cat", "dog", "cat/dog", "cat dog"])[1] == "split at spaces"


def test_separators_may_mix(tmp_path: Path) -> None:
    text = 'image,tags\na.jpg,cat dog\nb.jpg,cat;dog\nc.jpg,"cat,dog"\nd.jpg,"cat, dog"\ne.jpg, cat ; dog;\nf.jpg,\n'
    tags = _tags(_csv(tmp_path, text))
    assert all(tags[f"{name}.jpg"] == {"cat", "dog"} for name in "abcde")
    assert tags["f.jpg"] == set()


def test_spreadsheet_habits_are_understood(tmp_path: Path) -> None:
    text = "\ufeffImage,Tags,note\r\nsub\\a.jpg,cat,x\r\n\r\n./b.JPG,dog dog,\r\n,,\r\nc.jpg,dog,,,\r\n"
    assert _tags(_csv(tmp_path, text)) == {"sub/a.jpg": {"cat"}, "b.JPG": {"dog"}, "c.jpg": {"dog"}}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_other_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "labels.csv").write_bytes("image,tags\nä.jpg,Kätzchen\n".encode(encoding))
    assert _tags(tmp_path / "labels.csv") == {"ä.jpg": {"Kätzchen"}}


def test_names_with_spaces_stay_whole(tmp_path: Path) -> None:
    text = "image,tags\na.jpg,traffic light;cat\nb.jpg,traffic light\nc.jpg,cat traffic light dog\n"
    tags = _tags(_csv(tmp_path, text))
    assert tags["b.jpg"] == {"traffic light"}
    assert tags["c.jpg"] == {"cat", "traffic light", "dog"}
    assert _tags(_csv(tmp_path, "image,tags\na.jpg,stop sign\n"), known=("stop sign",)) == {"a.jpg": {"stop sign"}}
    known = ("stop sign", "fire truck", "fire truck ladder")  # the longest that fits, with something after it
    found = _tags(
        _csv(tmp_path, "image,tags\na.jpg,stop sign cat fire truck ladder\nb.jpg,fire truck fire\n"), known=known
    )
    assert found == {"a.jpg": {"stop sign", "cat", "fire truck ladder"}, "b.jpg": {"fire truck", "fire"}}
    one = _tags(_csv(tmp_path, "filename,label\na.jpg,golden retriever\nb.jpg,cat\nc.jpg,dog\nd.jpg,cat dog\n"))
    assert one["a.jpg"] == {"golden retriever"}  # `label` speaks of one name
    assert one["d.jpg"] == {"cat", "dog"}  # each is a name elsewhere


def test_words_that_are_never_apart_are_doubted() -> None:
    names, _, problems = split_cells(["golden retriever", "cat golden retriever", "cat dog", "dog"])
    assert names[0] == ("golden", "retriever")
    assert len(problems) == 1
    assert "'golden' and 'retriever' are on the same 2 photos" in problems[0]
    assert "data.classes" in problems[0]
    assert split_cells(["red car", "red car", "red"])[2] == ()  # one of them is alone elsewhere
    assert split_cells(["red car", "red car", "car"])[2] == ()
    assert split_cells(["red car"])[2] == ()  # once is chance
    assert len(split_cells([f"a{number} b{number}" for number in range(4)] * 2)[2]) == 3


def test_names_in_brackets_are_names() -> None:
    assert split_cells(["[bold]", "[bold] [/dog]", "(a) b"])[0] == [("[bold]",), ("[bold]", "[/dog]"), ("(a)", "b")]


def test_columns_that_are_not_certain_are_asked_for(tmp_path: Path) -> None:
    path = _csv(tmp_path, "image,colour,shape\na.jpg,red,round\nb.jpg,blue,round\n")
    with pytest.raises(ValueError, match=r"no column surely holds .* image, colour, shape: set data\.tags_column"):
        read_tags(path)
    assert _tags(path, tags_column="Colour") == {"a.jpg": {"red"}, "b.jpg": {"blue"}}
    with pytest.raises(ValueError, match=r"no column 'color' \(data\.tags_column\); its columns are image, colour"):
        read_tags(path, hints=Hints(tags_column="color"))
    both = _csv(tmp_path, "image,label,category\na.jpg,red,round\n")
    with pytest.raises(ValueError, match=r"more than one column may hold the tags; .*data\.tags_column"):
        read_tags(both)
    numbered = _csv(tmp_path, "image,label,label_name\na.jpg,0,cat\nb.jpg,1,dog\n")
    assert _tags(numbered) == {"a.jpg": {"cat"}, "b.jpg": {"dog"}}
    odd = _csv(tmp_path, "one,two\nx,cat\ny,dog\n")
    with pytest.raises(ValueError, match=r"none of the columns one, two surely names .*; set data\.image_column"):
        read_tags(odd)
    assert _tags(odd, image_column="one") == {"x": {"cat"}, "y": {"dog"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"labels\.csv is empty; write the first line image,tags"),
        ("image,tags\n", r"labels\.csv names no photo; add one line per photo"),
        ("image,tags,x\na.jpg,cat,\nb.jpg,cat,dog,5\n", r"labels\.csv, line 3: 4 columns where .* put quotes"),
        ("image,tags\na.jpg\n", r"labels\.csv, line 2: 1 columns"),
        ("image,tags\n,cat\n", r"labels\.csv, line 2: the image column is empty"),
        ("image,tags\na.jpg,cat\n./a.jpg,\n", r"labels\.csv, line 3: 'a\.jpg' was on .*line 2 already.*keep one"),
        ("image,tags\n../a.jpg,cat\n", r"labels\.csv, line 2: '\.\./a\.jpg' leaves the photo folder"),
        ("image,tags\n/etc/a.jpg,cat\n", r"labels\.csv, line 2: .* leaves the photo folder"),
        ("image,tags\nC:\\a.jpg,cat\n", r"labels\.csv, line 2: 'C:/a\.jpg' leaves the photo folder"),
        ('image,tags\na.jpg,"cat\n', r"labels\.csv, line 2: .*quotes"),
        ('image,tags\na.jpg,"cat" dog\n', r"labels\.csv, line 2: .*quotes"),
    ],
)
def test_errors_name_file_line_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _tags(_csv(tmp_path, text))


def test_what_is_no_text_or_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"image,tags\n\x81\x8d.jpg,cat\n")
    with pytest.raises(ValueError, match=r"labels\.csv is not UTF-8"):
        read_tags(tmp_path / "labels.csv")
    with pytest.raises(FileNotFoundError, match=r"other\.csv; write one with the first line image,tags"):
        read_tags(tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("labels.json", "[1, 2]", "holds no tags in a form that is known"),
        ("labels.json", "{", r"labels\.json, line 1: not valid JSON"),
        ("labels.jsonl", '{"image": "a.jpg"}\n[3]\n', r"labels\.jsonl, line 2: not a JSON object"),
        ("labels.json", '[{"data": {"n": 5}, "annotations": [], "id": 9}]', "task 9: its data name no photo"),
        ("tags.xml", "<annotations/>", "is not CVAT's"),
        ("tags.xml", "<annotations><image/></annotations>", "image 1: it has no name"),
        ("tags.xml", "<annotations>\n<image>", r"tags\.xml, line 2: not valid XML .*export it again"),
        ("tags.xml", '<annotations><image name="a.jpg"><tag/></image></annotations>', "image 1: a tag has no label"),
        ("labels.jsonl", '{"image": "a.jpg", "tags": []}\n{"image"\n', r"labels\.jsonl, line 2: not valid JSON"),
        ("labels.txt", "\n \n", r"labels\.txt is empty; write one line per photo"),
        ("labels.csv", "a.jpg\nb.jpg\n", r"labels\.csv holds one column only; put the tags beside the photos"),
        ("labels.csv", "a.jpg,cat,1\nb.jpg,dog,2\n", r"labels\.csv has no heading and several columns, some of them n"),
    ],
)
def test_foreign_exports_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_tags(_csv(tmp_path, text, name))


@given(text=st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_is_tags_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("csv") / "labels.csv"
    path.write_bytes(("image,tags\n" + text).encode("utf-8", "surrogatepass"))
    try:
        outcome = [f"{path} is read" for row in read_tags(path).rows if row.image]
    except ValueError as error:
        outcome = [str(error)]
    assert outcome
    assert str(path) in outcome[0]


def test_of_several_tags_files_the_usual_one_is_taken(tmp_path: Path) -> None:
    for name in ("tags.json", "tags.csv", "labels.csv"):
        (tmp_path / name).touch()
        assert find_tags_file([tmp_path]) == tmp_path / name


def test_a_first_photo_without_tags_does_not_make_a_list_a_table(tmp_path: Path) -> None:
    path = tmp_path / "tags.txt"
    path.write_text("a.jpg\nb.jpg cat dog\n")
    assert _tags(path) == {"a.jpg": set(), "b.jpg": {"cat", "dog"}}


def test_what_is_beside_the_tags_of_a_photo_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "tags.json"
    entries = {"a.jpg": {"labels": ["cat"], "width": 9}, "b.jpg": {"labels": ["cat", "dog"], "width": 8}}
    path.write_text(json.dumps(entries))
    assert _tags(path) == {"a.jpg": {"cat"}, "b.jpg": {"cat", "dog"}}
    path.write_text(json.dumps([{"file": name, "tags": {"cat": 1, "dog": 0}} for name in entries]))
    assert _tags(path) == {"a.jpg": {"cat"}, "b.jpg": {"cat"}}


@pytest.mark.parametrize(
    ("header", "what"),
    [("image,label,cat", "more than one column may hold the tags; the columns are image, label, cat"),
     ("image", "no column surely holds the tags; the columns are image")],
)  # fmt: skip
def test_a_table_whose_column_of_tags_is_unsure_is_refused(tmp_path: Path, header: str, what: str) -> None:
    rows = [",".join([name, "1", "0"][: len(header.split(","))]) for name in ("a.jpg", "b.jpg")]
    with pytest.raises(ValueError, match=f"line 1: {what}: set data.tags_column to one of them"):
        read_tags(_csv(tmp_path, "\n".join([header, *rows]) + "\n"))


def test_one_column_of_0_and_1_is_a_class_if_nothing_else_is_there(tmp_path: Path) -> None:
    assert _tags(_csv(tmp_path, "image,cat\na.jpg,1\nb.jpg,0\n")) == {"a.jpg": {"cat"}, "b.jpg": set()}
    with pytest.raises(ValueError, match="no column surely holds the tags"):
        read_tags(_csv(tmp_path, "image,note,cat\na.jpg,red,1\nb.jpg,blue,0\n"))


def test_without_a_heading_spaces_separate_in_one_column_and_not_in_several(tmp_path: Path) -> None:
    assert _tags(_csv(tmp_path, "a.jpg,golden retriever\n")) == {"a.jpg": {"golden", "retriever"}}
    assert _tags(_csv(tmp_path, "a.jpg,golden retriever,cat\n")) == {"a.jpg": {"golden retriever", "cat"}}


def test_a_column_called_image_names_the_photos_whatever_others_hold(tmp_path: Path) -> None:
    assert _tags(_csv(tmp_path, "image,source,tags\n0001,scan.png,cat\n")) == {"0001": {"cat"}}
    assert _tags(_csv(tmp_path, "id,source,tags\n0001,scan.png,cat\n")) == {"scan.png": {"cat"}}
    assert _tags(_csv(tmp_path, "cover.png,what\na.jpg,cat\n"), image_column="cover.png") == {"a.jpg": {"cat"}}


@pytest.mark.parametrize(("columns", "end"), [(12, "c10: set"), (13, r"c10, \.\.\.: set")])
def test_of_many_columns_a_dozen_are_shown(tmp_path: Path, columns: int, end: str) -> None:
    rows = [["image", *(f"c{number}" for number in range(columns - 1))], ["a.jpg", *["text"] * (columns - 1)]]
    with pytest.raises(ValueError, match=f"the columns are image, c0, .*{end}"):
        read_tags(_csv(tmp_path, "".join(",".join(row) + "\n" for row in rows)))


def test_of_many_files_that_may_be_the_tags_five_are_shown(tmp_path: Path) -> None:
    for name in (
        "a.csv",
        "b.json",
        "c.jsonl",
        "d.tsv",
        "e.XML",
        "f.csv",
        ".hidden.csv",
        "shapes.json",
        "g.md",
        "h.csv",
    ):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"the tags: a\.csv, b\.json, c\.jsonl, d\.tsv, e\.XML; name one"):
        find_tags_file([tmp_path / "none", tmp_path])
    assert find_tags_file([tmp_path], is_photo=lambda name: name != "d") == tmp_path / "d.tsv"
    assert find_tags_file([tmp_path], is_photo=lambda name: True) is None


def test_a_named_tags_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no tags file .*mine\.csv \(data\.labels\)"):
        find_tags_file([tmp_path], "mine.csv")
    (tmp_path / "mine.csv").touch()
    assert find_tags_file([tmp_path], "mine.csv") == tmp_path / "mine.csv"


@pytest.mark.parametrize(
    ("cell", "tags"),
    [
        (None, ()),
        (float("nan"), ()),
        (True, ("true",)),
        (7, ("7",)),
        (2.0, ("2",)),
        ({"choices": ["cat", "dog"]}, ("cat", "dog")),
        ({"name": "cat", "n": 3}, ("cat",)),
        ({"cat": 1, "dog": 0, "fox": True}, ("cat", "fox")),
        ({"n": 5}, ()),
        ({}, ()),
        (["cat", ["dog"], "", {"label": "fox"}], ("cat", "dog", "fox")),
        (object(), ()),
        ("n/a", ()),
        ("[]", ()),
        ("[3]", ("3",)),
        ("(cat, dog)", ("cat", "dog")),
        ("{cat; dog}", ("cat", "dog")),
        ("['traffic light', \"dog\"]", ("traffic light", "dog")),
        ("'traffic light'", ("traffic light",)),
        ("'cat;dog'", ("cat", "dog")),
        ("''", ()),
    ],
)
def test_a_cell_of_any_kind_holds_tags(cell: Any, tags: tuple[str, ...]) -> None:
    assert split_cells([cell])[0] == [tags]
