"""Kinds of damage that mutated inputs (`benchmarks/torture`) have found: each is one sentence that names the file."""

import json
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
from cti.data.review import read_entries
from cti.data.seed_file import Seed, read_seed, write_seed
from cti.data.tags.cells import split_cells
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
