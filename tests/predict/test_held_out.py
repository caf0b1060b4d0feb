"""What is said of new photos is measured by the photos that were held out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cti import Predictor
from cti.cli import main
from cti.data import read_photos
from cti.data.mask_records import read_records, write_records
from cti.evaluate.wrong_tags import write_tag_logits
from cti.predict.held_out import read_held_out, tag_thresholds
from cti.run import Run
from tiny import RUN_CLASSES, make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that keeps what CTI said of the tags of photos held out, as the stage `train` does."""
    folder = make_run(tmp_path)
    photos = read_photos(Run.open(folder).config.data).lists["val"]  # p4: dog, sofa; p5: sofa
    write_tag_logits(folder / "train", photos, np.array([[-9.0, 1.0, 2.0], [-8.0, 3.0, 4.0]]))
    return folder


def test_scores_and_tags_of_photos_held_out(run: Path) -> None:
    cti = read_held_out(run / "train", RUN_CLASSES, segmenter=False)
    seen = read_held_out(run / "segment", RUN_CLASSES, segmenter=True)
    assert cti is not None
    assert seen is not None
    np.testing.assert_array_equal(cti.scores, [[-9, 1, 2], [-8, 3, 4]])
    records = read_records(run / "masks")
    np.testing.assert_array_equal(seen.scores, [list(records[name].scores.values()) for name in ("p4", "p5")])
    for known in (cti, seen):
        np.testing.assert_array_equal(known.labels, [[False, True, True], [False, False, True]])
    assert tag_thresholds(cti, RUN_CLASSES, 0.0) == {"cat": -8.0, "dog": 3.0, "sofa": 0.0}
    assert tag_thresholds(cti, RUN_CLASSES, 0.5)["cat"] == -9.0
    (run / "segment" / "stage.json").unlink()
    assert read_held_out(run / "segment", RUN_CLASSES, segmenter=True) is None


def test_a_rate_of_false_alarms_sets_the_thresholds_of_cti(run: Path) -> None:
    assert Predictor.from_pretrained(run, "cti").analyser.tag_thresholds == {"cat": 0.1, "dog": -0.1, "sofa": 0.0}
    limited = Predictor.from_pretrained(run, "cti", false_alarms=0.5)
    assert limited.analyser.tag_thresholds == {"cat": -9.0, "dog": 3.0, "sofa": 0.0}
    with (run / "config.yaml").open() as file:
        text = file.read().replace("false_alarms: null", "false_alarms: 0.5")
    (run / "config.yaml").write_text(text)
    assert Predictor.from_pretrained(run, "cti").analyser.tag_thresholds == limited.analyser.tag_thresholds


def test_classes_below_their_threshold_are_not_in_a_segmenters_mask(run: Path, tmp_path: Path) -> None:
    photo = run.parent / "photos" / "images" / "p0.jpg"
    plain = Predictor.from_pretrained(run)(photo)
    strongest = max(plain.tags, key=lambda name: plain.scores[name])
    records = read_records(run / "masks")
    for name in ("p4", "p5"):  # held out without cat; with it neither dog nor sofa is limited
        scores = dict.fromkeys(RUN_CLASSES, 0.0) | {strongest: 1.0}
        records[name] = type(records[name])(**{**vars(records[name]), "scores": scores})
    write_records(run / "masks", records, RUN_CLASSES)
    made = json.loads((run / "segment" / "photos.json").read_text())
    made["photos"]["p4"][1] = made["photos"]["p5"][1] = [name for name in RUN_CLASSES if name != strongest]
    (run / "segment" / "photos.json").write_text(json.dumps(made))
    limited = Predictor.from_pretrained(run, false_alarms=0.0)
    found = limited(photo)
    assert found.tags == tuple(name for name in plain.tags if name != strongest)
    assert RUN_CLASSES.index(strongest) + 1 not in np.unique(found.mask)
    assert limited(photo, [strongest]).tags == (strongest,)  # given tags are not doubted
    limited.save_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(Predictor.from_pretrained(tmp_path / "saved")(photo).mask, found.mask)

    words = ["label", str(photo), "--model", str(run), "--out", str(tmp_path / "out"), "--false-alarms", "0"]
    assert main(words) == 0
    assert read_records(tmp_path / "out")["p0"].tags == found.tags
    assert main(words[:-2]) == 1  # the masks there were made otherwise


def test_a_rate_needs_photos_held_out(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "train", tmp_path / "young" / "train")
    (tmp_path / "young" / "train" / "tag_logits.json").unlink()
    with pytest.raises(ValueError, match="knows no tagged photo that was held out"):
        Predictor.from_pretrained(tmp_path / "young", false_alarms=0.1)
    with pytest.raises(ValueError, match=r"false alarms is 1\.5; give a share"):
        Predictor.from_pretrained(run, false_alarms=1.5)
