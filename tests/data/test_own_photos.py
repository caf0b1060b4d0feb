"""Photos of one's own: names that nearly fit, folders and text files as tags, normal photos, and a clean table back."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cti.config import DataConfig
from cti.data import Photo, PhotoSet, read_photos, save_mask
from cti.data.check import check_data
from cti.data.clean import write_clean_table
from cti.data.names import likely_slips, one_spelling
from cti.data.photo_folder import PhotoFolder
from cti.data.tags.beside import read_folders

Writer = Callable[..., Path]


def _read(root: Path, **settings: Any) -> PhotoSet:
    return read_photos(DataConfig(root=str(root), val_fraction=0.0, **settings))


def _tags(photo_set: PhotoSet, name: str = "train") -> dict[str, set[str]]:
    return {photo.id: {photo_set.classes[tag] for tag in photo.tags} for photo in photo_set.lists[name]}


def _table(root: Path, text: str) -> Path:
    (root / "labels.csv").write_text(text, encoding="utf-8")
    return root


def test_names_that_nearly_fit_find_their_photos(tmp_path: Path, write_photo: Writer) -> None:
    mac = unicodedata.normalize("NFD", "café.JPG")
    for seed, name in enumerate(("IMG_1.JPG", mac, "deep/er/b.png", "c.tif", "d.jpg", "a b.jpg", "100%25.jpg")):
        write_photo(tmp_path / "images" / name, seed=seed)
    rows = (
        "img_1.jpg,cat\ncafé.jpg,cat\nb,dog\nimages/c.tif,dog\nC:\\photos\\d.jpg,dog\na%20b.jpg,cat\n100%25.jpg,cat\n"
    )
    photos = _read(_table(tmp_path, f"image,tags\n{rows}"))
    cats, dogs = ("IMG_1", "café", "a b", "100%25"), ("deep__er__b", "c", "d")
    assert _tags(photos) == {**{name: {"cat"} for name in cats}, **{name: {"dog"} for name in dogs}}
    assert all(photo.image.is_file() for photo in photos.photos())
    assert not photos.unlabelled


def test_names_that_fit_two_photos_or_two_names_of_one_are_errors(tmp_path: Path, write_photo: Writer) -> None:
    for name in ("x/a.jpg", "y/a.jpg", "z.jpg"):
        write_photo(tmp_path / "images" / name)
    with pytest.raises(ValueError, match=r"line 2: 'a\.jpg' may be x/a\.jpg or y/a\.jpg"):
        _read(_table(tmp_path, "image,tags\na.jpg,cat\n"))
    with pytest.raises(ValueError, match=r"line 2 and .*line 3 both mean the photo z\.jpg"):
        _read(_table(tmp_path, "image,tags\np/z.jpg,cat\nq/z.jpg,dog\n"))


def test_one_class_has_one_spelling(folder_set: Writer) -> None:
    decomposed = unicodedata.normalize("NFD", "écureuil")
    root = folder_set({"a.jpg": "Cat", "b.jpg": "cat écureuil", "c.jpg": f"cat {decomposed}"})
    photos = _read(root)
    assert photos.classes == ("cat", "écureuil")
    assert any("Cat and cat are one class: cat." in note for note in photos.notes)
    assert any("accents composed" in note for note in photos.notes)
    assert _read(root, classes=("CAT",)).classes == ("CAT",)  # the user's spelling


def test_empty_cells_are_negatives_and_photos_without_a_row_unlabelled(folder_set: Writer, write_photo: Writer) -> None:
    root = folder_set({"a.jpg": "crack", "b.jpg": "", "c.jpg": "good", "d.jpg": "crack"})
    extra = write_photo(root / "images" / "extra.jpg", seed=9)
    photos = _read(root)
    assert photos.classes == ("crack",)
    assert _tags(photos) == {"a": {"crack"}, "b": set(), "c": set(), "d": {"crack"}}
    assert "2 of 4 photos show none of the classes." in photos.notes
    assert "good: taken to say that none of the classes is there (data.normal)." in photos.notes
    assert [(photo.id, photo.image, photo.tags) for photo in photos.unlabelled] == [("extra", extra, ())]
    assert _tags(_read(root, empty_tags="skip")) == {"a": {"crack"}, "d": {"crack"}}
    assert _read(root, classes=("good", "crack")).classes == ("good", "crack")  # the user's word
    assert _read(root, normal=()).classes == ("crack", "good")


@pytest.mark.parametrize("top", ["", "images", "photos"])
def test_sub_folders_are_tags(tmp_path: Path, write_photo: Writer, top: str) -> None:
    for seed, name in enumerate(("crack/a.jpg", "crack/b.jpg", "dent/a.jpg", "No_Defect/a.jpg")):
        write_photo(tmp_path / top / name, seed=seed)
    photos = _read(tmp_path)
    assert photos.classes == ("crack", "dent")
    expected = {"crack__a": {"crack"}, "crack__b": {"crack"}, "dent__a": {"dent"}, "No_Defect__a": set()}
    assert _tags(photos) == expected
    assert any("as tags: crack, dent; No_Defect as normal" in note and "e.g. crack/a.jpg -> crack" in note
               for note in photos.notes)  # fmt: skip


def test_sub_folders_may_be_lists_as_well(tmp_path: Path, write_photo: Writer) -> None:
    for seed, name in enumerate(("train/cat/1.jpg", "train/dog/2.jpg", "valid/cat/1.jpg")):
        write_photo(tmp_path / name, seed=seed)
    photos = _read(tmp_path)
    assert _tags(photos) == {"train__cat__1": {"cat"}, "train__dog__2": {"dog"}}
    assert _tags(photos, "val") == {"valid__cat__1": {"cat"}}
    write_photo(tmp_path / "test/dog/3.jpg")
    assert _read(tmp_path).lists == photos.lists  # the photos of test are in none of them
    (tmp_path / "valid").rename(tmp_path / "elsewhere")
    assert "test__dog__3" in _tags(_read(tmp_path))  # folders of other names are no lists
    (tmp_path / "elsewhere" / "cat" / "1.jpg").unlink()
    assert _tags(_read(tmp_path), "val") == {"test__dog__3": {"dog"}}
    (tmp_path / "train").rename(tmp_path / "Valid")
    assert len(_tags(_read(tmp_path))) == 3  # nothing to train on, so these are no lists either


def test_folders_of_nothing_but_normal_photos_are_said_to_be_so(tmp_path: Path) -> None:
    table, lists = read_folders(tmp_path, ["good/a.jpg", "good/b.jpg", "c.jpg"], ["good"])
    assert table.note == f"Sub-folders of {tmp_path} as tags: ; good as normal (data.normal), e.g. good/a.jpg -> good."
    assert [(row.image, row.tags, row.where) for row in table.rows] == [
        (name, ("good",), str(tmp_path / name)) for name in ("good/a.jpg", "good/b.jpg")
    ]
    assert lists == {}


def test_a_data_set_as_mvtec_lays_it_out(tmp_path: Path, write_photo: Writer) -> None:
    """`train/` has normal photos only, names begin anew in every folder, masks are 0 and 255."""
    folders = ("train/good", "test/good", "test/crack", "test/hole")
    for folder in folders:
        for number in range(3):
            write_photo(tmp_path / folder / f"{number:03d}.png", size=(8, 6))
    truth = np.zeros((6, 8), np.uint8)
    truth[2:4, 1:3] = 255
    for name in ("crack", "hole"):
        for number in range(3):
            path = tmp_path / "ground_truth" / name / f"{number:03d}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(truth).save(path)
    photos = _read(tmp_path)
    assert photos.classes == ("crack", "hole")
    assert any("train/ holds none of them, so that all photos are shared out anew" in note for note in photos.notes)
    assert not any("belong to no tagged photo" in note for note in photos.notes)
    tags = _tags(photos)
    assert len(tags) == 12
    assert (tags["train__good__001"], tags["test__hole__001"]) == (set(), {"hole"})
    for photo in photos.photos():
        assert (photo.mask is not None) == bool(photo.tags)
        if photo.mask is not None:
            np.testing.assert_array_equal(photo.mask.load(), np.where(truth > 0, photo.tags[0] + 1, 0))
    report = check_data(photos)
    assert not report.bad_masks
    assert not report.contradictions


def test_a_folders_name_does_not_change_a_mask_with_several_values(tmp_path: Path, write_photo: Writer) -> None:
    """Pixels of 255 beside a class are unlabelled, and where another photo has the short name the mask is nobody's."""
    for name in ("images/hole/a.png", "images/crack/b.png"):
        write_photo(tmp_path / name, size=(8, 6))
    mask = np.zeros((6, 8), np.uint8)
    mask[:2], mask[2] = 2, 255
    (tmp_path / "masks" / "hole").mkdir(parents=True)
    save_mask(tmp_path / "masks" / "hole" / "a.png", mask)
    hole = next(photo for photo in _read(tmp_path).photos() if photo.mask)
    assert hole.id == "hole__a"
    assert hole.mask is not None
    np.testing.assert_array_equal(hole.mask.load(), mask)


def test_a_mask_that_two_lists_may_mean_is_nobodys(tmp_path: Path, write_photo: Writer) -> None:
    for name in ("train/hole/a.png", "val/hole/a.png", "val/hole/b.png"):
        write_photo(tmp_path / "images" / name, size=(8, 6))
    (tmp_path / "masks" / "hole").mkdir(parents=True)
    for name in ("a", "b"):
        save_mask(tmp_path / "masks" / "hole" / f"{name}.png", np.ones((6, 8), np.uint8))
    photos = _read(tmp_path).photos()
    assert {photo.id: photo.mask is not None for photo in photos} == {
        "train__hole__a": False, "val__hole__a": False, "val__hole__b": True
    }  # fmt: skip


def test_a_spreadsheet_is_to_be_saved_as_csv(tmp_path: Path, write_photo: Writer) -> None:
    write_photo(tmp_path / "a.jpg")
    (tmp_path / "Tags.XLSX").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"Save Tags\.XLSX as CSV"):
        _read(tmp_path)


def test_a_listed_photo_of_a_kind_that_cannot_be_read_is_named_as_it_is(tmp_path: Path, write_photo: Writer) -> None:
    write_photo(tmp_path / "a.jpg")
    (tmp_path / "b.heic").write_bytes(b"no photo")
    photos = _read(_table(tmp_path, "image,tags\na.jpg,cat\nb.heic,cat\nc,cat\n"))
    assert {photo.image.name for photo in photos.photos()} == {"a.jpg", "b.heic", "c.jpg"}


def test_a_folder_of_data_sets_is_none(tmp_path: Path, write_photo: Writer) -> None:
    write_photo(tmp_path / "first" / "images" / "a.jpg")
    with pytest.raises(ValueError, match=r"holds data sets, first for one; set data\.root to the one you mean"):
        _read(tmp_path)


def test_a_text_file_beside_each_photo(tmp_path: Path, write_photo: Writer) -> None:
    for seed, (name, tags) in enumerate({"a": "cat\n", "b": "cat, dog", "c": "", "d": None}.items()):
        path = write_photo(tmp_path / f"{name}.jpg", seed=seed)
        if tags is not None:
            path.with_suffix(".txt").write_text(tags)
    photos = _read(tmp_path)
    assert _tags(photos) == {"a": {"cat"}, "b": {"cat", "dog"}, "c": set()}
    assert [photo.id for photo in photos.unlabelled] == ["d"]
    assert photos.notes[0] == "A file of tags for each of 3 photos, split at ',', e.g. b.jpg -> cat, dog."
    (tmp_path / "d.json").write_text('{"version": 1}')
    with pytest.raises(ValueError, match=r"d\.json lies beside a photo, but is not labelme's JSON: .* move it away"):
        _read(tmp_path)


def test_boxes_of_yolo_are_tags(tmp_path: Path, write_photo: Writer) -> None:
    write_photo(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("1 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.1 0.1\n")
    with pytest.raises(ValueError, match=r"a\.txt: class number 1 has no name; write classes\.txt"):
        _read(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert _tags(_read(tmp_path)) == {"a": {"dog"}}


@pytest.mark.parametrize("place", ["images/{}.xml", "annotations/{}.xml", "images/{}.json"])
def test_objects_of_labelling_tools_are_tags(tmp_path: Path, write_photo: Writer, place: str) -> None:
    for seed, (name, tags) in enumerate({"a": ["cat", "cat"], "b": ["cat", "dog"], "c": []}.items()):
        write_photo(tmp_path / "images" / f"{name}.jpg", seed=seed)
        objects = "".join(f"<object><name>{tag}</name></object>" for tag in tags)
        path = tmp_path / place.format(name)
        path.parent.mkdir(exist_ok=True)
        shapes = json.dumps({"shapes": [{"label": tag} for tag in tags]})
        path.write_text(shapes if path.suffix == ".json" else f"<annotation>{objects}</annotation>")
    assert _tags(_read(tmp_path)) == {"a": {"cat"}, "b": {"cat", "dog"}, "c": set()}


@pytest.mark.parametrize("name", ["metadata.jsonl", "images/metadata.csv", "project-1-at-2024.json"])
def test_the_tags_file_is_found(tmp_path: Path, write_photo: Writer, name: str) -> None:
    write_photo(tmp_path / "images" / "a.jpg")
    text = {"l": '{"file_name": "a.jpg", "label": "cat"}', "v": "file_name,label\na.jpg,cat\n", "n": '{"a.jpg": "cat"}'}
    (tmp_path / name).write_text(text[name[-1]])
    assert _tags(_read(tmp_path)) == {"a": {"cat"}}


def test_two_files_that_may_be_the_tags_are_asked_for(tmp_path: Path, write_photo: Writer) -> None:
    write_photo(tmp_path / "a.jpg")
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("image,tags\na.jpg,cat\n")
    with pytest.raises(ValueError, match=r"several files that may be the tags: one\.csv, two\.csv; .*data\.labels"):
        _read(tmp_path)
    assert _tags(_read(tmp_path, labels="two.csv")) == {"a": {"cat"}}


def test_what_is_passed_over_is_counted_by_kind(folder_set: Writer) -> None:
    root = folder_set({"a.jpg": "cat"})
    for name in ("b.heic", "c.HEIC", "d.pdf", "notes.txt"):
        (root / "images" / name).write_bytes(b"x")
    assert any(note.endswith("no photos that can be read: 2 .heic, 1 .pdf.") for note in _read(root).notes)


def test_a_misspelling_is_a_rare_name_beside_a_frequent_one() -> None:
    assert likely_slips({"cat": 30, "cta": 1, "dog": 20}) == {"cta": "cat"}
    assert likely_slips({"cat": 30, "car": 25}) == {}
    assert likely_slips({"type 1": 30, "type 2": 1}) == {}
    assert likely_slips({"pottedplant": 9, "potted plant": 8}) == {"potted plant": "pottedplant"}
    assert one_spelling({"Cat": 1, "cat": 3, "CAT": 2}) == dict.fromkeys(("Cat", "cat", "CAT"), "cat")
    assert one_spelling({"Cat": 2, "cat": 2}) == {"Cat": "cat", "cat": "cat"}  # small letters
    assert one_spelling({"Cat": 1, "CAT": 1}) == {"Cat": "CAT", "CAT": "CAT"}
    assert one_spelling({"Cat": 9, " cat": 1}, ["cAt"]) == {"Cat": "cAt", " cat": "cAt"}  # the user's


@pytest.mark.parametrize(
    ("counts", "slips"),
    [
        ({"cat": 5, "cta": 2}, {"cta": "cat"}),
        ({"cat": 4, "cta": 2}, {}),  # more than twice as often
        ({"cat": 9, "cta": 3}, {}),  # three photos are not rare
        ({"cat": 9, "cta": 0}, {}),
        ({"screw": 9, "screwsx": 1}, {"screwsx": "screw"}),
        ({"screws": 9, "screwsxyz": 1}, {}),  # three letters more
        ({"ca": 9, "cx": 1, "c": 1}, {}),  # short names are alike by chance
        ({"longish name": 7, "longish nome": 7}, {"longish nome": "longish name"}),
        ({"longish nome": 8, "longish name": 7}, {"longish name": "longish nome"}),
        ({"abcdefghijkl": 9, "abcdefghijkxy": 8}, {"abcdefghijkxy": "abcdefghijkl"}),  # alike by 22/25
        ({"abcdefghijkl": 9, "abcdefghijxyz": 8}, {}),
        ({"screwss": 1, "screws": 3, "screw": 9}, {"screws": "screw"}),  # what is meant is no slip itself
    ],
)
def test_rare_and_nearly_the_same_have_borders(counts: dict[str, int], slips: dict[str, str]) -> None:
    assert likely_slips(counts) == slips


def test_max_pixels_goes_with_the_photos(folder_set: Writer) -> None:
    root = folder_set({"a.jpg": "cat"}, masks=("a.jpg",))
    (photo,) = _read(root, max_pixels=95).lists["train"]
    with pytest.raises(ValueError, match="96 pixels are more than the 95"):
        photo.load()
    assert photo.mask is not None
    with pytest.raises(ValueError, match="96 pixels are more than the 95"):
        photo.mask.load()


def test_a_clean_table_is_read_as_it_was_understood(folder_set: Writer) -> None:
    root = folder_set(
        {"A.jpg": "Cat", "b.jpg": "cat|golden retriever", "c.jpg": "golden retriever;", "d.jpg": "", "e.jpg": "cta"}
    )
    before = _read(root)
    assert write_clean_table(before, root / "labels.csv", {"cta": "cat"}) == 5
    text = (root / "labels.csv").read_text()
    assert "c.jpg,golden retriever;\n" in text
    photos = _read(root)
    assert photos.classes == ("cat", "golden retriever")
    assert _tags(photos) == _tags(before) | {"e": {"cat"}}


def test_a_clean_table_is_spelt_for_people(tmp_path: Path) -> None:
    """Its line ends too; a photo that is not in the folder goes by its name alone."""
    images = [tmp_path / "images" / "sub" / "a.jpg", tmp_path / "images" / "b.jpg", tmp_path / "c.jpg"]
    photos = tuple(Photo(path.stem, path, tags) for path, tags in zip(images, [(0, 1), (1, 2), ()], strict=True))
    photo_set = PhotoSet(("Kätzchen", "k/tz", "cat"), {"train": photos}, folder=tmp_path / "images")
    write_clean_table(photo_set, tmp_path / "labels.csv", {"k/tz": "cat"})
    assert (tmp_path / "labels.csv").read_bytes().decode() == (
        "image,tags\nsub/a.jpg,Kätzchen; cat\nb.jpg,cat\nc.jpg,\n"
    )
    write_clean_table(PhotoSet(photo_set.classes, {"train": photos[:1]}), tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text(encoding="utf-8") == 'image,tags\na.jpg,"[""Kätzchen"", ""k/tz""]"\n'


_NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z", "M")), min_size=1, max_size=8)


@given(tags=st.lists(st.lists(_NAMES, max_size=3), min_size=1, max_size=5))
@settings(max_examples=80, deadline=None)
def test_any_names_come_back_from_a_clean_table(
    tmp_path_factory: pytest.TempPathFactory, tags: list[list[str]]
) -> None:
    root = tmp_path_factory.mktemp("clean")
    for number in range(len(tags)):
        Image.new("L", (1, 1)).save(root / f"{number}.png")
    spelling = one_spelling({name: 1 for names in tags for name in names} | {"z": 1})
    classes = tuple(sorted(set(spelling.values())))
    photos = tuple(
        Photo(str(number), root / f"{number}.png", tuple(sorted({classes.index(spelling[name]) for name in names})))
        for number, names in enumerate([*tags, ["z"]])
    )
    Image.new("L", (1, 1)).save(root / f"{len(tags)}.png")
    write_clean_table(PhotoSet(classes, {"train": photos}, folder=root), root / "labels.csv")
    again = read_photos(DataConfig(root=str(root), val_fraction=0.0, normal=(), classes=classes))
    assert {photo.id: photo.tags for photo in again.photos()} == {photo.id: photo.tags for photo in photos}


def test_a_photo_folder_knows_what_is_no_photo(tmp_path: Path, write_photo: Writer) -> None:
    write_photo(tmp_path / "a.jpg")
    save_mask(tmp_path / "masks" / "a.png", np.zeros((2, 2), dtype=np.uint8))
    assert PhotoFolder(tmp_path, (tmp_path / "masks",)).photos == ("a.jpg",)


def test_hidden_files_and_folders_hold_no_photos(tmp_path: Path) -> None:
    for name in (
        "b.JPG",
        "a.png",
        "sub/a.tif",
        ".hidden.jpg",
        ".thumbs/c.jpg",
        ".DS_Store",
        "README",
        "x.HEIC",
        "y.csv",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    folder = PhotoFolder(tmp_path)
    assert folder.photos == ("a.png", "b.JPG", "sub/a.tif")
    assert folder.passed_over_note() == (
        f"Passed over in {tmp_path}, because they are no photos that can be read: 1 .heic, 1 no suffix.",
    )
    (tmp_path / "x.HEIC").unlink()
    (tmp_path / "README").unlink()
    assert PhotoFolder(tmp_path).passed_over_note() == ()


@pytest.mark.parametrize(
    ("name", "photo"),
    [
        ("b", "b.JPG"),
        (" ./././B.jpg ", "b.JPG"),
        ("sub/a", "sub/a.tif"),
        ("far/away/sub/A.TIF", "sub/a.tif"),
        ("C:\\photos\\b.jpg", "b.JPG"),
        ("c", "sub/c.png"),  # a bare name may lie in any folder
        ("b.png", None),  # with a suffix it is another file
        ("other/c", None),  # with a folder it may not
        ("0badcafe-b.jpg", "b.JPG"),
        ("0badcafe-c.png", "sub/c.png"),
        ("0badcafe-", None),
        ("/data/local-files/?d=sub/c%2Epng", "sub/c.png"),
        ("", None),
    ],
)
def test_a_name_finds_its_photo_as_people_write_it(tmp_path: Path, name: str, photo: str | None) -> None:
    for there in ("b.JPG", "sub/a.tif", "sub/c.png"):
        (tmp_path / there).parent.mkdir(exist_ok=True)
        (tmp_path / there).touch()
    folder = PhotoFolder(tmp_path)
    assert folder.find(name) == photo
    assert folder.has(name) is (photo is not None)


def test_a_name_that_may_be_several_photos_is_told_with_its_place(tmp_path: Path) -> None:
    for folder in ("w", "x", "y", "z"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").touch()
    folders = PhotoFolder(tmp_path)
    said = rf"'a' may be w/a\.jpg or x/a\.jpg or y/a\.jpg in {tmp_path}; give the path and the suffix"
    for where, start in (("list", "list: "), ("", "")):
        with pytest.raises(ValueError, match=f"^{start}{said}"):
            folders.find("a", where)
    assert folders.has("a")
