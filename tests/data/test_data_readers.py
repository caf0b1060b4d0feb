"""VOC, COCO and folders through `read_photos`: the same interface, whatever lies there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cti.classes import VOC_CLASSES
from cti.config import DataConfig
from cti.data import PhotoSet, read_photos, save_mask
from cti.data.photo_folder import PhotoFolder
from cti.data.read import _table, detect_format
from cti.data.readers.coco_mask import draw_mask
from cti.data.readers.voc import _vocabulary, read_annotations
from cti.data.source import listed_photo
from cti.data.splits import EarlierSplit, split_by_seed
from tiny import tiny_shapes

Writer = Callable[..., Path]


def _read(root: Path, **settings: Any) -> PhotoSet:
    return read_photos(DataConfig(root=str(root), **settings))


def _tags(photo_set: PhotoSet, name: str = "train") -> dict[str, set[str]]:
    return {photo.id: {photo_set.classes[tag] for tag in photo.tags} for photo in photo_set.lists[name]}


# --- folder ---------------------------------------------------------------------------------------------------------


def test_folder_with_lists_masks_and_subfolders(folder_set: Writer) -> None:
    rows = {"a.v2.jpg": "dog", "sub/b.png": "cat;dog", "sub/c.jpg": "cat"}
    root = folder_set(rows, masks=("sub/b.png",), train=["a.v2", "sub/b.png"], val=["sub__c"])
    photos = _read(root)
    assert photos.classes == ("cat", "dog")
    assert _tags(photos) == {"a.v2": {"dog"}, "sub__b": {"cat", "dog"}}
    assert _tags(photos, "val") == {"sub__c": {"cat"}}
    assert photos.lists["score"] == photos.lists["train"]
    assert photos.has_masks
    assert all(photo.image.is_file() for photo in photos.photos())
    assert [photo.mask is not None for photo in photos.lists["train"]] == [False, True]


def test_photos_may_lie_in_the_root(tmp_path: Path, write_photo: Writer) -> None:
    write_photo(tmp_path / "a.jpg")
    write_photo(tmp_path / "extra.jpg")
    (tmp_path / "labels.csv").write_text("image,tags\na.jpg,cat\n")
    photos = _read(tmp_path, val_fraction=0.0)
    assert photos.lists["train"][0].image == tmp_path / "a.jpg"
    assert any("1 photos in" in note and "no line" in note for note in photos.notes)


def test_classes_are_chosen_ordered_and_the_rest_is_dropped_and_counted(folder_set: Writer) -> None:
    root = folder_set(
        {"a.jpg": "cat dog", "b.jpg": "bird", "c.jpg": "dog bird"}, masks=("a.jpg",), train=["a", "b", "c"]
    )
    mask = np.array([[0, 1, 2, 3, 255]], dtype=np.uint8)  # bird, cat, dog: the sorted names
    save_mask(root / "masks" / "a.png", mask)
    photos = _read(root, classes=("dog", "cat"))
    assert photos.classes == ("dog", "cat")
    assert {photo.id: photo.tags for photo in photos.lists["train"]} == {"a": (0, 1), "c": (0,)}
    assert photos.dropped_tags == {"bird": 2}
    assert any("2 tags" in note and "bird (2)" in note for note in photos.notes)
    assert any("1 photos without a tag" in note for note in photos.notes)
    source = photos.lists["train"][0].mask
    assert source is not None
    assert source.load().tolist() == [[0, 255, 2, 1, 255]]


def test_photos_without_a_tag_left_can_be_negatives(folder_set: Writer) -> None:
    root = folder_set({"a.jpg": "cat", "b.jpg": "", "c.jpg": "dog"}, train=["a", "b", "c"])
    assert set(_tags(_read(root, classes=("cat",), empty_tags="skip"))) == {"a"}
    photos = _read(root, classes=("cat",))
    assert _tags(photos) == {"a": {"cat"}, "b": set()}  # an empty cell says so, a tag of another class does not
    assert "1 of 2 photos show none of the classes." in photos.notes
    assert _tags(_read(root, classes=("cat",), empty_tags="negative")) == {"a": {"cat"}, "b": set(), "c": set()}


def test_what_was_understood_is_said_and_nothing_else(folder_set: Writer) -> None:
    root = folder_set({"a.jpg": "cat", "b.jpg": "dog"}, train=["a", "b"])
    first = "labels.csv: one row per photo, column 'tags', e.g. a.jpg -> cat."
    assert _read(root).notes == (first, "There is no list 'val', so 'val' is empty.")
    assert _read(root, classes=("cat",)).notes == (
        first,
        "There is no list 'val', so 'val' is empty.",
        "1 tags that name none of the chosen classes were dropped: dog (1).",
        "1 photos without a tag of the chosen classes were left out (data.empty_tags).",
    )


def test_mask_values_are_those_of_the_chosen_classes() -> None:
    assert list(_table(("a", "b", "c"), ("c", "a"))) == [0, 2, 255, 1, *[255] * 252]
    names = tuple(f"n{number}" for number in range(300))  # more than a mask can tell apart
    table = _table(names, (names[253], names[254]))
    assert (table[253], table[254], table[255]) == (255, 1, 255)


def test_classes_txt_orders_classes_and_mask_values(folder_set: Writer) -> None:
    root = folder_set({"a.jpg": "cat dog"}, masks=("a.jpg",), train=["a"])
    (root / "classes.txt").write_text("dog\ncat\n")
    photos = _read(root)
    assert photos.classes == ("dog", "cat")
    mask = photos.lists["train"][0].mask
    assert mask is not None
    assert set(np.unique(mask.load())) == {1}


def test_a_class_nobody_has_is_an_error(folder_set: Writer) -> None:
    root = folder_set({"a.jpg": "cat"})
    with pytest.raises(ValueError, match=r"class catt \(data\.classes .*knows cat \(perhaps cat is meant\)\.$"):
        _read(root, classes=("catt",))
    with pytest.raises(ValueError, match=r"class zebra \(data\.classes .*knows cat\.$"):
        _read(root, classes=("zebra",))


def test_folders_that_are_named_must_be_there(folder_set: Writer, voc: Path) -> None:
    root = folder_set({"a.jpg": "cat"})
    for settings, what in (({"images": "mine"}, "images"), ({"masks": "mine"}, "masks")):
        for place in (root, voc):
            with pytest.raises(FileNotFoundError, match=rf"There is no folder {place}/mine; .*data\.{what}"):
                _read(place, **settings)
    save_mask(root / "mine" / "a.png", np.ones((8, 12), dtype=np.uint8))
    assert _read(root, masks="mine", val_fraction=0.0).has_masks
    (root / "mine").rename(root / "ground_truth")
    assert _read(root, val_fraction=0.0).has_masks
    (root / "images").rename(root / "mine")
    assert all(photo.image.parent == root / "mine" for photo in _read(root, images="mine").photos())


def test_a_folder_without_any_tag_says_what_to_write(tmp_path: Path, write_photo: Writer) -> None:
    write_photo(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError, match=r"There are no tags in .*: no labels\.csv, .* write labels\.csv with"):
        _read(tmp_path, format="folder")


def test_shapes_are_rendered_where_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cti.data.read.render_shapes", lambda root: tiny_shapes(root, 4))
    photos = _read(tmp_path / "shapes", format="shapes")
    assert [len(photos.lists[name]) for name in ("train", "score", "val")] == [3, 3, 1]


def test_without_lists_the_split_is_drawn_by_seed(folder_set: Writer, tmp_path: Path) -> None:
    root = folder_set({f"{index:02d}.jpg": "cat" for index in range(20)})
    photos = _read(root, val_fraction=0.25, split_seed=3)
    train, val = (set(_tags(photos, name)) for name in ("train", "val"))
    assert (len(train), len(val)) == (15, 5)
    assert not train & val
    assert any("seed 3 drew 15 photos" in note for note in photos.notes)
    assert photos.lists == _read(root, val_fraction=0.25, split_seed=3).lists
    earlier = EarlierSplit(frozenset(train), frozenset(val))
    again = read_photos(DataConfig(root=str(root), val_fraction=0.25), earlier)
    assert again.lists == photos.lists
    assert any(note.endswith("5 for val. Photos stay where an earlier draw put them.") for note in again.notes)
    assert val != set(_tags(_read(root, val_fraction=0.25, split_seed=4), "val"))

    photos.write_lists(root / "lists")  # written down, it is the same split for every seed
    assert _read(root, split_seed=9).lists == photos.lists


def test_a_split_ignores_order_and_leaves_something_to_train_on() -> None:
    ids = [f"photo{index}" for index in range(30)]
    assert split_by_seed(ids, 0.1, 0) == split_by_seed(reversed(ids), 0.1, 0)
    assert split_by_seed(["a"], 0.5, 0) == (("a",), ())
    assert [len(part) for part in split_by_seed(["a", "b"], 0.01, 0)] == [1, 1]
    assert split_by_seed([], 0.5, 0) == ((), ())


def test_no_class_loses_its_last_photo_to_train_on() -> None:
    tags = {"a": (0,), "b": (0,), "c": (1,), "d": (1,), "e": (2,)}
    for seed in range(5):
        train, held_out = split_by_seed(tags, 0.9, seed, tags=tags)
        assert [sorted(tags[photo] for photo in part) for part in (train, held_out)] == [
            [(0,), (1,), (2,)],
            [(0,), (1,)],
        ]


def test_a_seed_draws_as_it_always_did() -> None:
    """Runs of before keep the photos that they held out. Rare classes choose first, so that few photos will do."""
    tags = {f"p{number:02}": {0, number % 4} if number < 12 else {3} for number in range(14)}
    assert split_by_seed(tags, 0.2, 13)[1] == ("p01", "p02", "p08")
    assert split_by_seed(tags, 0.2, 13, tags=tags)[1] == ("p01", "p02", "p07")


def test_photos_held_out_stay_held_out_and_only_new_ones_are_drawn() -> None:
    old, new = [f"old{index:02}" for index in range(40)], [f"new{index:02}" for index in range(40)]
    train, held_out = split_by_seed(old, 0.1, 0)
    earlier = EarlierSplit(frozenset(train), frozenset(held_out))
    assert split_by_seed(old, 0.1, 0, earlier) == (train, held_out)
    more, drawn = split_by_seed(old + new, 0.1, 0, earlier)
    assert set(held_out) < set(drawn)
    assert set(train) < set(more)
    assert len(drawn) == 8
    assert split_by_seed(new + old, 0.1, 0, earlier) == (more, drawn)
    assert split_by_seed([*old, "one"], 0.1, 0, earlier)[1] == held_out  # 10 % of 41 photos are these 4
    fewer = [photo for photo in old if photo != held_out[0]]
    assert split_by_seed(fewer, 0.1, 0, earlier)[1] == held_out[1:]  # nothing trained on is held out afterwards


@pytest.mark.parametrize("seed", range(20))
def test_a_drawn_split_holds_each_class_out_once_and_trains_on_each(folder_set: Writer, seed: int) -> None:
    names = {f"dog{index}.jpg": "dog" for index in range(36)} | {"c0.jpg": "cat", "c1.jpg": "cat", "one.jpg": "cow"}
    root = folder_set(names | {"empty0.jpg": "", "empty1.jpg": ""})
    photos = _read(root, val_fraction=0.05, split_seed=seed)
    train, val = (_tags(photos, name) for name in ("train", "val"))
    assert sorted(map(sorted, val.values())) == [[], ["cat"], ["dog"]]  # one more than 5 % of 41 photos
    assert {tag for tags in train.values() for tag in tags} == {"cat", "cow", "dog"}
    assert not _tags(_read(root, val_fraction=0.0), "val")


def test_a_class_that_came_later_is_held_out_too_and_the_others_stay() -> None:
    old = {f"cat{index}": (0,) for index in range(8)}
    train, held_out = split_by_seed(old, 0.1, 0, tags=old)
    new = old | {"a": (0, 1), "b": (1,), "c": (0,)}
    more, drawn = split_by_seed(new, 0.1, 0, EarlierSplit(frozenset(train), frozenset(held_out)), new)
    assert set(drawn) - set(held_out) in ({"a"}, {"b"})
    assert set(train) < set(more)
    mended = old | {train[0]: (1,), train[1]: (1,)}
    assert split_by_seed(old, 0.1, 0, EarlierSplit(frozenset(train), frozenset(held_out)), mended)[1] == held_out


def test_unknown_lists_and_members_are_errors(folder_set: Writer) -> None:
    root = folder_set({"a.jpg": "cat"}, train=["a"])
    assert _read(root).lists["val"] == ()
    with pytest.raises(ValueError, match=r"no list 'trian' \(data\.train\); the lists are: train"):
        _read(root, train="trian")
    with pytest.raises(ValueError, match=r"no list 'test' \(data\.val\)"):
        _read(root, val="test")
    (root / "lists" / "train.txt").write_text("a\nzebra.jpg\n")
    with pytest.raises(ValueError, match=r"list 'train' names 'zebra\.jpg', which is not in the tags file"):
        _read(root)


def test_a_set_without_any_tag_says_so(folder_set: Writer) -> None:
    with pytest.raises(ValueError, match="No photo of the data set has a tag"):
        _read(folder_set({"a.jpg": "", "b.jpg": ""}))


def test_two_photos_may_not_share_an_id(folder_set: Writer) -> None:
    with pytest.raises(ValueError, match=r"x/a\.jpg and x/a\.png would share the id 'x__a'"):
        _read(folder_set({"x/a.jpg": "cat", "x/a.png": "cat"}))


def test_what_is_no_data_set_says_what_would_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CTI_DATA", raising=False)
    with pytest.raises(ValueError, match=r"is no data set: .*write labels\.csv"):
        _read(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"does not exist; set data\.root"):
        _read(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"set data\.root or the environment variable CTI_DATA"):
        read_photos(DataConfig())


def test_the_root_may_come_from_the_environment(folder_set: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTI_DATA", str(folder_set({"a.jpg": "cat"})))
    assert read_photos(DataConfig()).classes == ("cat",)


# --- VOC ------------------------------------------------------------------------------------------------------------


def _xml(*names: str, difficult: int = 0) -> str:
    objects = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><part><name>head</name></part></object>"
        for name in names
    )
    return f"<annotation><filename>x.jpg</filename>{objects}</annotation>"


@pytest.fixture
def voc(tmp_path: Path, write_photo: Writer) -> Path:
    """A VOC folder with XML tags, three photos, one list."""
    root = tmp_path / "VOCdevkit" / "VOC2007"
    for seed, name in enumerate(("000001", "000002", "000003")):
        write_photo(root / "JPEGImages" / f"{name}.jpg", seed=seed)
    (root / "Annotations").mkdir()
    (root / "Annotations" / "000001.xml").write_text(_xml("cat", "cat", "person"))
    (root / "Annotations" / "000002.xml").write_text(_xml("dog", difficult=1))
    (root / "Annotations" / "000003.xml").write_text(_xml("sofa"))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("000001\n/JPEGImages/000002.jpg /SegmentationClassAug/000002.png\n")
    (lists / "val.txt").write_text("000003\n")
    return root


def test_voc_tags_come_from_xml_and_difficult_objects_count(voc: Path) -> None:
    photos = _read(voc.parents[1])  # the folder the official archive was unpacked in
    assert photos.classes == VOC_CLASSES
    assert _tags(photos) == {"000001": {"cat", "person"}, "000002": {"dog"}}
    assert not photos.has_masks


def test_voc_masks_prefer_the_augmented_folder(voc: Path) -> None:
    save_mask(voc / "SegmentationClass" / "000001.png", np.full((8, 12), 8, dtype=np.uint8))
    save_mask(voc / "SegmentationClass" / "000002.png", np.full((8, 12), 12, dtype=np.uint8))
    save_mask(voc / "SegmentationClassAug" / "000001.png", np.full((8, 12), 15, dtype=np.uint8))
    first, second = _read(voc, classes=("dog", "person")).lists["train"]
    assert first.mask is not None
    assert second.mask is not None
    assert (first.mask.load() == 2).all()
    assert (second.mask.load() == 1).all()
    assert not _read(voc, masks="none").has_masks


def test_voc_labels_csv_comes_before_xml_and_a_misspelt_tag_moves_no_mask_value(voc: Path) -> None:
    (voc / "labels.csv").write_text("image,tags\n000001.jpg,sofa\n000002.jpg,dog sofaa\n")
    save_mask(voc / "SegmentationClass" / "000001.png", np.full((8, 12), 18, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"name 'sofaa' \(perhaps sofa\) beside classes of VOC; correct the tags"):
        _read(voc)
    photos = _read(voc, classes=("dog", "sofa"))
    assert _tags(photos) == {"000001": {"sofa"}, "000002": {"dog"}}
    assert photos.dropped_tags == {"sofaa": 1}  # as was asked for
    assert photos.lists["val"] == ()
    assert any("1 listed photos have no tags" in note for note in photos.notes)
    mask = photos.lists["train"][0].mask
    assert mask is not None
    assert (mask.load() == 2).all()


def test_voc_layout_with_classes_of_its_own(voc: Path) -> None:
    (voc / "classes.txt").write_text("zebra\nlion\n")
    (voc / "tags.txt").write_text("000001 zebra\n000002 lion zebra\n000003 lion\n")
    save_mask(voc / "SegmentationClass" / "000001.png", np.full((8, 12), 1, dtype=np.uint8))
    photos = _read(voc)
    assert photos.classes == ("zebra", "lion")
    assert _tags(photos) == {"000001": {"zebra"}, "000002": {"lion", "zebra"}}


def test_classes_txt_may_lie_where_the_archive_was_unpacked(voc: Path) -> None:
    (voc.parents[1] / "classes.txt").write_text("cat\ndog\n")
    assert _read(voc.parents[1]).classes == ("cat", "dog")
    (voc.parents[1] / "classes.txt").rename(voc / "classes.txt")
    assert _read(voc.parents[1]).classes == ("cat", "dog")


def test_voc_without_lists_is_split(voc: Path) -> None:
    for path in (voc / "ImageSets" / "Segmentation").iterdir():
        path.unlink()
    photos = _read(voc, val_fraction=0.34)
    assert sorted(_tags(photos) | _tags(photos, "val")) == ["000001", "000002", "000003"]


def test_broken_xml_is_named_with_its_line(voc: Path) -> None:
    (voc / "Annotations" / "000002.xml").write_text("<annotation>\n<object>\n</annotation>")
    with pytest.raises(ValueError, match=r"000002\.xml, line 3: not valid XML"):
        _read(voc)
    (voc / "Annotations" / "000002.xml").write_text("<annotation><object></object></annotation>")
    with pytest.raises(ValueError, match=r"000002\.xml: object 1 has no <name>"):
        _read(voc)


def test_tags_of_voc_may_lie_in_a_file_that_is_named(voc: Path) -> None:
    for name, tag in (("tags.txt", "cat"), ("mine.csv", "bus")):
        (voc / name).write_text(f"000001.jpg {tag}\n" if name == "tags.txt" else f"image,tags\n000001.jpg,{tag}\n")
    assert _tags(_read(voc))["000001"] == {"cat"}
    photos = _read(voc, labels="mine.csv")
    assert _tags(photos)["000001"] == {"bus"}
    assert "1 listed photos have no tags at all, e.g. 000002." not in photos.notes
    assert "2 listed photos have no tags at all, e.g. 000002." in photos.notes
    assert sorted(photo.id for photo in photos.unlabelled) == ["000002", "000003"]


def test_photos_without_a_file_have_no_annotations(voc: Path) -> None:
    (voc / "Annotations" / "000003.xml").rename(voc / "Annotations" / "000003.XML")
    found = read_annotations(voc / "Annotations", ["000001", "000003", "000009"])
    assert found == {"000001": {"cat", "person"}, "000003": {"sofa"}}


def test_voc_without_any_tags_says_so(voc: Path) -> None:
    (voc / "Annotations").rename(voc / "Elsewhere")
    with pytest.raises(FileNotFoundError, match=r"neither labels\.csv nor Annotations"):
        _read(voc)


# --- COCO -----------------------------------------------------------------------------------------------------------

CATEGORIES = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]


def _square(number: int, image: int, category: int, box: tuple[int, int, int, int], crowd: int = 0) -> dict[str, Any]:
    left, top, right, bottom = box
    area = (right - left) * (bottom - top)
    polygon: Any = [[left, top, right, top, right, bottom, left, bottom]]
    if crowd:  # COCO stores crowds as column-wise run lengths
        inside = np.zeros((10, 12), dtype=int)
        inside[top:bottom, left:right] = 1
        flat = [0, *inside.T.ravel().tolist()]
        edges = [index for index in range(1, len(flat)) if flat[index] != flat[index - 1]]
        runs = np.diff([1, *edges, len(flat)]).tolist()
        polygon = {"size": [10, 12], "counts": runs}
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": polygon,
        "area": area,
        "iscrowd": crowd,
    }


@pytest.fixture(params=["2014", "2017"])
def coco(request: pytest.FixtureRequest, tmp_path: Path, write_photo: Writer) -> Path:
    """A COCO folder of either year: overlap, crowd, a photo whose only tag is a crowd, a photo without annotations."""
    year = request.param
    name = {"2014": "COCO_{}2014_{:012d}.jpg", "2017": "{1:012d}.jpg"}[year]
    annotations = {
        "train": [
            _square(1, 1, 90, (4, 4, 8, 8)),
            _square(2, 1, 1, (0, 0, 10, 10)),
            _square(3, 2, 18, (2, 3, 7, 8), crowd=1),
        ],
        "val": [_square(4, 4, 1, (0, 0, 5, 5))],
    }
    images = {"train": [1, 2, 3], "val": [4]}
    for part, items in annotations.items():
        listed = []
        for number in images[part]:
            file = name.format(part, number)
            write_photo(tmp_path / f"{part}{year}" / file, size=(12, 10), seed=number)
            listed.append({"id": number, "file_name": file, "height": 10, "width": 12})
        content = {"images": listed, "annotations": items, "categories": CATEGORIES}
        path = tmp_path / "annotations" / f"instances_{part}{year}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return tmp_path


def test_coco_tags_names_and_contiguous_classes(coco: Path) -> None:
    photos = _read(coco)
    assert photos.classes == ("person", "dog", "toothbrush")
    assert sorted(map(sorted, _tags(photos).values())) == [["dog"], ["person", "toothbrush"]]
    assert list(_tags(photos, "val").values()) == [{"person"}]
    assert all(photo.image.is_file() for photo in photos.photos())
    year = "2014" if (coco / "train2014").is_dir() else "2017"
    assert _read(coco, train=f"train{year}", score=f"train{year}", val=f"val{year}").lists == photos.lists


def test_coco_photos_may_lie_where_the_user_says(coco: Path) -> None:
    (coco / "elsewhere").mkdir()
    for folder in list(coco.glob("*20??")):
        folder.rename(coco / "elsewhere" / folder.name)
    assert all(photo.image.parent.parent == coco / "elsewhere" for photo in _read(coco, images="elsewhere").photos())


def test_coco_masks_paint_small_over_large_and_crowds_as_unlabelled(coco: Path) -> None:
    pytest.importorskip("pycocotools")
    first, second = _read(coco).lists["train"]
    assert first.mask is not None
    assert second.mask is not None
    expected = np.zeros((10, 12), dtype=np.uint8)
    expected[0:10, 0:10] = 1
    expected[4:8, 4:8] = 3
    assert (first.mask.load() == expected).all()
    crowd = np.zeros((10, 12), dtype=np.uint8)
    crowd[3:8, 2:7] = 255
    assert (second.mask.load() == crowd).all()


def test_coco_dropped_classes_become_unlabelled(coco: Path) -> None:
    pytest.importorskip("pycocotools")
    (photo,) = _read(coco, classes=("toothbrush",)).lists["train"]
    assert photo.mask is not None
    assert sorted(np.unique(photo.mask.load())) == [0, 1, 255]


def test_coco_prefers_ready_made_masks(coco: Path) -> None:
    photo = _read(coco).lists["train"][0]
    save_mask(coco / "masks" / photo.image.parent.name / f"{photo.id}.png", np.full((10, 12), 2, dtype=np.uint8))
    mask = _read(coco).lists["train"][0].mask
    assert mask is not None
    assert (mask.load() == 2).all()


def test_two_years_of_coco_must_be_told_apart(coco: Path) -> None:
    (there,) = (coco / "annotations").glob("instances_train*.json")
    other = there.with_name("instances_train2014.json" if "2017" in there.name else "instances_train2017.json")
    other.write_bytes(there.read_bytes())
    with pytest.raises(ValueError, match="list 'train' may be train2014 or train2017; name the one"):
        _read(coco)


def test_broken_coco_files_are_named(coco: Path) -> None:
    (path,) = (coco / "annotations").glob("instances_train*.json")
    content = json.loads(path.read_text())
    content["annotations"][0]["category_id"] = 7
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"instances_train\d+\.json: annotation 1 has the unknown category 7"):
        _read(coco)
    path.write_text('{"images": []}')
    with pytest.raises(ValueError, match="lacks annotations, categories; it is not a COCO instances file"):
        _read(coco)
    path.write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        _read(coco)


def test_degenerate_and_broken_polygons() -> None:
    pytest.importorskip("pycocotools")
    base = {"id": 5, "category_id": 1, "area": 1.0, "iscrowd": 0}
    assert not draw_mask([{**base, "segmentation": [[1.0, 1.0, 2.0, 2.0]]}], (4, 4), {1: 1}).any()
    with pytest.raises(ValueError, match=r"f\.json: annotation 5 cannot be drawn"):
        draw_mask([{**base, "segmentation": {"size": [4, 4]}}], (4, 4), {1: 1}, "f.json")


def _rectangle(left: int, top: int, right: int, bottom: int, **more: Any) -> dict[str, Any]:
    corners = [[left, top, right, top, right, bottom, left, bottom]]
    return {"id": 5, "category_id": 1, "segmentation": corners, **more}


def test_the_stated_area_says_which_instance_lies_on_top() -> None:
    """The drawn one does where none is stated, or one that is no number."""
    pytest.importorskip("pycocotools")
    small, large = _rectangle(1, 1, 3, 3), _rectangle(0, 0, 4, 4, category_id=2)
    for one in (None, True, float("nan"), "9"):
        mask = draw_mask([small | {"area": one}, large], (4, 4), {1: 1, 2: 2})
        assert (mask[1:3, 1:3] == 1).all()
    assert (draw_mask([small | {"area": 50.0}, large | {"area": 3}], (4, 4), {1: 1, 2: 2}) == 2).all()
    crowd = _rectangle(0, 0, 2, 4, iscrowd=1, area=1)
    mask = draw_mask([small | {"area": 9}, crowd], (4, 4), {1: 1}, unsaid=7)  # whatever its area, a crowd lies below
    assert mask[1].tolist() == [255, 1, 1, 7]


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({"size": [4, 5], "counts": [20]}, "its run lengths are for 5 x 4 pixels, its photo has 4 x 4"),
        ({"size": [4, 4], "counts": [2, 13]}, "its run lengths do not add up to 4 x 4 pixels"),
        ({"size": [4, 4], "counts": [-2, 18]}, "its run lengths do not add up to 4 x 4 pixels"),
        ([], "it has no outline, only a box; set data.masks to none"),
        (None, "it has no outline, only a box; set data.masks to none"),
    ],
)
def test_regions_that_cannot_be_drawn_are_named(region: Any, message: str) -> None:
    pytest.importorskip("pycocotools")
    with pytest.raises(ValueError, match=rf"COCO: annotation 5 cannot be drawn \({message}"):
        draw_mask([{"id": 5, "category_id": 1, "segmentation": region}], (4, 4), {1: 1})


def test_run_lengths_go_down_the_columns() -> None:
    pytest.importorskip("pycocotools")
    expected = [[0, 1], [0, 1], [1, 0]]
    for region in ({"size": [3, 2], "counts": [2, 3, 1]}, {"counts": [2, 3, 1]}):
        assert draw_mask([{"category_id": 4, "segmentation": region}], (3, 2), {4: 1}).tolist() == expected


def test_the_folder_of_coco_is_that_of_its_photos(coco: Path) -> None:
    photos = _read(coco)
    assert photos.folder == photos.photos()[0].image.parent


@pytest.mark.parametrize(
    ("line", "photo"),
    [
        ("x", "x"),
        ("x.png", "x"),
        ("a/y.png", "a__y"),
        ("/images/x.png /masks/x.png", "x"),
        ("x 1", "x"),
        ("z -1", "z"),
        ("old/z.png 1", "z"),
        ("old/w", "old__w"),  # of a photo that is not there, all of its path
        ("y", "a__y"),  # a bare name may lie in any folder
        ("A/Y.PNG 1", "a__y"),
    ],
)
def test_a_line_of_a_list_is_an_id_or_a_path(tmp_path: Path, line: str, photo: str, write_photo: Writer) -> None:
    for name in ("x.png", "a/y.png"):
        write_photo(tmp_path / name)
    assert listed_photo(line, {"x": 0, "a__y": 0}, PhotoFolder(tmp_path), "list") == photo


# --- which reader ---------------------------------------------------------------------------------------------------


def test_the_reader_is_chosen_by_what_is_there(voc: Path, folder_set: Writer) -> None:
    (voc / "labels.csv").write_text("image,tags\n000001.jpg,sofa\n")
    assert detect_format(voc, DataConfig()) == "voc"
    assert detect_format(folder_set({"a.jpg": "cat"}), DataConfig()) == "folder"


def test_vocs_own_classes_keep_the_order_of_its_masks(tmp_path: Path) -> None:
    written = tuple(sorted(VOC_CLASSES, reverse=True))
    assert _vocabulary(tmp_path, written, (), set(), has_masks=True) == (VOC_CLASSES, written)
    assert _vocabulary(tmp_path, written[:3], (), set(), has_masks=True) == (VOC_CLASSES, written[:3])
