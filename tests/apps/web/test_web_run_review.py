"""The page starts where the run ended: its photos, tags, masks and doubts; what is said lies in the run."""

import json
from pathlib import Path

import numpy as np
import pytest

from cti import pipeline
from cti.apps.web.cards import Desk
from cti.apps.web.guards import Limits
from cti.apps.web.review import Listing
from cti.apps.web.run_review import RunReview
from cti.apps.web.session import Session, judge, nothing_here, open_reviewed
from cti.data.images import load_mask
from cti.evaluate.verdict import read_verdict
from cti.predict.predictor import Predictor
from cti.run import Run
from tiny import make_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_run(tmp_path_factory.mktemp("web-run"))
    pipeline.evaluate(Run.open(made))
    return made


@pytest.fixture
def run(folder: Path) -> Run:
    for file in (folder / "review").glob("*"):
        file.unlink()
    return Run.open(folder)


@pytest.fixture(scope="module")
def desk(folder: Path) -> Desk:
    return Desk(Predictor.from_pretrained(folder))


def test_photos_come_by_what_they_teach_by_doubt_or_by_name(run: Run) -> None:
    verdict = read_verdict(run.folder)
    assert verdict is not None
    review, doubts = RunReview(run), [doubt.photo for doubt in verdict.doubts]
    taught = {photo.id for photo in run.photos.lists["train"]}
    assert set(verdict.teaching) == taught
    assert review.names() == [*verdict.teaching, *(name for name in doubts if name not in taught)]
    assert review.names(listing=Listing(order="doubt")) == doubts
    assert review.names(listing=Listing("sofa", "doubt")) == [d.photo for d in verdict.doubts if "sofa" in d.tags]
    assert review.names(listing=Listing(order="name")) == [f"p{i}" for i in range(6)]
    assert review.step(doubts[0], listing=Listing(order="doubt")) == doubts[1]
    assert review.around(None, length=2, listing=Listing(order="doubt")) == doubts[:2]


def test_a_doubtful_photo_has_its_own_tags_and_the_result(run: Run, desk: Desk) -> None:
    verdict = read_verdict(run.folder)
    assert verdict is not None
    review = RunReview(run)
    first = verdict.doubts[0]
    assert first.reasons[0].text in review.remarks(first.photo)
    card = open_reviewed(Session(), desk, review, first.photo, Limits())
    assert (card.tags, card.layer) == (first.tags, "mask")
    photo = next(photo for photo in run.photos.photos() if photo.id == first.photo)
    np.testing.assert_array_equal(card.full_mask(), load_mask(run.mask(photo)))


def test_the_switch_shows_each_of_the_masks(run: Run, desk: Desk) -> None:
    session, review = Session(), RunReview(run)
    card = open_reviewed(session, desk, review, "p1", Limits())
    assert list(card.layers) == ["mask", "pseudo-mask", "segmentation", "seed"]
    segmentation = session.switch("segmentation")
    assert segmentation is not None
    photo = next(photo for photo in run.photos.photos() if photo.id == "p1")
    np.testing.assert_array_equal(segmentation.mask, load_mask(run.prediction(photo)))
    network = session.switch("")
    assert network is not None
    np.testing.assert_array_equal(network.mask, network.prediction.mask)
    edited = session.edit(["sofa"], None)
    assert edited is not None
    assert (edited.layer, edited.tags) == ("", ("sofa",))


def test_what_is_said_lies_in_the_run(run: Run, desk: Desk) -> None:
    session, review = Session(), RunReview(run)
    open_reviewed(session, desk, review, "p0", Limits())
    session.switch("segmentation")
    judge(session, review, "p0", "accepted")
    open_reviewed(session, desk, review, "p1", Limits())
    judge(session, review, "p1", "rejected")
    open_reviewed(session, desk, review, "p2", Limits())
    nothing_here(session, review, "p2")
    lines = [json.loads(line) for line in (run.review / "photos.jsonl").read_text().splitlines()]
    assert [(line["photo"], line["verdict"], line["tags"]) for line in lines] == [
        ("p0", "accepted", ["cat", "dog"]), ("p1", "rejected", ["dog"]), ("p2", "accepted", [])
    ]  # fmt: skip
    photo = next(photo for photo in run.photos.photos() if photo.id == "p0")
    np.testing.assert_array_equal(load_mask(run.review / "p0.png"), load_mask(run.prediction(photo)))
    assert not (run.review / "p1.png").exists()
    assert not load_mask(run.review / "p2.png").any()
    assert load_mask(run.review / "p2.png").shape == (48, 48)
    later = RunReview(Run.open(run.folder))  # after a restart
    assert later.counts() == {"open": 3, "accepted": 2, "rejected": 1}
    card = open_reviewed(Session(), desk, later, "p0", Limits())
    assert card.layer == "corrected"
    np.testing.assert_array_equal(card.full_mask(), load_mask(run.review / "p0.png"))


def test_the_next_photo_is_computed_ahead(run: Run) -> None:
    class Counted:
        def __init__(self) -> None:
            self.predictor, self.runs = Predictor.from_pretrained(run.folder), 0
            self.classes = self.predictor.classes

        def analyse(self, image: object) -> object:
            self.runs += 1
            return self.predictor.analyse(image)

    network, review, session = Counted(), RunReview(run), Session()
    desk = Desk(network)
    first = review.step(None, "open")
    open_reviewed(session, desk, review, first, Limits())
    following = judge(session, review, first, "accepted")
    ahead = desk._next
    assert ahead is not None
    assert ahead[0] == following
    analysis = ahead[1].result()
    assert network.runs == 2
    assert open_reviewed(session, desk, review, following, Limits()).analysis is analysis


def test_a_photo_can_be_named_to_start_with(run: Run) -> None:
    assert RunReview(run, "p3").first == "p3"
    with pytest.raises(ValueError, match="'p9' is not on the review list"):
        RunReview(run, "p9")
