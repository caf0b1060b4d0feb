"""The verdict on a run that has no mask to compare with."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from cti import pipeline
from cti.data import Photo, PhotoSet
from cti.data.check_report import FEW, few_sentence
from cti.data.images import load_mask, save_mask
from cti.evaluate import verdict as module
from cti.evaluate.doubt import Doubt, Facts, Reason
from cti.evaluate.tags import TagScores
from cti.evaluate.verdict import ClassVerdict, Verdict, class_verdicts, make_verdict, read_verdict
from cti.evaluate.wrong_tags import read_tag_logits, write_tag_logits
from cti.run import Run
from tiny import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run without true masks in which every mask has lost its cats, and p4 looks as if its tag cat was forgotten."""
    made = Run.open(make_run(tmp_path_factory.mktemp("verdict")))
    for photo in made.photos.photos():
        if made.mask(photo).is_file():
            mask = load_mask(made.mask(photo))
            save_mask(made.mask(photo), np.where(mask == 1, np.uint8(0), mask))
    logits = np.full((6, 3), -4.0)
    for row, photo in enumerate(made.photos.photos()):
        logits[row, list(photo.tags)] = 4
        logits[row, 0] += 7 * (photo.id == "p4")
    write_tag_logits(made.stage_folder("train"), made.photos.photos(), logits)
    pipeline.evaluate(made)
    return made


def test_a_class_that_is_in_no_mask_is_said(run: Run) -> None:
    verdict = read_verdict(run.folder)
    assert verdict is not None
    cat = verdict.classes["cat"]
    assert (cat.photos, cat.masks, cat.empty, cat.usual_share) == (3, 3, 3, None)
    assert verdict.classes["dog"].empty == 0
    assert (cat.average_precision, cat.auroc) == (0.5, 0.5)
    assert "Class cat is in no mask, though 3 photos carry its tag." in verdict.sentences
    counts = {name: one.learned for name, one in verdict.classes.items()}
    assert counts == run.photos.count_tags("train")
    held_out = len(run.photos.lists["val"])
    assert verdict.held_out == held_out
    assert f"Scores of tags come from {held_out} photos held out, too few to rely on." in verdict.sentences
    assert few_sentence(counts) in verdict.sentences
    assert f"cat ({counts['cat']})" in few_sentence(counts)


def test_photos_are_sorted_and_their_reasons_named(run: Run) -> None:
    verdict = read_verdict(run.folder)
    assert verdict is not None
    assert [doubt.doubt for doubt in verdict.doubts] == sorted((doubt.doubt for doubt in verdict.doubts), reverse=True)
    reasons = {doubt.photo: {reason.kind for reason in doubt.reasons} for doubt in verdict.doubts}
    assert {photo for photo, kinds in reasons.items() if "empty" in kinds} == {
        photo.id for photo in run.photos.photos() if 0 in photo.tags and run.mask(photo).is_file()
    }
    assert {photo for photo, kinds in reasons.items() if "tag" in kinds} == {"p4"}


def test_what_is_known_of_each_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first photo all masks, of the second the logits of its tags, of the third nothing."""
    photos = tuple(Photo(name, tmp_path / name, own) for name, own in {"a": (0, 1), "b": (1,), "c": (0,)}.items())
    masks = {"mask": [[1, 1, 2, 0]], "pseudo": [[1, 0, 2, 255]], "seen": [[1, 1, 0, 0]]}
    for name, values in masks.items():
        save_mask(tmp_path / name / "a.png", np.array(values, np.uint8))
    write_tag_logits(tmp_path / "train", photos[1:2], [[0.5, -0.5]])
    run = SimpleNamespace(
        photos=PhotoSet(("cat", "dog"), {"train": photos[:2], "val": photos[2:]}),
        stage_folder=lambda name: tmp_path / name,
        mask=lambda photo: tmp_path / "mask" / f"{photo.id}.png",
        pseudo_mask=lambda photo: tmp_path / "pseudo" / f"{photo.id}.png",
        prediction=lambda photo: tmp_path / "seen" / f"{photo.id}.png",
    )
    found: list[Facts] = []
    monkeypatch.setattr(module, "doubts", lambda facts, classes: found.extend(facts) or ())
    verdict = make_verdict(cast(Run, run))
    assert [one.photo for one in found] == ["a", "b"]
    assert [one.tags for one in found] == [(0, 1), (1,)]
    np.testing.assert_allclose(found[0].shares, [0.5, 0.25])
    np.testing.assert_allclose(found[0].seen, [0.5, 0.0])
    assert found[0].agreement == pytest.approx((1 / 2 + 0) / 2)
    assert found[0].logits is None
    assert (found[1].shares, found[1].seen, found[1].agreement) == (None, None, None)
    np.testing.assert_allclose(found[1].logits, [0.5, -0.5])
    assert (verdict.held_out, verdict.teaching) == (1, ("a",))
    assert read_verdict(tmp_path) == verdict
    (tmp_path / "seen" / "a.png").unlink()
    found.clear()
    make_verdict(cast(Run, run))
    assert found[0].agreement is None  # there is nothing to agree with


def test_logits_of_the_later_folder_count(tmp_path: Path, run: Run) -> None:
    photos = run.photos.photos()[:2]
    write_tag_logits(tmp_path / "a", photos, np.full((2, 3), 1 / 3))
    four = [0.3333] * 3  # that many digits are kept
    write_tag_logits(tmp_path / "b", photos[:1], np.ones((1, 3)))
    known = read_tag_logits(tmp_path / "a", tmp_path / "b", tmp_path / "none")
    assert {name: row.tolist() for name, row in known.items()} == {photos[0].id: [1] * 3, photos[1].id: four}


def test_no_verdict_before_there_is_one(tmp_path: Path) -> None:
    assert read_verdict(tmp_path) is None


def _class(photos: int = 40, masks: int = 40, empty: int = 0, learned: int = FEW) -> ClassVerdict:
    return ClassVerdict(photos, 0.9, 0.9, 0.9, 0.2, masks, empty, learned)


def _doubt(photo: str, doubt: float, *kinds: str) -> Doubt:
    return Doubt(photo, (), doubt, tuple(Reason(kind, "", doubt) for kind in kinds))  # type: ignore[arg-type]


def test_only_what_is_to_be_known_is_said() -> None:
    doubts = (_doubt("a", 0.8, "empty", "tag"), _doubt("b", 0.5, "extent"), _doubt("c", 0.49, "tag"))
    classes = {"sound": _class(), "lost": _class(photos=7, masks=5, empty=5), "rare": _class(masks=9, empty=2)}
    verdict = Verdict(classes, doubts, FEW)
    assert [doubt.photo for doubt in verdict.doubtful] == ["a", "b"]
    assert verdict.sentences == (
        "Class lost is in no mask, though 7 photos carry its tag.",
        "2 of 9 masks of rare hold none of it.",
        "2 of 3 photos are worth a look, 1 of them because a tag looks wrong or forgotten.",
    )
    assert Verdict({"sound": _class(), "unmade": _class(masks=0)}, doubts[1:], 0).sentences == (
        "1 of 2 photos are worth a look.",
    )
    assert Verdict({"sound": _class()}, (), FEW - 1).sentences == (
        f"Scores of tags come from {FEW - 1} photos held out, too few to rely on.",
    )
    assert Verdict({"few": _class(learned=FEW - 1)}, (), 0).sentences == (few_sentence({"few": FEW - 1}),)


def test_what_is_known_of_each_class_is_counted() -> None:
    train = tuple(Photo(name, Path(name), own) for name, own in {"a": (0,), "b": (0, 1), "c": (0,)}.items())
    val = (Photo("d", Path("d"), (1,)),)
    facts = [
        Facts("a", (0,), np.array([0.2, 0.0])),
        Facts("b", (0, 1), np.array([0.4, 0.0])),
        Facts("c", (0,)),  # without a mask
        Facts("d", (1,), np.array([0.1, 0.3])),  # holds a class that it is not tagged with
    ]
    scores = {"cat": 0.1, "dog": 0.2}
    tags = TagScores(0.0, 0.0, 0.0, scores, {"cat": 0.3, "dog": 0.4}, {"cat": 0.5, "dog": 0.6}, {})
    photos = PhotoSet(("cat", "dog"), {"train": train, "val": val})
    assert class_verdicts(facts, photos, tags) == {
        "cat": ClassVerdict(3, 0.1, 0.3, 0.5, pytest.approx(0.2), masks=2, empty=0, learned=3),
        "dog": ClassVerdict(2, 0.2, 0.4, 0.6, pytest.approx(0.3), masks=2, empty=1, learned=1),
    }
    assert (Verdict({}, ()).held_out, ClassVerdict(1, None, None, None, None, 0, 0).learned) == (0, 0)
    assert class_verdicts([], photos, None)["cat"] == ClassVerdict(3, None, None, None, None, 0, 0, 3)
