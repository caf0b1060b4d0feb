"""A person's corrections count: reviewed pixels, corrected tags, rejected photos."""

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cti import pipeline
from cti.data.images import load_mask, save_mask
from cti.data.photos import Photo, PhotoSet
from cti.data.review import (
    Entry,
    read_entries,
    rejected,
    review_marks,
    reviewed_pixels,
    with_review,
    with_reviewed_tags,
    write_entries,
)
from cti.evaluate.gain import gains
from cti.run import Run
from cti.segment.stage import training_masks
from tiny import make_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.open(make_run(tmp_path))


def again(run: Run, overwrite: bool = True) -> Run:
    return Run(replace(run.config, runtime=replace(run.config.runtime, overwrite=overwrite)))


def test_entries_are_lines_that_anybody_can_write(tmp_path: Path) -> None:
    entries = {"a": Entry("accepted", ("cat",), "free"), "b": Entry("rejected"), "c": Entry("open", (), 0.3)}
    write_entries(tmp_path, entries)
    assert read_entries(tmp_path) == entries
    with (tmp_path / "photos.jsonl").open("a") as file:
        file.write('{"photo": "a", "verdict": "rejected"}\n')
    assert read_entries(tmp_path)["a"] == Entry("rejected")
    assert read_entries(tmp_path / "none") == {}


@pytest.mark.parametrize("line", ["{", '{"photo": "a", "verdict": "maybe"}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "photos.jsonl").write_text('{"photo": "a", "verdict": "open"}\n' + line)
    with pytest.raises(ValueError, match=r"photos\.jsonl, line 2"):
        read_entries(tmp_path)


def test_lines_are_written_as_people_spell_names(tmp_path: Path) -> None:
    write_entries(tmp_path, {"ä": Entry("accepted", ("Kätzchen",), 0.5), "b": Entry()})
    lines = [
        '{"photo": "ä", "verdict": "accepted", "tags": ["Kätzchen"], "threshold": 0.5}',
        '{"photo": "b", "verdict": "open", "tags": null, "threshold": null}',
    ]
    assert (tmp_path / "photos.jsonl").read_bytes().decode() == "".join(f"{line}\n" for line in lines)


def test_tags_are_those_that_a_person_settled() -> None:
    photos = tuple(Photo(name, Path(f"{name}.jpg"), (1,)) for name in "abcdef")
    entries = {
        "a": Entry("accepted", ("dog", "cat", "zebra")),  # which is no class
        "b": Entry("rejected", ()),
        "c": Entry("open", ("cat",)),  # not settled yet
        "d": Entry("accepted"),  # nothing was said about tags
        "stranger": Entry("accepted", ("cat",)),
    }
    found = with_reviewed_tags(PhotoSet(("cat", "dog"), {"train": photos[:2], "val": photos[2:]}), entries)
    assert [[photo.tags for photo in found.lists[name]] for name in ("train", "val")] == [
        [(0, 1), ()], [(1,), (1,), (1,), (1,)],
    ]  # fmt: skip


def test_a_mark_differs_with_the_drawn_mask_and_with_a_rejection(tmp_path: Path) -> None:
    for name, value in (("b", 1), ("a", 2)):
        save_mask(tmp_path / f"{name}.png", np.full((2, 3), value, np.uint8))
    (tmp_path / "notes.txt").touch()
    marks = review_marks(tmp_path)
    assert list(marks) == ["a", "b"]
    assert marks["a"] == hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()[:16]
    assert marks["a"] != marks["b"]
    write_entries(tmp_path, {"a": Entry("accepted", ("cat",)), "b": Entry("rejected"), "_": Entry("rejected")})
    assert rejected(tmp_path) == {"b", "_"}
    expected = {"_": " rejected", "a": marks["a"], "b": f"{marks['b']} rejected"}
    assert list(review_marks(tmp_path).items()) == list(expected.items())
    assert review_marks(tmp_path / "none") == {}


def test_what_a_person_drew_overrides_pixel_by_pixel(tmp_path: Path) -> None:
    photo, mask = Photo("p", tmp_path / "p.jpg", ()), np.array([[0, 1, 2, 2]], np.uint8)
    assert reviewed_pixels(tmp_path, photo) is None
    assert with_review(tmp_path, photo, mask, 2) is mask
    save_mask(tmp_path / "p.png", np.array([[2, 0, 255, 1]], np.uint8))
    known = reviewed_pixels(tmp_path, photo)
    assert known is not None
    assert known.tolist() == [[True, True, False, True]]
    assert with_review(tmp_path, photo, mask, 2).tolist() == [[2, 0, 2, 1]]
    assert mask.tolist() == [[0, 1, 2, 2]]
    with pytest.raises(ValueError, match=r"p\.png holds the value 2, but there are 1 classes; give 0 .*, 1 to 1, and"):
        with_review(tmp_path, photo, mask, 1)
    with pytest.raises(ValueError, match=r"p\.png is 4 x 1 px, but the photo is 4 x 2; draw it on the photo"):
        with_review(tmp_path, photo, np.zeros((2, 4), np.uint8), 2)


def test_reviewed_pixels_override_the_pseudo_mask(run: Run) -> None:
    photo = next(photo for photo in run.photos.photos() if photo.id == "p1")
    unseen = run.pseudo_mask(run.photos.lists["train"][0])
    before, other = load_mask(run.pseudo_mask(photo)), load_mask(unseen)
    known = np.full(before.shape, 255, np.uint8)
    known[:10], known[10:20] = 0, 3
    save_mask(run.review / "p1.png", known)
    pipeline.masks(again(run, overwrite=False))
    after = load_mask(run.pseudo_mask(photo))
    assert (after[:10] == 0).all()
    assert (after[10:20] == 3).all()
    np.testing.assert_array_equal(after[20:], before[20:])
    np.testing.assert_array_equal(load_mask(unseen), other)
    np.testing.assert_array_equal(load_mask(run.mask(photo)), after)  # the result, until there is a segmenter


def test_reviewed_pixels_override_the_segmenter_too(run: Run) -> None:
    pipeline.masks(again(run))
    pipeline.segment(again(run))
    photo = run.photos.lists["val"][0]
    before = load_mask(run.mask(photo))
    known = np.full(before.shape, 255, np.uint8)
    known[:10], known[10:20] = 0, 3
    save_mask(run.review / f"{photo.id}.png", known)
    pipeline.masks(again(run))
    pipeline.segment(again(run))
    after = load_mask(run.mask(photo))
    assert (after[:10] == 0).all()
    assert (after[10:20] == 3).all()


def test_reviewed_pixels_weigh_more_in_the_segmenters_loss(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    fit = pipeline.segment.__globals__["fit"]
    monkeypatch.setitem(
        pipeline.segment.__globals__, "fit", lambda *what, **more: seen.append(what) or fit(*what, **more)
    )
    known = np.full(load_mask(run.pseudo_mask(run.photos.lists["train"][1])).shape, 255, np.uint8)
    known[:30] = 0
    save_mask(run.review / "p1.png", known)
    run = again(run)
    pipeline.masks(run)
    pipeline.segment(run)
    dataset = seen[0][1]
    heavy = [max(dataset[epoch, index]["weights"].max() for epoch in range(4)) for index in range(len(dataset))]
    assert heavy == [1, run.config.segment.reviewed_weight, 1, 1]


def test_a_review_is_learned_from_unasked(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write_entries(run.review, {"p1": Entry("rejected"), "p2": Entry("accepted", ())})
    pipeline.segment(again(run, overwrite=False))
    assert "1 tag changed, 1 mask reviewed: the segmenter goes on from its weights" in caplog.text


def test_other_changes_are_asked_about_beside_a_review(run: Run) -> None:
    """A tag that changed in the tags file, and another setting."""
    write_entries(run.review, {"p1": Entry("rejected")})
    other = again(run, overwrite=False)
    with pytest.raises(ValueError, match="--overwrite"):
        pipeline.segment(Run(replace(other.config, segment=replace(other.config.segment, jitter=0.1))))
    table = Path(run.config.data.root) / "labels.csv"
    table.write_text(table.read_text().replace('p2.jpg,"sofa;cat"', 'p2.jpg,"sofa"'))
    with pytest.raises(ValueError, match="1 tag changed, 1 mask reviewed"):
        pipeline.segment(again(run, overwrite=False))


def test_no_training_is_thrown_away_for_a_review(run: Run) -> None:
    """A segmenter that was never finished has no weights to go on from."""
    (run.stage_folder("segment") / "manifest.json").unlink()
    write_entries(run.review, {"p1": Entry("rejected")})
    with pytest.raises(ValueError, match="1 mask reviewed"):
        pipeline.segment(again(run, overwrite=False))


def test_what_a_review_has_brought_is_said(run: Run) -> None:
    """On reviewed pixels, held out and learned from, and on the tags; counted once more by hand."""
    before = {photo.id: load_mask(run.prediction(photo)) for photo in run.photos.photos()}
    for name in ("p1", "p4"):
        known = np.full(before[name].shape, 255, np.uint8)
        known[:20] = 0
        save_mask(run.review / f"{name}.png", known)
    run = again(run, overwrite=False)
    for stage in (pipeline.masks, pipeline.segment):
        stage(run)
    gained = {gain.what: gain for gain in gains(run)}
    assert set(gained) == {
        "segmenter's mIoU on reviewed pixels of photos held out", "segmenter's mIoU on reviewed pixels learned from",
        "segmenter's tag AP on photos held out", "segmenter's tag AUROC on photos held out",
    }  # fmt: skip
    for what, name in zip(gained, ("p4", "p1"), strict=False):
        photo = next(photo for photo in run.photos.photos() if photo.id == name)
        both = (before[name][:20], load_mask(run.prediction(photo))[:20])
        for value, mask in zip((gained[what].before, gained[what].after), both, strict=True):
            assert value == pytest.approx((mask == 0).mean() / len({0, *np.unique(mask).tolist()}))
    result = pipeline.evaluate(run)
    assert result.gained == tuple(map(str, gained.values()))
    assert result.lists["val"].segment_tags is not None


def test_nothing_is_said_of_a_first_round(run: Run) -> None:
    assert gains(run) == ()


def test_rejected_photos_are_not_learned_from(run: Run) -> None:
    write_entries(run.review, {"p1": Entry("rejected"), "p2": Entry("accepted")})
    _, photos = training_masks(run)
    assert [photo.id for photo in photos] == ["p0", "p2", "p3"]


def test_corrected_tags_are_the_photos_tags(run: Run) -> None:
    given = {photo.id: photo.tags for photo in run.photos.photos()}
    write_entries(run.review, {"p1": Entry("accepted", ("sofa", "cat", "lamp")), "p2": Entry("open", ())})
    tags = {photo.id: photo.tags for photo in Run.open(run.folder).photos.photos()}
    assert tags["p1"] == (0, 2)
    assert {name for name in given if given[name] != tags[name]} == {"p1"}


@pytest.mark.parametrize(
    ("mask", "message"),
    [(np.zeros((3, 4), np.uint8), r"p1\.png is 4 x 3 px, but the photo is 40 x 64"),
     (np.full((64, 40), 4, np.uint8), "holds the value 4, but there are 3 classes")],
)  # fmt: skip
def test_a_mask_that_does_not_fit_is_said(run: Run, mask: np.ndarray, message: str) -> None:
    save_mask(run.review / "p1.png", mask)
    with pytest.raises(ValueError, match=message):
        pipeline.masks(again(run))


def test_a_line_has_the_agreed_keys(tmp_path: Path) -> None:
    write_entries(tmp_path, {"a": Entry("accepted", ("cat",))})
    assert json.loads((tmp_path / "photos.jsonl").read_text()) == {
        "photo": "a", "verdict": "accepted", "tags": ["cat"], "threshold": None
    }  # fmt: skip
