"""`cti export`: what it takes from a run or a folder of labels, and what it says when something is missing."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cti.apps.export import FORMATS
from cti.apps.export import run as module
from cti.apps.export.run import export
from cti.apps.export.sources import labelled_photos
from cti.apps.export.voc_submission import LAYOUT, check_voc_submission
from cti.classes import VOC_CLASSES
from cti.cli import main
from cti.data.images import load_mask
from cti.files import write_text
from cti.predict.label import label
from cti.predict.predictor import Predictor
from cti.settings import CONFIG_FILE, dump_config, load_config
from tiny import RUN_CLASSES as CLASSES
from tiny import UNLISTED


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """A run of one's own, whose photos stay where they are."""
    return Path(shutil.copytree(run, tmp_path / "copied"))


def images_of(run: Path) -> Path:
    return run.parent / "photos" / "images"


@pytest.mark.parametrize(
    ("stage", "folder"),
    [
        (None, "masks"),
        ("masks", "masks"),
        ("pseudo", "masks/pseudo"),
        ("segment", "segment/predictions/single"),
    ],
)
def test_masks_of_a_run(stage: str | None, folder: str, run: Path, tmp_path: Path) -> None:
    ids = {"p0", "p1", "p2", "p3", "p4", "p5"}
    result = export(run, "png", tmp_path / "out", stage=stage)
    assert result.images == len(ids)
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} == ids
    for name in ids:
        np.testing.assert_array_equal(
            load_mask(tmp_path / "out" / f"{name}.png"), load_mask(run / folder / f"{name}.png")
        )


def test_a_list_of_the_run_or_of_ones_own_chooses(run: Path, tmp_path: Path) -> None:
    assert export(run, "png", tmp_path / "a", listed="val").images == 2
    (tmp_path / "mine.txt").write_text("p3.jpg\np1\n")
    export(run, "png", tmp_path / "b", listed=str(tmp_path / "mine.txt"))
    assert {path.stem for path in (tmp_path / "b").glob("*.png")} == {"p1", "p3"}
    with pytest.raises(ValueError, match=r"There is no list 'vall'; .*, or one of the lists train, score, val"):
        export(run, "png", tmp_path / "c", listed="vall")
    (tmp_path / "mine.txt").write_text("p1\nstranger\n")
    with pytest.raises(ValueError, match=r"1 of 2 ids of .*mine.txt are no photo of the run: stranger"):
        export(run, "png", tmp_path / "c", listed=str(tmp_path / "mine.txt"))
    (tmp_path / "mine.txt").write_text("\n")
    with pytest.raises(ValueError, match="is empty; there is nothing to export"):
        export(run, "png", tmp_path / "c", listed=str(tmp_path / "mine.txt"))


def test_without_a_segmenter_the_masks_are_the_pseudo_masks(
    copied: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(copied / "segment")
    (copied / "masks" / "p4.png").unlink()
    caplog.set_level("INFO")
    assert export(copied, "png").images == 5
    assert len(list((copied / "export" / "png").glob("*.png"))) == 5
    assert "has not finished: its masks are the pseudo-masks" in caplog.text
    with pytest.raises(ValueError, match=r"masks lacks the masks of 1 of 2 photos \(p4\)"):
        export(copied, "png", tmp_path / "c", listed="val")
    (copied / "masks" / "manifest.json").unlink()
    with pytest.raises(ValueError, match="has no finished stage masks to export; run `cti masks` first"):
        export(copied, "png")
    with pytest.raises(ValueError, match="has no finished stage segment to export; run `cti segment` first"):
        export(copied, "coco", stage="segment")


def test_labels_of_new_photos_become_coco(run: Path, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco", reason="needs the extra coco")
    photo = images_of(run) / f"{UNLISTED}.png"
    label([photo], run, tmp_path / "labels")
    result = export(tmp_path / "labels", "coco", shape="rle")
    assert result.out == str(tmp_path / "labels" / "export" / "coco.json")
    found = coco.COCO(result.out)
    mask = load_mask(tmp_path / "labels" / f"{UNLISTED}.png", 3)
    (image,) = found.loadImgs(found.getImgIds())
    assert (image["file_name"], image["height"], image["width"]) == (photo.name, *mask.shape)
    drawn = np.zeros_like(mask)
    for annotation in found.loadAnns(found.getAnnIds()):
        drawn[found.annToMask(annotation).astype(bool)] = annotation["category_id"]
    np.testing.assert_array_equal(drawn, mask)
    (tmp_path / "labels" / "manifest.json").unlink()
    with pytest.raises(ValueError, match="`cti label` has not finished"):
        export(tmp_path / "labels", "coco")


def test_a_submission_predicts_the_photos_of_the_list_that_are_new(copied: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text(f"{UNLISTED}\np4\n")
    result = export(copied, "voc-submission", listed=str(tmp_path / "test.txt"))
    archive = copied / "export" / "voc-submission.tar.gz"
    assert result.out == str(archive)
    assert result.images == 2
    photos = {UNLISTED: images_of(run) / f"{UNLISTED}.png", "p4": images_of(run) / "p4.jpg"}
    assert check_voc_submission(archive, photos) == []
    predictor = Predictor.from_pretrained(run, use="segmenter")
    table = np.array([0, *(VOC_CLASSES.index(name) + 1 for name in CLASSES)])
    with tarfile.open(archive) as tar:
        for name, photo in photos.items():
            mask = np.array(Image.open(io.BytesIO(tar.extractfile(f"{LAYOUT}/{name}.png").read())))
            np.testing.assert_array_equal(mask, table[predictor(photo).mask])


def test_a_submission_says_what_is_missing(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs the server's list of photos; name it with --list"):
        export(copied, "voc-submission")
    (tmp_path / "test.txt").write_text("p0\n2008_000001\n2008_000002\n")
    with pytest.raises(
        ValueError, match=r"2 of 3 ids of .*test.txt are no photo .* and no photo in .*images; .*--photos: 2008_000001"
    ):
        export(copied, "voc-submission", listed=str(tmp_path / "test.txt"))
    with pytest.raises(FileNotFoundError, match=r"There is no folder of photos .*elsewhere; name it with --photos"):
        export(copied, "voc-submission", listed="val", images=tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="are the segmenter's, which sees no tags"):
        export(copied, "voc-submission", listed="val", stage="masks")
    (copied / "segment" / "manifest.json").unlink()
    with pytest.raises(ValueError, match="has no finished segmenter, whose masks are submitted; run `cti segment`"):
        export(copied, "voc-submission", listed="val")


def test_listed_photos_may_lie_elsewhere(copied: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    shutil.copy(images_of(run) / "p0.jpg", tmp_path / "server" / "2008_000001.jpg")
    (tmp_path / "test.txt").write_text("2008_000001\n")
    result = export(copied, "voc-submission", listed=str(tmp_path / "test.txt"), images=tmp_path / "server")
    assert result.images == 1


def test_networks_are_those_that_there_are(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which graphs are asked for and where they go; that they are right is `test_export_onnx`'s to say."""
    from cti.apps.export import onnx

    asked: list[tuple[str, str]] = []

    def fake(predictor: Predictor, out: Path) -> onnx.OnnxExport:
        asked.append((type(predictor.analyser).__name__, Path(out).name))
        return onnx.OnnxExport(str(out), (), (), 0.0, "")

    monkeypatch.setattr(onnx, "export_onnx", fake)
    result = export(copied, "onnx")
    assert asked == [("CTIAnalyser", "cti.onnx"), ("SegmenterAnalyser", "segmenter.onnx")]
    assert result["cti"].out == str(copied / "export" / "onnx" / "cti.onnx")
    assert list(export(copied, "onnx", tmp_path / "o", stage="segment")) == ["segmenter"]
    Predictor.from_pretrained(copied, use="cti").save_pretrained(tmp_path / "saved")
    assert list(export(tmp_path / "saved", "onnx")) == ["cti"]
    with pytest.raises(ValueError, match="network of the type 'cti', not segment's; leave --stage out"):
        export(tmp_path / "saved", "onnx", stage="segment")
    with pytest.raises(ValueError, match="holds no trained network to export; run `cti train`"):
        export(tmp_path, "onnx")
    with pytest.raises(ValueError, match="The stage masks has no network"):
        export(copied, "onnx", stage="masks")


def test_yolo_trains_and_validates_on_the_lists_of_the_run(run: Path, tmp_path: Path) -> None:
    export(run, "yolo", tmp_path / "yolo")
    listed = {name: (tmp_path / "yolo" / f"{name}.txt").read_text().split() for name in ("train", "val")}
    assert listed == {name: [f"./images/p{i}.jpg" for i in ids] for name, ids in (("train", range(4)), ("val", (4, 5)))}


def test_what_cannot_be_exported(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no run"):
        export(tmp_path / "gone", "png")
    with pytest.raises(ValueError, match="is neither a run"):
        export(tmp_path, "png")
    with pytest.raises(ValueError, match="There is no format 'jpeg'; give one of png, coco"):
        export(run, "jpeg")
    with pytest.raises(ValueError, match="The stage train has no masks"):
        export(run, "png", stage="train")


@pytest.mark.parametrize("to", sorted(set(FORMATS) - {"onnx"}))
def test_the_command_knows_every_format(to: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if to in ("yolo", "pascal-voc", "labelme"):
        pytest.importorskip("supervision", reason="needs the extra labelling")
    if to == "coco":
        pytest.importorskip("pycocotools", reason="needs the extra coco")
    out = tmp_path / module._USUAL_NAMES.get(to, "out")
    assert main(["export", to, str(run), "--list", "val", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 2
    assert out.exists()


@pytest.mark.parametrize("to", ["png", "coco", "voc", "imagefolder", "fiftyone", "overlays", "yolo"])
def test_an_export_says_what_it_wrote_and_replaces_only_when_told(
    to: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", to, str(copied)]) == 0
    said = "".join(capsys.readouterr().err.split())  # without the terminal's line breaks
    assert f"{to}:6masks(catin3,dogin3,sofain3)" in said
    assert f"writtento{copied / 'export' / to}" in said
    assert main(["export", to, str(copied)]) == 1
    assert main(["export", to, str(copied), "--overwrite"]) == 0


def test_a_drawn_split_stays_the_runs_own(copied: Path, run: Path, tmp_path: Path) -> None:
    """The photos have lost their lists, and a new draw of them would give another split than the run's."""
    photos = Path(shutil.copytree(run.parent / "photos", tmp_path / "photos"))
    shutil.rmtree(photos / "lists")
    config = load_config(copied, ["--data.root", str(photos)])
    write_text(copied / CONFIG_FILE, dump_config(config))
    drawn = set(labelled_photos(copied).lists["val"])
    held_out = sorted({"p0", "p1", "p2", "p3", "p4", "p5"} - drawn)[:2]
    for name, ids in (("train", sorted({f"p{index}" for index in range(6)} - set(held_out))), ("val", held_out)):
        write_text(copied / "train" / "lists" / f"{name}.txt", "".join(f"{photo}\n" for photo in ids))
    export(copied, "yolo", tmp_path / "out")
    assert (tmp_path / "out" / "val.txt").read_text() == "".join(f"./images/{name}.jpg\n" for name in held_out)
    assert (tmp_path / "out" / "train.txt").read_text().count("\n") == 4
