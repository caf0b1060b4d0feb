import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cti import Predictor
from cti.cli import main
from cti.data.images import load_mask
from cti.predict.label import find_photos, label
from sample_run import CLASSES, SIZES, make_run


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
    assert (result["labelled"], result["kept"], result["skipped"], result["use"]) == (3, 0, {}, "segmenter")
    predictor = Predictor.from_pretrained(run, use="segmenter")
    for name, size, place in zip(("a", "b", "sub__c"), SIZES[:3], ("a.jpg", "b.jpg", "sub/c.jpg"), strict=True):
        mask = load_mask(tmp_path / "out" / f"{name}.png", 3)
        assert mask.shape == size
        np.testing.assert_array_equal(mask, predictor(photos / place).mask)
        with Image.open(tmp_path / "out" / "overlays" / f"{name}.png") as picture:
            assert picture.size == size[::-1]
        assert result["photos"][name] == str(photos / place)
    assert (tmp_path / "out" / "classes.txt").read_text().split() == list(CLASSES)


def test_with_tags_cti_labels(run: Path, photos: Path, tmp_path: Path) -> None:
    result = label([photos / "a.jpg"], run, tmp_path / "out", tags=["dog"], overlays=False)
    assert result["use"] == "cti"
    mask = load_mask(tmp_path / "out" / "a.png", 3)
    assert set(np.unique(mask)) == {0, 2}
    np.testing.assert_array_equal(mask, Predictor.from_pretrained(run)(photos / "a.jpg", ["dog"]).mask)
    assert not (tmp_path / "out" / "overlays").exists()


def test_a_run_without_a_segmenter_and_a_saved_network_do_too(run: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "train", tmp_path / "young" / "train")
    assert label([photos / "a.jpg"], tmp_path / "young", tmp_path / "one")["use"] == "cti"
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
    (out / "a.png").write_bytes(before["sub__c.png"])  # to see that it is kept, not made again
    result = label([photos], run, out)
    assert (result["labelled"], result["kept"]) == (1, 2)
    assert (out / "b.png").read_bytes() == before["b.png"]
    assert (out / "a.png").read_bytes() == before["sub__c.png"]
    assert (out / "manifest.json").is_file()
    assert not list(out.rglob("*.tmp.png"))


def test_broken_photos_are_named_and_skipped(
    run: Path, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "a_cut.jpg").write_bytes((photos / "a.jpg").read_bytes()[:400])
    (photos / "text.png").write_text("no picture")
    Image.new("RGB", (200, 100)).save(photos / "vast.png")
    result = label([photos], run, tmp_path / "out", max_pixels=10_000)
    assert result["labelled"] == 3
    assert set(result["skipped"]) == {str(photos / name) for name in ("a_cut.jpg", "text.png", "vast.png")}
    assert set(result["photos"]) == {"a", "b", "sub__c"}
    for name in ("a_cut.jpg", "text.png", "vast.png"):
        assert any(name in record.getMessage() for record in caplog.records if record.levelname == "WARNING")
        assert not (tmp_path / "out" / Path(name).with_suffix(".png")).exists()


def test_masks_made_otherwise_are_not_mixed(run: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    label([photos / "a.jpg"], run, out, tags=["cat", "dog"])
    assert label([photos / "b.jpg"], run, out, tags=["dog", "cat"])["labelled"] == 1
    with pytest.raises(ValueError, match=r"made otherwise \(tags \['cat', 'dog'\], now \['cat'\]\); choose another"):
        label([photos / "b.jpg"], run, out, tags=["cat"])
    with pytest.raises(ValueError, match=r"\(threshold None, now 0.5\)"):
        label([photos / "b.jpg"], run, out, tags=["cat", "dog"], threshold=0.5)
    with pytest.raises(ValueError, match=r"network '[0-9a-f]{16}', now '[0-9a-f]{16}'"):
        label([photos / "b.jpg"], run, out, tags=["cat", "dog"], use="segmenter")


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
