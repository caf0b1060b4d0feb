"""What is said of new photos is measured by the photos that were held out."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cti import Predictor
from cti.cli import main
from cti.data import read_photos
from cti.data.mask_records import read_records, write_records
from cti.evaluate.wrong_tags import write_tag_logits
from cti.predict.held_out import cannot_tell, read_held_out, tag_thresholds
from cti.predict.label import label
from cti.run import Run
from cti.segment.predict import certainties
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


def test_certainty_is_that_of_the_answer() -> None:
    probabilities = torch.tensor([
        [[0.6, 0.2], [0.1, 0.5]], [[0.1, 0.7], [0.9, 0.1]], [[0.3, 0.1], [0.0, 0.4]], [[0.0, 0.0], [0.0, 0.0]],
    ])  # fmt: skip
    np.testing.assert_allclose(certainties(probabilities), [(0.7 + 0.9) / 2, 1 - 0.4, 1])


def test_cannot_tell_is_said_of_few_photos_like_those_held_out() -> None:
    """Of photos that are drawn like those held out, and never where these are too few to say so."""
    rng = np.random.default_rng(0)
    held_out, others = rng.random(399).tolist(), rng.random(4000)
    assert np.mean([cannot_tell(value, held_out) for value in others]) == pytest.approx(0.05, abs=0.02)
    assert all(cannot_tell(value, held_out) for value in (-1.0, min(held_out)))
    assert cannot_tell(0.0, [0.5] * 19) is True
    assert cannot_tell(0.5, [0.5] * 19) is False
    assert cannot_tell(0.0, [0.5] * 18) is None


def test_labels_say_how_sure_they_are(run: Path, tmp_path: Path) -> None:
    photos = run.parent / "photos" / "images"
    label([photos / "p4.jpg"], run, tmp_path / "two")
    known, found = read_records(run / "masks")["p4"], read_records(tmp_path / "two")["p4"]
    assert found.certainty == pytest.approx(known.certainty, abs=1e-5)  # the tags of the run's mask change nothing
    assert found.cannot_tell is None  # two photos held out are too few
    predictor = Predictor.from_pretrained(run)
    sure = [min(read_records(run / "masks")[name].certainty.values()) for name in ("p4", "p5")]
    assert predictor.analyser.held_out == pytest.approx(sure)
    predictor.save_pretrained(tmp_path / "saved")
    description = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert description["held_out"] == pytest.approx(sure)
    for number, cannot in ((1.0, True), (0.0, False)):
        description["held_out"] = [number] * 19
        (tmp_path / "saved" / "config.json").write_text(json.dumps(description))
        out = tmp_path / f"all {number}"
        label([photos], tmp_path / "saved", out)
        records = read_records(out)
        assert {record.cannot_tell for record in records.values()} == {cannot}
        rows = {row["id"]: row for row in csv.DictReader((out / "photos.csv").open())}
        assert {row["cannot tell"] for row in rows.values()} == {str(int(cannot))}
        assert float(rows["p4"]["certainty dog"]) == pytest.approx(records["p4"].certainty["dog"], abs=1e-4)
    given = tmp_path / "given"
    label([photos / "p4.jpg"], tmp_path / "saved", given, tags=["dog"])
    assert read_records(given)["p4"].cannot_tell is None


def test_a_mask_of_unknown_certainty_is_left_out(run: Path) -> None:
    records = read_records(run / "masks")
    records["p5"] = replace(records["p5"], certainty={})
    write_records(run / "masks", records, RUN_CLASSES)
    held_out = Predictor.from_pretrained(run).analyser.held_out
    assert held_out == pytest.approx([min(records["p4"].certainty.values())])


def test_cti_knows_no_such_certainty(run: Path, tmp_path: Path) -> None:
    label([run.parent / "photos" / "images" / "p4.jpg"], run, tmp_path / "out", use="cti")
    record = read_records(tmp_path / "out")["p4"]
    assert (record.certainty, record.cannot_tell) == ({}, None)


def test_a_rate_needs_photos_held_out(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "train", tmp_path / "young" / "train")
    (tmp_path / "young" / "train" / "tag_logits.json").unlink()
    with pytest.raises(ValueError, match="knows no tagged photo that was held out"):
        Predictor.from_pretrained(tmp_path / "young", false_alarms=0.1)
    with pytest.raises(ValueError, match=r"false alarms is 1\.5; give a share"):
        Predictor.from_pretrained(run, false_alarms=1.5)
