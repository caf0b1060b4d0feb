"""Masks that were corrected elsewhere come into the review of a run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cti.apps.export.run import export
from cti.apps.review import import_review
from cti.cli import main
from cti.data.images import load_mask, save_mask
from cti.data.review import Entry, read_entries, write_entries
from cti.files import read_json, write_json, write_text
from cti.run import Run
from tiny import RUN_CLASSES, make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made"))


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Run:
    """The run with its photos where they are, in a folder of its own."""
    shutil.copytree(made, tmp_path / "run")
    return Run.open(tmp_path / "run")


def reviewed(run: Run, name: str) -> NDArray[np.uint8]:
    return load_mask(run.review / f"{name}.png")


def square(run: Run, name: str = "p1", value: int = 2) -> NDArray[np.uint8]:
    """A mask with a square of 12 pixels."""
    photo = next(photo for photo in run.photos.photos() if photo.id == name)
    mask = np.zeros(photo.size(), np.uint8)
    mask[8:20, 10:22] = value
    return mask


EDGES = [10, 8, 22, 8, 22, 20, 10, 20]  # COCO's corners lie between pixels
CORNERS = [[10, 8], [21, 8], [21, 19], [10, 19]]  # those of the others on them


def write_source(folder: Path, form: str, run: Run) -> Path:
    """`square` of photo p1 in some format, as it would come from a tool."""
    height, width = square(run).shape
    if form == "png":
        save_mask(folder / "p1.png", square(run))
        return folder
    if form == "labelme":
        shape = {"label": "Dog", "points": CORNERS, "shape_type": "polygon"}
        content = {"shapes": [shape], "imagePath": "p1.jpg", "imageHeight": height, "imageWidth": width}
        write_json(folder / "p1.json", content)
        return folder
    if form == "yolo":
        numbers = " ".join(str(number) for x, y in CORNERS for number in (x / width, y / height))
        write_text(folder / "labels" / "p1.txt", f"0 {numbers}\n")
        write_text(folder / "data.yaml", "names: {0: dog, 1: cat}\n")
        return folder
    content = {
        "images": [
            {"id": 7, "file_name": "p1.jpg", "height": height, "width": width},
            {"id": 8, "file_name": "p2.jpg"},  # without annotations: perhaps nobody has looked at it
        ],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "segmentation": [EDGES]}],
        "categories": [{"id": 3, "name": "dog"}, {"id": 9, "name": "lamp"}],
    }  # fmt: skip
    path = folder / "annotations" / "instances_default.json"
    write_json(path, content)
    return folder if form == "coco" else path


@pytest.mark.parametrize("form", ["png", "labelme", "yolo", "coco", "coco file"])
@pytest.mark.parametrize("partial", [False, True])
def test_every_format_says_the_same(run: Run, tmp_path: Path, form: str, partial: bool) -> None:
    source = write_source(tmp_path / "source", form, run)
    result = import_review(run.folder, source, partial)
    expected = square(run)
    np.testing.assert_array_equal(reviewed(run, "p1"), np.where(expected == 0, 255, expected) if partial else expected)
    assert read_entries(run.review) == {"p1": Entry("accepted", None if partial else ("dog",))}
    assert (result.photos, result.known) == (1, 144 / expected.size if partial else 1)


@pytest.mark.parametrize("form", ["png", "coco", "yolo", "labelme"])
def test_what_was_exported_comes_back(run: Run, tmp_path: Path, form: str) -> None:
    export(str(run.folder), form, str(tmp_path / ("out.json" if form == "coco" else "out")))
    result = import_review(run.folder, tmp_path / ("out.json" if form == "coco" else "out"))
    exported = [photo for photo in run.photos.photos() if form != "coco" or load_mask(run.mask(photo)).any()]
    assert result.photos == len(exported)
    same = [(reviewed(run, photo.id) == load_mask(run.mask(photo))).mean() for photo in exported]
    assert min(same) > 0.97
    assert np.mean(same) > (0.999 if form in ("png", "coco") else 0.98)


def test_scribbles_say_background_and_keep_what_was_known(run: Run, tmp_path: Path) -> None:
    before = np.full(square(run).shape, 255, np.uint8)
    before[-5:], before[12] = 3, 3
    save_mask(run.review / "p1.png", before)
    write_entries(run.review, {"p1": Entry("rejected", ("dog",), 0.3)})
    shapes = [
        {"label": "cat", "points": [[4, 12], [30, 12]], "shape_type": "line"},
        {"label": "background", "points": [[20, 30]], "shape_type": "point"},
    ]
    write_json(tmp_path / "source" / "p1.json", {"shapes": shapes, "imagePath": "..\\photos\\p1.jpg"})
    import_review(run.folder, tmp_path / "source", partial=True)
    mask = reviewed(run, "p1")
    assert (mask[12, 4:30] == 1).all()
    assert mask[30, 20] == 0
    assert (mask[-5:] == 3).all()
    assert (mask[16:26] == 255).all()
    assert read_entries(run.review) == {"p1": Entry("accepted", ("dog",))}


def test_values_follow_the_classes_beside_the_masks(run: Run, tmp_path: Path) -> None:
    save_mask(tmp_path / "source" / "p1.png", square(run, value=1))
    write_text(tmp_path / "source" / "classes.txt", "sofa\nCat\n")
    import_review(run.folder, tmp_path / "source")
    assert set(np.unique(reviewed(run, "p1"))) == {0, 3}


def wrong(case: str, folder: Path, run: Run) -> None:
    mask = square(run)
    if case == "photo":
        save_mask(folder / "elsewhere.png", mask)
    elif case == "value":
        save_mask(folder / "p1.png", square(run, value=4))
    elif case == "size":
        save_mask(folder / "p1.png", mask[1:])
    elif case == "class":
        write_json(folder / "p1.json", {"shapes": [{"label": "lamp", "points": CORNERS}], "imagePath": "p1.jpg"})
    elif case == "shape":
        write_json(folder / "p1.json", {"shapes": [{"label": "cat", "points": CORNERS, "shape_type": "mask"}]})
    elif case == "told size":
        write_json(folder / "p1.json", {"shapes": [], "imageHeight": 9, "imageWidth": 9})
    elif case == "box":
        write_text(folder / "labels" / "p1.txt", "0 0.5 0.5 0.1 0.1\n")
    elif case == "pixels":
        write_text(folder / "labels" / "p1.txt", "0 12 10 20 10 20 30\n")
    elif case == "far":
        write_text(folder / "p1.json", '{"shapes": [{"label": "cat", "points": [[1, 2], [NaN, 3], [2, 2]]}]}')
    elif case == "number":
        write_text(folder / "labels" / "p1.txt", "3 0.1 0.1 0.2 0.1 0.2 0.2\n")
    elif case == "twice":
        save_mask(folder / "p1.png", mask)
        Image.fromarray(mask).save(folder / "p1.bmp")
    elif case == "empty":
        folder.mkdir()


SAID = {
    "photo": r"source has masks of 1 photos that are none of the run's \(elsewhere\.png\)",
    "value": r"p1\.png holds the unknown values 4",
    "size": r"p1\.png is for a photo of 40 x 63 px, but the photo has 40 x 64",
    "class": r"p1\.json, shape 1, has the class 'lamp', but the run has cat, dog, sofa",
    "shape": r"p1\.json, shape 1, is a mask of 4 points; use polygon",
    "told size": r"p1\.json is for a photo of 9 x 9 px",
    "box": r"p1\.txt, line 1, is a box",
    "pixels": r"p1\.txt, line 1, has a corner far outside the photo",
    "far": r"p1\.json, shape 1, has a point far outside",
    "number": r"p1\.txt, line 1, is no outline of one of 3 classes",
    "twice": r"are both of photo p1",
    "empty": "holds no masks",
    "nowhere": "There is no ",
}


@pytest.mark.parametrize("case", SAID)
def test_what_does_not_fit_is_said_before_anything_is_written(run: Run, tmp_path: Path, case: str) -> None:
    wrong(case, tmp_path / "source", run)
    if case not in ("photo", "empty", "nowhere", "box", "number", "pixels", "far", "class", "shape", "told size"):
        save_mask(tmp_path / "source" / "p0.png", square(run, "p0"))  # a good one
    with pytest.raises((ValueError, FileNotFoundError), match=SAID[case]) as error:
        import_review(run.folder, tmp_path / "source")
    assert "\n" not in str(error.value)
    assert not run.review.exists()


def test_the_command(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_mask(tmp_path / "source" / "p1.png", square(run))
    assert main(["review", str(run.folder), str(tmp_path / "source"), "--partial", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"folder": str(run.review), "photos": 1, "known": 144 / square(run).size}
    assert "1 mask is in" in printed.err
    assert RUN_CLASSES[1] == "dog"
    assert read_json(run.folder / "segment" / "manifest.json")
