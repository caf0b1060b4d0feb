import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cti import Predictor
from cti.cli import main
from cti.data.images import load_mask, save_mask
from cti.data.mask_records import locked, read_records
from cti.files import read_json, write_json
from cti.predict.label import label
from cti.predict.labeller import Labeller, Photo, Report
from cti.predict.photos import find_photos
from tiny import RUN_CLASSES as CLASSES
from tiny import SIZES, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("label"))


@pytest.fixture
def photos(run: Path, tmp_path: Path) -> Path:
    """Three photos, one of them in a sub-folder, and a file that is no photo."""
    source = run.parent / "photos" / "images"
    (tmp_path / "new" / "sub").mkdir(parents=True)
    for name, place in (("p0", "a.jpg"), ("p1", "b.jpg"), ("p2", "sub/c.jpg")):
        shutil.copy(source / f"{name}.jpg", tmp_path / "new" / place)
    (tmp_path / "new" / "notes.txt").write_text("no photo")
    return tmp_path / "new"


def test_the_segmenter_labels_when_there_are_no_tags(run: Path, photos: Path, tmp_path: Path) -> None:
    result = label([photos], run, tmp_path / "out")
    assert (result.labelled, result.kept, result.skipped, result.use) == (3, 0, {}, "segmenter")
    predictor = Predictor.from_pretrained(run, use="segmenter")
    for name, size, place in zip(("a", "b", "sub__c"), SIZES[:3], ("a.jpg", "b.jpg", "sub/c.jpg"), strict=True):
        mask = load_mask(tmp_path / "out" / f"{name}.png", 3)
        assert mask.shape == size
        np.testing.assert_array_equal(mask, predictor(photos / place).mask)
        with Image.open(tmp_path / "out" / "overlays" / f"{name}.png") as picture:
            assert picture.size == size[::-1]
        assert result.photos[name] == str(photos / place)
    assert (tmp_path / "out" / "classes.txt").read_text().split() == list(CLASSES)


def test_cti_labels_where_it_is_asked_for(run: Path, photos: Path, tmp_path: Path) -> None:
    result = label([photos / "a.jpg"], run, tmp_path / "out", tags=["dog"], use="cti", overlays=False)
    assert result.use == "cti"
    mask = load_mask(tmp_path / "out" / "a.png", 3)
    assert set(np.unique(mask)) == {0, 2}
    np.testing.assert_array_equal(mask, Predictor.from_pretrained(run, use="cti")(photos / "a.jpg", ["dog"]).mask)
    assert not (tmp_path / "out" / "overlays").exists()


def test_a_run_without_a_segmenter_and_a_saved_network_do_too(run: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "train", tmp_path / "young" / "train")
    assert label([photos / "a.jpg"], tmp_path / "young", tmp_path / "one").use == "cti"
    Predictor.from_pretrained(run, use="segmenter").save_pretrained(tmp_path / "saved")
    label([photos / "a.jpg"], tmp_path / "saved", tmp_path / "two")
    label([photos / "a.jpg"], run, tmp_path / "three")
    assert (tmp_path / "two" / "a.png").read_bytes() == (tmp_path / "three" / "a.png").read_bytes()


def test_it_goes_on_where_it_stopped(run: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    label([photos], run, out)
    before = {path.name: path.read_bytes() for path in out.glob("*.png")}
    (out / "b.png").unlink()
    (out / "manifest.json").unlink()
    (out / ".b.killed.tmp.png").write_bytes(b"half")
    (out / "overlays" / ".b.killed.tmp.png").write_bytes(b"half")
    save_mask(out / "a.png", np.full(SIZES[0], 3, np.uint8))  # to see that it is kept, not made again
    result = label([photos], run, out)
    assert (result.labelled, result.kept) == (1, 2)
    assert (out / "b.png").read_bytes() == before["b.png"]
    assert (load_mask(out / "a.png") == 3).all()
    assert (out / "manifest.json").is_file()
    assert not list(out.rglob("*.tmp.png"))


def test_what_a_dead_worker_leaves_behind_is_removed(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def engine(labeller: Labeller, todo: list[Photo], report: Report) -> None:
        (tmp_path / "out" / "overlays").mkdir()
        (tmp_path / "out" / "overlays" / ".a.killed.tmp.png").write_bytes(b"half")
        labeller.label(todo, report)

    monkeypatch.setattr("cti.predict.label._engine", lambda _: engine)
    assert label([photos], run, tmp_path / "out", engine="ray").labelled == 3
    assert not list((tmp_path / "out").rglob("*.tmp.*"))


def test_broken_photos_are_named_and_skipped(
    run: Path, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "a_cut.jpg").write_bytes((photos / "a.jpg").read_bytes()[:400])
    (photos / "text.png").write_text("no picture")
    Image.new("RGB", (200, 100)).save(photos / "vast.png")
    result = label([photos], run, tmp_path / "out", max_pixels=10_000)
    assert result.labelled == 3
    assert set(result.skipped) == {str(photos / name) for name in ("a_cut.jpg", "text.png", "vast.png")}
    assert set(result.photos) == {"a", "b", "sub__c"}
    for name in ("a_cut.jpg", "text.png", "vast.png"):
        assert any(name in record.getMessage() for record in caplog.records if record.levelname == "WARNING")
        assert not (tmp_path / "out" / Path(name).with_suffix(".png")).exists()


def test_masks_made_otherwise_are_not_mixed(run: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    label([photos / "a.jpg"], run, out, tags=["cat", "dog"])
    assert label([photos / "b.jpg"], run, out, tags=["dog", "cat"]).labelled == 1
    with pytest.raises(ValueError, match=r"made otherwise \(tags \['cat', 'dog'\], now \['cat'\]\); choose another"):
        label([photos / "b.jpg"], run, out, tags=["cat"])
    with pytest.raises(ValueError, match=r"\(threshold None, now 0.5\)"):
        label([photos / "b.jpg"], run, out, tags=["cat", "dog"], threshold=0.5)
    with pytest.raises(ValueError, match=r"network '[0-9a-f]{16}', now '[0-9a-f]{16}'"):
        label([photos / "b.jpg"], run, out, tags=["cat", "dog"], use="cti")


def test_a_photo_that_was_replaced_is_labelled_again(run: Path, photos: Path, tmp_path: Path) -> None:
    """Whatever its size and date say: the new one may have both of the old one."""
    out, before = tmp_path / "out", (photos / "a.jpg").stat()
    label([photos], run, out)
    old = (out / "b.png").read_bytes()
    other = run.parent / "photos" / "images" / "p4.jpg"
    content = other.read_bytes() + bytes(max(0, before.st_size - other.stat().st_size))
    (photos / "a.jpg").write_bytes(content)
    os.utime(photos / "a.jpg", ns=(before.st_atime_ns, before.st_mtime_ns))
    result = label([photos], run, out)
    assert (result.labelled, result.kept) == (1, 2)
    np.testing.assert_array_equal(load_mask(out / "a.png"), Predictor.from_pretrained(run)(other).mask)
    assert (out / "b.png").read_bytes() == old
    assert label([photos], run, out).labelled == 0


def test_broken_masks_are_made_again(run: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    label([photos], run, out)
    whole = {path.name: path.read_bytes() for path in out.glob("*.png")}
    (out / "a.png").write_bytes(b"")
    (out / "b.png").write_bytes(whole["b.png"][:60])
    (out / "sub__c.png").write_bytes(bytes(len(whole["sub__c.png"])))
    assert label([photos], run, out).labelled == 3
    assert {path.name: path.read_bytes() for path in out.glob("*.png")} == whole
    records = (out / "photos.jsonl").read_text()
    (out / "photos.jsonl").write_text(records[:-30])  # killed while the last line was written
    assert label([photos], run, out).labelled == 1
    assert sorted((out / "photos.jsonl").read_text().splitlines()) == sorted(records.splitlines())


def test_a_photo_that_became_unreadable_loses_its_mask(run: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    label([photos], run, out)
    (photos / "b.jpg").write_text("no photo")
    result = label([photos], run, out)
    assert list(result.skipped) == [str(photos / "b.jpg")]
    assert set(result.photos) == {"a", "sub__c"}
    assert not (out / "b.png").exists()
    assert set(read_records(out)) == {"a", "sub__c"}


def test_each_photo_has_its_own_tags(run: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "tags.csv").write_text('image,tags\na.jpg,"sofa,cat"\nsub/c.jpg,dog\n')
    label([photos], run, out, labels=tmp_path / "tags.csv")
    predictor = Predictor.from_pretrained(run)
    expected = {"a": ["cat", "sofa"], "b": None, "sub__c": ["dog"]}
    for name, place in (("a", "a.jpg"), ("b", "b.jpg"), ("sub__c", "sub/c.jpg")):
        np.testing.assert_array_equal(load_mask(out / f"{name}.png"), predictor(photos / place, expected[name]).mask)
    assert {name: record.given for name, record in read_records(out).items()} == {
        "a": ("cat", "sofa"), "b": None, "sub__c": ("dog",),
    }  # fmt: skip
    (tmp_path / "tags.csv").write_text('image,tags\na.jpg,"sofa,cat"\nsub/c.jpg,cat\n')
    assert label([photos], run, out, labels=tmp_path / "tags.csv").labelled == 1  # only what was changed
    np.testing.assert_array_equal(load_mask(out / "sub__c.png"), predictor(photos / "sub/c.jpg", ["cat"]).mask)


def test_a_file_of_tags_that_does_not_fit_is_refused(run: Path, photos: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "tags.csv", tmp_path / "out"
    table.write_text("image,tags\na.jpg,zebra\n")
    with pytest.raises(ValueError, match=r"tags.csv: unknown tag zebra; this network knows cat, dog, sofa"):
        label([photos], run, out, labels=table)
    table.write_text("image,tags\nelsewhere.jpg,cat\n")
    with pytest.raises(ValueError, match=r"tags.csv names none of the 3 photos; give paths .* such as a\.jpg"):
        label([photos], run, out, labels=table)
    with pytest.raises(ValueError, match="leave one of them out"):
        label([photos], run, out, tags=["cat"], labels=table)
    assert not out.exists()


def test_what_is_known_of_each_photo(run: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    label([photos], run, out, tags=["cat"])
    prediction = Predictor.from_pretrained(run)(photos / "a.jpg", ["cat"])
    record = read_records(out)["a"]
    assert record.tags == ("cat",)
    assert record.size == SIZES[0]
    assert record.scores == prediction.scores
    assert record.shares == {
        name: float((prediction.mask == value).mean())
        for value, name in enumerate(("background", *CLASSES))
        if (prediction.mask == value).any()
    }
    assert record.empty == (not prediction.mask.any())
    assert record.confidence == prediction.confidence
    with (out / "photos.csv").open(newline="") as handle:
        rows = {row["id"]: row for row in csv.DictReader(handle)}
    assert rows["a"]["tags"] == "cat"
    assert float(rows["a"]["share cat"]) == pytest.approx(record.shares.get("cat", 0), abs=1e-4)
    assert float(rows["a"]["score dog"]) == pytest.approx(record.scores["dog"], abs=1e-4)
    assert float(rows["a"]["confidence"]) == pytest.approx(record.confidence, abs=1e-4)
    assert set(rows) == {"a", "b", "sub__c"}


def test_two_runs_on_one_folder_are_refused(run: Path, photos: Path, tmp_path: Path) -> None:
    with locked(tmp_path / "out"), pytest.raises(ValueError, match=r"Another run is writing to .*out"):
        label([photos], run, tmp_path / "out")
    assert label([photos], run, tmp_path / "out").labelled == 3  # nothing stays locked


def test_a_name_that_is_too_long_stops_nothing(run: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "a.jpg", photos / ("0" * 244 + ".jpg"))
    result = label([photos], run, tmp_path / "out")
    assert (result.labelled, len(result.photos)) == (3, 3)
    (reason,) = result.skipped.values()
    assert "is too long for the files of its mask; shorten it" in reason


def test_nothing_readable_is_a_failure(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_text("no photo")
    assert main(["label", str(tmp_path / "bad"), "--model", str(run), "--out", str(tmp_path / "out"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["photos"] == {}


def test_patterns_name_photos(photos: Path) -> None:
    assert set(find_photos([photos / "*.jpg"])) == {"a", "b"}
    assert set(find_photos([f"{photos}/**/*.jpg"])) == {"a", "b", "c"}
    with pytest.raises(ValueError, match=r"There is no photo in .*\*\.png"):
        find_photos([photos / "*.png"])


def test_bad_calls_get_one_sentence_and_write_nothing(run: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FileNotFoundError, match=r"There is no photo or folder .*gone"):
        label([photos / "gone"], run, out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"There is no photo in .*empty"):
        label([tmp_path / "empty"], run, out)
    with pytest.raises(ValueError, match="Unknown tag 'zebra'"):
        label([photos], run, out, tags=["zebra"])
    shutil.copy(photos / "a.jpg", photos / "a.png")
    with pytest.raises(ValueError, match=r"would both be written as a\.png"):
        label([photos], run, out)
    assert not out.exists()


def test_masks_in_the_folder_of_photos_are_no_photos(photos: Path) -> None:
    (photos / "labels").mkdir()
    Image.new("L", (4, 4)).save(photos / "labels" / "a.png")
    assert set(find_photos([photos], leave_out=photos / "labels")) == {"a", "b", "sub__c"}
    assert list(find_photos([photos / "a.jpg", photos / "a.jpg"])) == ["a"]


def test_the_command(run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["label", str(photos), "--model", str(run), "--out", str(tmp_path / "out"), "--json"]
    assert main([*words, "--tags", "cat", "--threshold", "0.5"]) == 0
    assert json.loads(capsys.readouterr().out)["labelled"] == 3
    assert main([*words, "--tags", "cat", "--threshold", "free"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "threshold 0.5, now 'free'" in err


def test_larger_photos_are_labelled_where_they_are_allowed(run: Path, photos: Path, tmp_path: Path) -> None:
    command = ["label", str(photos / "a.jpg"), "--model", str(run), "--out"]
    assert main([*command, str(tmp_path / "few"), "--max-pixels", "2000"]) == 1
    assert "--max-pixels" in (tmp_path / "few" / "errors.csv").read_text()
    assert (tmp_path / "few" / "errors.csv").read_bytes().startswith(b"photo,reason\n")  # not Windows' line ends
    assert main([*command, str(tmp_path / "many"), "--max-pixels", "3000"]) == 0
    assert load_mask(tmp_path / "many" / "a.png", 3).shape == SIZES[0]


def test_a_done_mask_is_known_whatever_its_size(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual limit of a photo's pixels does not make the mask of a larger one count as missing."""
    label([photos], run, tmp_path / "out")
    monkeypatch.setattr(load_mask, "__defaults__", (254, 10))
    assert label([photos], run, tmp_path / "out").kept == 3


def test_pictures_of_very_large_photos_are_reduced(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Predictor.from_pretrained(run)(photos / "a.jpg")
    plain, shares, confidence = whole.overlay(), whole.shares(), whole.confidence
    monkeypatch.setattr("cti.predict.prediction._SHOWN", 32)
    assert whole.overlay().size == plain.size  # a photo that a screen can show is left as it is
    monkeypatch.setattr("cti.predict.prediction._MOST_SHOWN", 1000)
    monkeypatch.setattr("cti.data.stretched.BAND", 500)
    assert plain.size == SIZES[0][::-1]
    prediction = Predictor.from_pretrained(run)(photos / "a.jpg")
    assert prediction.overlay().size == (SIZES[0][1] // 2, SIZES[0][0] // 2)
    # What is said band by band is what is said of the whole.
    np.testing.assert_array_equal(prediction.mask, whole.mask)
    assert prediction.shares() == shares
    assert prediction.confidence == pytest.approx(confidence, rel=1e-5)


def test_cti_says_the_same_by_bands(run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor.from_pretrained(run, use="cti")
    for threshold in (0.3, "free"):
        whole = predictor(photos / "a.jpg", ["cat", "dog"], threshold)  # type: ignore[arg-type]
        with monkeypatch.context() as patch:
            patch.setattr("cti.data.stretched.BAND", 500)
            parts = predictor(photos / "a.jpg", ["cat", "dog"], threshold)  # type: ignore[arg-type]
            np.testing.assert_array_equal(parts.mask, whole.mask)
            assert parts.confidence == pytest.approx(whole.confidence, rel=1e-5)
            assert len(np.unique(parts.mask)) > 1


def test_a_segmenter_without_thresholds_of_tags_is_said_to_be_one(
    run: Path, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after fewer than 20 photos held out; given tags need no threshold."""
    label([photos], run, tmp_path / "all")
    assert caplog.text.count("Too few photos were held out to find from which score on a class is in a photo;") == 1
    caplog.clear()
    label([photos], run, tmp_path / "given", tags=["dog"])
    label([photos], run, tmp_path / "cti", use="cti")
    label([photos], run, tmp_path / "limited", false_alarms=0.05)
    assert "held out" not in caplog.text
    shutil.copytree(run, known := tmp_path / "known")
    facts = read_json(known / "segment" / "config.json")
    write_json(known / "segment" / "config.json", facts | {"tag_thresholds": {"cat": 0.1, "dog": 0.2}})
    label([photos], known, tmp_path / "some")
    assert "from which score on sofa is in a photo; every place where the segmenter sees it is shown" in caplog.text
