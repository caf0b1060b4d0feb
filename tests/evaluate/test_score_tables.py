"""Tables of scores: what stands where, what is set apart, and what is folded away."""

from dataclasses import replace

import numpy as np

from cti.evaluate.bootstrap import Interval
from cti.evaluate.confusion import ConfusionMatrix
from cti.evaluate.scores import Curve, ForegroundShares, ListScores, MaskScores, SeedScores, class_scores
from cti.evaluate.segment_tags import Alarms
from cti.evaluate.tables import (
    class_table,
    interval_text,
    list_tables,
    mask_table,
    measures,
    normal_table,
    seed_table,
    segment_tag_table,
    step_table,
    tag_table,
    verdict_table,
)
from cti.evaluate.tags import score_tags
from cti.evaluate.verdict import ClassVerdict, Verdict
from cti.tables import Table

CLASSES = ("cat", "dog")
LOW, HIGH = (
    class_scores(ConfusionMatrix(3, np.array(counts)), CLASSES)
    for counts in ([[5, 5, 0], [5, 5, 0], [0, 0, 0]], [[9, 1, 0], [1, 9, 0], [0, 0, 0]])
)
TAGS = score_tags([[0.9, 0.1], [0.2, -0.3]], [[1, 0], [0, 0]], CLASSES)


def texts(table: Table | None) -> dict[str, list[str]]:
    assert table is not None
    assert isinstance(table.rows, tuple)
    return {name: [cell.text for cell in cells] for name, cells in table.rows}


def seeds(kind: str, free: bool = True) -> SeedScores:
    return SeedScores(
        kind, 4, 0.25, LOW, 0.4, HIGH, LOW if free else None, {"one": 0.2, "other": 0.3, "none": None}, 0.125, 2,
        Curve((), (), (), (), {}),
    )  # fmt: skip


def test_tags_have_a_mean_and_are_a_detail() -> None:
    table = tag_table(TAGS)
    assert texts(table) == {
        "cat": ["100.0", "100.0", "100.0", "0.55"],
        "dog": ["-", "-", "0.0", "0.00"],
        "mean": ["100.0", "100.0", "50.0", ""],
    }
    assert (table.style, table.footer, table.folded) == ("bars", 1, True)
    assert table.note.endswith("No photo has the class dog.")
    assert "No photo" not in tag_table(score_tags([[1.0]], [[1]], ("cat",))).note
    mine = segment_tag_table(TAGS, Alarms(20, 30, 0.9, 0.25), "val")
    assert (mine.footer, mine.folded, mine.header[-1]) == (1, False, "threshold (probability)")
    assert mine.header[:-1] == table.header[:-1]
    assert "Where 90.0 % of 20 photos with a class" in mine.note
    assert "so are 25.0 % of 30 normal ones." in mine.note
    assert "normal" not in segment_tag_table(TAGS, None, "val").note


def test_seeds_stand_above_their_baselines() -> None:
    scores = ListScores(seeds={"refined": seeds("refined")}, seeds_predicted_tags={"": seeds("", free=False)})
    table = seed_table(scores, "val")
    assert table is not None
    third = f"{100 / 3:.1f}"  # 5 of 15 pixels of either class
    assert texts(table) == {
        "refined": ["81.8", third, third, "12.5"],
        "seed, predicted tags": ["81.8", third, "-", "12.5"],
        "baseline: one": ["20.0"] * 3 + [""],
        "baseline: other": ["30.0"] * 3 + [""],
        "baseline: none": ["-"] * 3 + [""],
    }
    assert table.footer == 3
    assert table.rows[0][1][0].note == "at 0.40"
    assert "over 4 photos" in table.caption
    assert table.header[2] == "fixed at 0.25"
    assert measures(scores) == {
        "best baseline": 0.3, "seed, swept, uses pixel labels": HIGH.miou,
        "seed, fixed": LOW.miou, "seed, threshold-free": LOW.miou,
    }  # fmt: skip
    assert seed_table(ListScores(), "val") is None
    assert list(ListScores(seeds={"": seeds("", free=False)}).by_name) == ["seed, fixed"]
    assert replace(seeds(""), baselines={"none": None}).best_baseline is None
    only = seed_table(ListScores(seeds_predicted_tags={"": seeds("")}), "val")
    assert only is not None
    assert only.footer == 3


def test_masks_steps_and_normal_photos() -> None:
    some, more = MaskScores(3, LOW, HIGH, 0.5), MaskScores(7, HIGH, HIGH, None)
    scores = ListScores(pseudo_masks=some, segment={"single": more}, steps={"seed": some, "seed+pamr": more})
    table = mask_table(scores, "val")
    assert texts(table)["pseudo-masks"] == ["33.3", "81.8", "50.0"]
    assert texts(table)["segmentation, single"] == ["81.8", "81.8", "-"]
    assert table is not None
    assert "over 7 photos" in table.caption
    assert texts(step_table(scores.steps, "val")) == {"seed": ["33.3", "+0.0"], "seed+pamr": ["81.8", "+48.5"]}
    assert step_table({}, "val") is None
    normal = normal_table(ListScores(normal={"seed": ForegroundShares(3, 0.5, 0.0125)}), "val")
    assert texts(normal) == {"seed": ["50.0", "1.25"]}
    assert interval_text(Interval(0.5, 0.4, 0.62)) == "40.0 to 62.0"
    assert interval_text(None) == ""


def test_classes_have_a_mean_over_those_that_occur() -> None:
    whole = class_scores(ConfusionMatrix(3, np.eye(3, dtype=np.int64)), CLASSES)
    table = class_table({"seed": LOW, "masks": whole}, "val")
    assert texts(table) == {
        "background": ["33.3", "100.0"], "cat": ["33.3", "100.0"], "dog": ["-", "100.0"], "mean": ["33.3", "100.0"],
    }  # fmt: skip
    assert table is not None
    assert (table.style, table.footer, table.folded) == ("bars", 1, False)
    assert table.note == (
        "seed: The mean runs over 2 of 3 classes (background included); neither true nor predicted: dog. "
        "masks: The mean runs over 3 of 3 classes (background included)."
    )
    same = class_table({"seed": LOW, "masks": HIGH}, "val")
    assert same is not None
    assert same.note == "The mean runs over 2 of 3 classes (background included); neither true nor predicted: dog."
    tables = list_tables(ListScores(pseudo_masks=MaskScores(3, LOW, HIGH, 0.5)), "val")
    assert [(table.folded, table.footer) for table in tables] == [(False, 0), (False, 1), (True, 1)]


def test_what_is_known_of_each_class_without_masks() -> None:
    table = verdict_table(Verdict({"cat": ClassVerdict(9, 0.5, 0.75, None, 0.125, 8, 2, 7)}, ()))
    assert texts(table) == {"cat": ["9", "50.0", "75.0", "-", "12.5", "8", "2"]}
    assert table.style == "bars"
