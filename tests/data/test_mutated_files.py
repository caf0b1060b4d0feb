"""Kinds of damage that mutated inputs (`benchmarks/torture`) have found: each is one sentence that names the file."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cti.apps.ablate.grid import load_grid
from cti.config import DataConfig
from cti.data import read_photos
from cti.data.images import load_image
from cti.data.outside_masks import outside_masks
from cti.data.readers.coco_mask import draw_mask
from cti.data.review import read_entries
from cti.data.seed_file import Seed, read_seed, write_seed
from cti.data.tags.cells import split_cells
from cti.data.tags.tools import read_label_studio
from cti.data.text import read_foreign_json
from cti.files import parse_json, parse_yaml
from cti.settings import load_config


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "4300 digits"),
        ('["\\ud83d"]', "half a character"),
        ("[", "Expecting value"),
    ],
)
def test_json_that_cannot_be_used(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_json(text)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=rf"a\.json.*{says}"):
        read_foreign_json(tmp_path / "a.json")


def test_json_with_a_whole_character_in_halves() -> None:
    assert parse_json('["\\ud83d\\ude00"]') == ["\U0001f600"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: " + "[" * 200_000, "nested too deeply"),  # took minutes
        ("- " * 200_000, "nested too deeply"),
        ("a: &x [1]\nb: [*x]", "refers to a part of itself"),
        ("a: 2001-99-99", "month"),
        ("a: " + "9" * 5000, "4300 digits"),
        ("a: !!bool maybe", "maybe"),
        ("a: [", "expected"),
    ],
)
@pytest.mark.parametrize("read", [load_config, lambda path: load_grid(str(path))], ids=["configuration", "grid"])
def test_yaml_that_cannot_be_used(tmp_path: Path, text: str, says: str, read: Callable[[Path], object]) -> None:
    with pytest.raises(ValueError, match=says):
        parse_yaml(text)
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"a\.yaml.*{says}"):
        read(tmp_path / "a.yaml")


@pytest.mark.parametrize("names", ["{0: cat, x: dog}", "cat", "null", "7", "[" * 200_000, "{0: *cat}"])
def test_names_of_yolo_that_are_none(tmp_path: Path, names: str) -> None:
    (tmp_path / "data.yaml").write_text(f"names: {names}\n")
    (tmp_path / "a.txt").write_text("0 0.1 0.1 0.9 0.1 0.5 0.9\n")
    with pytest.raises(ValueError, match=r"data\.yaml (names no classes|cannot be read as YAML)"):
        outside_masks(tmp_path, ("cat", "dog"))


def test_a_review_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "photos.jsonl").write_bytes(b'{"photo": "a\x81"}\n')
    with pytest.raises(ValueError, match=r"photos\.jsonl is not UTF-8"):
        read_entries(tmp_path)


def test_a_gif_with_a_frame_that_is_larger_than_all_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    Image.new("P", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    frame = content.index(b",", 13 + 3)
    content[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"  # 65,535 x 65,535 pixels
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.gif is not a readable image"):
        load_image(path)


def test_a_seed_file_whose_directory_lies_outside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    maps = np.ones((1, 2, 2), dtype=np.float32)
    write_seed(path, {"refined": Seed((0,), (8, 8), maps, None)})
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\x05\x06")
    content[end + 16 : end + 20] = b"\xff\xff\xff\x7f"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz is not a seed file"):
        read_seed(path)


def test_label_studio_with_a_choice_that_is_no_list(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    results = [{"value": {"choices": choice}} for choice in (1.5, ["cat"], "dog")]
    task = {"data": {"image": "/data/upload/a.png"}, "annotations": [{"result": results}]}
    (tmp_path / "export.json").write_text(json.dumps([task]))
    assert read_photos(DataConfig(root=str(tmp_path), val_fraction=0)).classes == ("1.5", "cat", "dog")


@pytest.mark.parametrize("name", ["NAN", "nan", "None", "null", "NULL"])
def test_a_class_may_be_called_like_nothing(tmp_path: Path, name: str) -> None:
    """Only an empty cell is empty."""
    assert split_cells([name, "", None, float("nan"), f"cat;{name}"])[0] == [(name,), (), (), (), ("cat", name)]
    for index in range(4):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / f"p{index}.png")
    (tmp_path / "labels.csv").write_text(f"image,tags\np0.png,{name}\np1.png,cat\np2.png,cat;{name}\np3.png,\n")
    (tmp_path / "classes.txt").write_text(f"cat\n{name}\n")
    photos = read_photos(DataConfig(root=str(tmp_path), val_fraction=0))
    assert photos.classes == ("cat", name)
    assert {photo.id: photo.tags for photo in photos.photos()} == {"p0": (1,), "p1": (0,), "p2": (0, 1), "p3": ()}


def test_a_cell_of_a_hundred_thousand_words_takes_no_minutes() -> None:
    started = time.monotonic()
    names, _, _ = split_cells(["a, golden retriever", "golden retriever dog " * 50_000])
    assert names == [("a", "golden retriever"), ("golden retriever", "dog")]
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("annotations", [1.5, "x", [{"result": 1.5}], [{"result": "x"}]])
def test_label_studio_with_annotations_that_are_no_list(tmp_path: Path, annotations: object) -> None:
    tasks = [{"data": {"image": "a.png"}, "annotations": annotations}]
    (tmp_path / "a.json").write_text(json.dumps(tasks))
    assert not any(row.tags for row in read_label_studio(tmp_path / "a.json", tasks).rows)


def test_a_coco_count_without_end() -> None:
    with pytest.raises(ValueError, match=r"x\.json: annotation 5 cannot be drawn"):
        draw_mask(
            [{"id": 5, "category_id": 1, "segmentation": {"size": [math.inf, 4], "counts": [16]}}],
            (4, 4),
            {1: 1},
            "x.json",
        )
    with pytest.raises(ValueError, match=r"x\.json: annotation 5 cannot be drawn"):
        draw_mask([{"id": 5, "category_id": 1, "segmentation": [], "iscrowd": math.inf}], (4, 4), {1: 1}, "x.json")


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("segment: {network: null}", r"segment\.network is null; give a text"),
        ("masks: {steps: [null]}", r"masks\.steps"),
        ("data: {2001-01-01: 3, [a]: 1}", r"a\.yaml"),
        ("data: {2001-01-01: 3}", r"a\.yaml has a setting whose name is no text"),
        ("model: {embed_dim: 10, num_heads: 3}", r"model\.embed_dim is 10; give a multiple of num_heads, 3"),
        ("seeds: {long_side: 2147483648}", r"seeds\.long_side is 2147483648; give"),
        ("seeds: {scales: [1.0e+30]}", r"seeds\.scales is .*; give"),
    ],
)
def test_settings_that_would_end_in_a_traceback_or_never(tmp_path: Path, section: str, says: str) -> None:
    extra = "{backbone: vit, " if section.startswith("model") else "{"
    (tmp_path / "a.yaml").write_text(section.replace("{", extra, 1))
    with pytest.raises(ValueError, match=says):
        load_config(tmp_path / "a.yaml")


def test_a_section_of_which_nothing_is_said_is_as_usual(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train:\nsegment: {train: null, depth: 2}\n")
    assert load_config(tmp_path / "a.yaml") == load_config(None, ["--segment.depth", "2"])
