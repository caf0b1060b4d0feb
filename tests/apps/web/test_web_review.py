import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cti.apps.web.cards import Card, Desk
from cti.apps.web.guards import Limits
from cti.apps.web.review import REVIEW, Review
from cti.data.images import load_mask


def card_of(review: Review, desk: Desk, name: str) -> Card:
    return desk.card(review.read(name, Limits()), name, ["ring"])


def test_verdicts_and_masks_outlive_a_restart(review: Review, desk: Desk) -> None:
    accepted = card_of(review, desk, "deep__c").choose(["ring", "star"], 0.4)
    review.decide(accepted, "accepted")
    review.decide(card_of(review, desk, "a"), "rejected")
    again = Review(review.folder, review.out)
    assert again.counts() == {"open": 1, "accepted": 1, "rejected": 1}
    assert (again["deep__c"].tags, again["deep__c"].threshold) == (("ring", "star"), 0.4)
    mask = load_mask(review.out / "deep__c.png")
    assert mask.shape == (24, 40)
    assert np.array_equal(mask, accepted.full_mask())
    assert {1, 2, 3} & set(np.unique(mask).tolist()) == {2, 3}
    assert [name for name, _ in again.accepted()] == ["deep/c.png"]
    assert not (review.out / "a.png").exists()


def test_nothing_is_written_before_the_first_verdict_and_never_among_the_photos(review: Review, desk: Desk) -> None:
    before = sorted(review.folder.rglob("*"))
    assert not review.out.exists()
    review.decide(card_of(review, desk, "a"), "accepted")
    assert sorted(review.folder.rglob("*")) == before


def test_a_mask_that_is_rejected_later_is_taken_away(review: Review, desk: Desk) -> None:
    card = card_of(review, desk, "a")
    review.decide(card, "accepted")
    assert (review.out / "a.png").is_file()
    review.decide(card, "rejected")
    assert not (review.out / "a.png").exists()
    assert review["a"].verdict == "rejected"


def test_next_and_previous_go_round_among_those_with_a_verdict(review: Review, desk: Desk) -> None:
    assert review.step(None) == "a"
    assert review.step("a") == "b"
    assert review.step("deep__c") == "a"
    assert review.step("a", by=-1) == "deep__c"
    assert review.step(None, by=-1) == "deep__c"
    review.decide(card_of(review, desk, "b"), "accepted")
    assert review.step("a", "open") == "deep__c"
    assert review.step("b", "accepted") == "b"
    assert review.step("a", "rejected") is None


def test_the_list_is_a_window_around_the_photo(tmp_path: Path, draw: Callable[..., Path]) -> None:
    for number in range(30):
        draw(f"photos/{number:02d}.png", (4, 4))
    review = Review(tmp_path / "photos", tmp_path / "out")
    assert review.around("00", length=5) == ["00", "01", "02", "03", "04"]
    assert review.around("15", length=5) == ["13", "14", "15", "16", "17"]
    assert review.around("29", length=5) == ["25", "26", "27", "28", "29"]
    assert review.around(None, length=2) == ["00", "01"]
    assert review.around("07", "accepted", length=5) == ["07"]
    assert review.around("strange", "accepted") == []


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "..", "", "a.png", "a\0", "deep/c", "..%2fsecret", "A" * 5000, None]
)
def test_only_photos_of_the_list_are_read(review: Review, desk: Desk, name: str, draw: Callable[..., Path]) -> None:
    draw("secret.png")
    with pytest.raises(ValueError, match="is not on the review list"):
        review.read(name, Limits())
    stranger = Card(name, (24, 40), card_of(review, desk, "a").analysis, (), 0.5)
    with pytest.raises(ValueError, match="is not on the review list"):
        review.decide(stranger, "accepted")
    assert not review.out.exists()


def test_a_link_put_in_place_of_a_photo_is_not_followed(review: Review, draw: Callable[..., Path]) -> None:
    secret = draw("secret.png")
    review.photos["a"].unlink()
    review.photos["a"].symlink_to(secret)
    with pytest.raises(ValueError, match="lies outside the folder under review"):
        review.read("a", Limits())


def test_a_damaged_photo_is_said_by_its_name_in_the_folder(review: Review) -> None:
    review.photos["deep__c"].write_bytes(b"no photo")
    with pytest.raises(ValueError, match=r"^deep/c\.png is not a readable image"):
        review.read("deep__c", Limits())


def test_a_failing_disk_changes_no_verdict(review: Review, desk: Desk) -> None:
    review.out.write_text("a file where the folder should be")
    with pytest.raises(OSError, match=r"exists|directory"):
        review.decide(card_of(review, desk, "a"), "accepted")
    assert review["a"].verdict == "open"


def test_folders_that_do_not_fit(review: Review, tmp_path: Path, desk: Desk) -> None:
    with pytest.raises(ValueError, match="masks would be taken for photos"):
        Review(review.folder, review.folder / "verdicts")
    review.decide(card_of(review, desk, "a"), "accepted")
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (9, 9)).save(other / "a.png")
    with pytest.raises(ValueError, match=r"is the review of .*photos, not of .*other"):
        Review(other, review.out)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ('{"photos": {}}', "is not a review list"),
        ('{"folder": "FOLDER", "photos": {"a": {"verdict": "maybe"}}}', "unknown verdict 'maybe'"),
        ('{"folder": "FOLDER", "photos": {"a": {"colour": 1}}}', "is not a review list"),
    ],
)
def test_a_list_that_is_damaged_is_refused(review: Review, content: str, message: str) -> None:
    review.out.mkdir()
    (review.out / REVIEW).write_text(content.replace("FOLDER", str(review.folder.resolve())))
    with pytest.raises(ValueError, match=message):
        Review(review.folder, review.out)


def test_the_file_says_what_was_said(review: Review, desk: Desk) -> None:
    review.decide(card_of(review, desk, "a").choose(["ring"], "free"), "rejected")
    said = json.loads((review.out / REVIEW).read_text())["photos"]
    assert said == {"a": {"verdict": "rejected", "tags": ["ring"], "threshold": "free"}}
    assert Review(review.folder, review.out)["a"].threshold == "free"
