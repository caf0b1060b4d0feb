"""Folders of photos and masks: as torchvision, Hugging Face's datasets and cti itself read them, and as people look."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torchvision.datasets import VOCSegmentation

from cti.apps.export import Exported
from cti.apps.export.fiftyone import export_fiftyone
from cti.apps.export.imagefolder import export_imagefolder
from cti.apps.export.overlays import export_overlays
from cti.apps.export.voc import LAYOUT, export_voc
from cti.classes import voc_palette
from cti.data import save_mask
from cti.data.depth import Reading
from cti.visualize import overlay

CLASSES = ("cat", "dog", "sofa")
LISTS = {"train": ["ring", "parts", "not exported"], "score": ["unsure"], "val": ["nothing"]}
Masks = dict[str, NDArray[np.uint8]]
Export = Callable[..., Exported]


def colours(photo: Path) -> NDArray[np.uint8]:
    return np.asarray(ImageOps.exif_transpose(Image.open(photo)).convert("RGB"))


@pytest.fixture
def striped(photos: dict[str, Path]) -> dict[str, Path]:
    """The photos with a bright row at the top of the file's pixels, so that a turned one can be told."""
    for path in photos.values():
        with Image.open(path) as image:
            exif, size = image.getexif(), image.size
        picture = Image.new("RGB", size, "green")
        picture.paste("white", (0, 0, size[0], size[1] // 2))
        picture.save(path, exif=exif)
    return photos


def test_torchvision_takes_voc(masks: Path, striped: dict[str, Path], drawn_masks: Masks, tmp_path: Path) -> None:
    result = export_voc(masks, striped, CLASSES, tmp_path / "out", LISTS)
    found = VOCSegmentation(str(tmp_path / "out"), image_set="train")
    assert [Path(path).stem for path in found.images] == ["ring", "parts"]
    for name, (photo, mask) in zip(("ring", "parts"), found, strict=True):
        np.testing.assert_array_equal(np.asarray(mask), drawn_masks[name])
        assert mask.getpalette()[:12] == voc_palette()[:4].ravel().tolist()
        assert np.abs(np.asarray(photo, dtype=int) - colours(striped[name])).mean() < 4  # turned as the mask, a JPEG
    assert [Path(path).stem for path in VOCSegmentation(str(tmp_path / "out"), image_set="val").images] == ["nothing"]
    assert result.images == 4
    assert result.masks == {"cat": 2, "dog": 1, "sofa": 1}
    assert str(result) == "4 masks (cat in 2, dog in 1, sofa in 1)"
    place = tmp_path / "out" / LAYOUT
    assert (place / "JPEGImages" / "unsure.jpg").read_bytes() == striped["unsure"].read_bytes()
    assert (place / "labelmap.txt").read_text().splitlines() == [
        "# label:color_rgb:parts:actions",
        "background:0,0,0::",
        "cat:128,0,0::",
        "dog:0,128,0::",
        "sofa:128,128,0::",
    ]


def test_voc_without_lists_is_one_list(masks: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    export_voc(masks, photos, CLASSES, tmp_path / "out")
    assert len(VOCSegmentation(str(tmp_path / "out"), image_set="train")) == 4
    assert [path.name for path in (tmp_path / "out" / LAYOUT / "ImageSets" / "Segmentation").iterdir()] == ["train.txt"]


def test_an_imagefolder_has_the_runs_splits(
    masks: Path, striped: dict[str, Path], drawn_masks: Masks, tmp_path: Path
) -> None:
    result = export_imagefolder(masks, striped, CLASSES, tmp_path / "out", LISTS)
    assert result.images == 4
    rows = {
        split: [json.loads(line) for line in (tmp_path / "out" / split / "metadata.jsonl").read_text().splitlines()]
        for split in ("train", "validation", "test")
    }
    assert {split: [row["file_name"] for row in found] for split, found in rows.items()} == {
        "train": ["parts.jpg", "ring.png"],
        "validation": ["nothing.jpg"],
        "test": ["unsure.jpg"],
    }
    assert [row["classes"] for row in rows["train"]] == ["cat, sofa", "cat, dog"]
    for split, found in rows.items():
        for row in found:
            name = Path(row["file_name"]).stem
            mask = np.asarray(Image.open(tmp_path / "out" / split / row["mask_file_name"]))
            np.testing.assert_array_equal(mask, drawn_masks[name])
            photo = np.asarray(Image.open(tmp_path / "out" / split / row["file_name"]), dtype=int)
            assert np.abs(photo - colours(striped[name])).mean() < 4


def test_datasets_loads_an_imagefolder(
    masks: Path, photos: dict[str, Path], drawn_masks: Masks, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets is no part of any extra")
    export_imagefolder(masks, photos, CLASSES, tmp_path / "out", LISTS)
    found = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in found.items()} == {"train": 2, "validation": 1, "test": 1}
    for row, name in zip(found["train"], ("parts", "ring"), strict=True):
        np.testing.assert_array_equal(np.asarray(row["mask"]), drawn_masks[name])
        assert row["image"].size == row["mask"].size
    assert [row["classes"] for row in found["train"]] == ["cat, sofa", "cat, dog"]


def test_fiftyone_finds_values_under_equal_names(
    masks: Path, striped: dict[str, Path], drawn_masks: Masks, tmp_path: Path
) -> None:
    export_fiftyone(masks, striped, CLASSES, tmp_path / "out", LISTS)
    assert {path.name for path in tmp_path.joinpath("out").iterdir()} == {"data", "labels", "load.py"}
    assert {path.stem for path in (tmp_path / "out" / "data").iterdir()} == set(drawn_masks)
    for name, mask in drawn_masks.items():
        with Image.open(tmp_path / "out" / "labels" / f"{name}.png") as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), mask)
        (photo,) = (tmp_path / "out" / "data").glob(f"{name}.*")
        assert np.abs(np.asarray(Image.open(photo), dtype=int) - colours(striped[name])).mean() < 4
    snippet = (tmp_path / "out" / "load.py").read_text()
    compile(snippet, "load.py", "exec")
    assert "{1: 'cat', 2: 'dog', 3: 'sofa'}" in snippet
    assert "{'train': ['parts', 'ring'], 'score': ['unsure'], 'val': ['nothing']}" in snippet


def test_deep_photos_and_those_of_many_bands_are_shown_as_the_run_saw_them(tmp_path: Path) -> None:
    """16 bits grey by the levels of the run, and a numpy file by its bands, which an image folder gets as a PNG."""
    (tmp_path / "masks").mkdir()
    photos = {"deep": tmp_path / "deep.png", "cube": tmp_path / "cube.npy"}
    Image.fromarray(np.full((6, 9), 1000, np.uint16)).save(photos["deep"])
    np.save(photos["cube"], np.full((6, 9, 5), (0, 500, 1000, 1500, 2000), np.uint16))
    for name in photos:
        save_mask(tmp_path / "masks" / f"{name}.png", np.zeros((6, 9), np.uint8))
    reading = Reading((0.0, 2000.0), (5, 3, 1))
    seen = {"deep": (128, 128, 128), "cube": (255, 128, 0)}
    arguments = {"masks": tmp_path / "masks", "photos": photos, "classes": CLASSES, "reading": reading}
    export_overlays(**arguments, out=tmp_path / "overlays")
    export_voc(**arguments, out=tmp_path / "voc")
    export_imagefolder(**arguments, out=tmp_path / "folder")
    export_fiftyone(**arguments, out=tmp_path / "fiftyone")
    places = ("overlays/{}.jpg", f"voc/{LAYOUT}/JPEGImages/{{}}.jpg", "folder/train/{}.png", "fiftyone/data/{}.png")
    for name, colour in seen.items():
        for place in places:
            path = tmp_path / place.format(name)
            if name == "deep" and path.suffix == ".png":
                assert path.read_bytes() == photos["deep"].read_bytes()
            else:
                assert np.abs(colours(path).astype(int) - colour).max() <= 4


def test_overlays_are_pictures(masks: Path, photos: dict[str, Path], drawn_masks: Masks, tmp_path: Path) -> None:
    export_overlays(masks, photos, CLASSES, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"legend.png"} | {f"{n}.jpg" for n in drawn_masks}
    photo = Image.open(photos["ring"]).convert("RGB")
    found = np.asarray(Image.open(tmp_path / "out" / "ring.jpg"), dtype=int)
    assert np.abs(found - np.asarray(overlay(photo, drawn_masks["ring"]))).mean() < 4
    assert np.abs(found - np.asarray(photo)).mean() > 10


@pytest.mark.parametrize("export", [export_voc, export_imagefolder, export_fiftyone, export_overlays])
def test_what_is_there_stays_unless_it_is_to_be_replaced(
    export: Export, masks: Path, photos: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is there already; remove it, give --overwrite, or choose another --out"):
        export(masks, photos, CLASSES, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    export(masks, photos, CLASSES, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "mine.txt").exists()
    (masks / "ring.png").unlink()
    with pytest.raises(ValueError, match=r"lacks the masks of 1 of 4 photos \(ring\)"):
        export(masks, photos, CLASSES, tmp_path / "more")
    assert not (tmp_path / "more").exists()
