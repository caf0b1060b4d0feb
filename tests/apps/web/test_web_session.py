from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from cti.apps.web.cards import Desk
from cti.apps.web.downloads import write_downloads
from cti.apps.web.guards import Limits
from cti.apps.web.review import Review
from cti.apps.web.session import Session, add_photos, judge, make_downloads, open_reviewed
from cti.classes import voc_palette
from cti.data.images import load_mask
from cti.files import read_json
from tiny import CLASSES


def red_of(session: Session) -> int:
    assert session.card is not None
    return round(float(session.card.analysis.scores[0]) * 255)


def test_photos_come_in_one_after_the_other_and_bad_ones_stop_nothing(
    desk: Desk, limits: Limits, draw: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "notes.jpg").write_text("no photo")
    session = Session()
    files = [draw("one/a.png"), tmp_path / "notes.jpg", draw("two/a.png", red=100)]
    said = list(add_photos(session, desk, files, limits))
    assert [message.split(".")[0] for message in said] == [f"{n} of 3 files done" for n in (1, 2, 3)]
    assert "notes.jpg is not a readable image" in said[-1]
    assert list(session.cards) == ["a.png", "a (2).png"]
    assert session.card is session.cards["a (2).png"]
    assert red_of(session) == 100


def test_a_visit_keeps_so_many_photos_and_no_more(desk: Desk, limits: Limits, draw: Callable[..., Path]) -> None:
    session = Session()
    *_, last = add_photos(session, desk, [draw(f"{n}.png") for n in range(5)], limits)
    assert len(session.cards) == limits.max_photos == 3
    assert "3.png was left out: this page keeps 3 photos" in last


def test_edits_belong_to_the_photo_that_is_shown(desk: Desk, limits: Limits, draw: Callable[..., Path]) -> None:
    session = Session()
    list(add_photos(session, desk, [draw("a.png"), draw("b.png")], limits))
    session.show("a.png")
    edited = session.edit(["ring"], 0.7)
    assert edited is session.card
    session.show("b.png")
    assert session.card is not None
    assert session.card.tags == ("disc",)
    restored = session.show("a.png")
    assert restored is not None
    assert (restored.tags, restored.threshold) == (("ring",), 0.7)
    assert Session().edit(["ring"], 0.7) is None
    assert session.show("../../etc/passwd") is None


def test_sessions_share_nothing(desk: Desk, limits: Limits, draw: Callable[..., Path]) -> None:
    first, second = Session(), Session()
    list(add_photos(first, desk, [draw("one/a.png", red=10)], limits))
    list(add_photos(second, desk, [draw("two/a.png", red=20)], limits))
    first.edit(["star"], 0.1)
    assert (red_of(first), red_of(second)) == (10, 20)
    assert second.card is not None
    assert second.card.tags == ("disc",)


def test_reviewing_opens_judges_and_goes_on(desk: Desk, limits: Limits, review: Review) -> None:
    session = Session()
    open_reviewed(session, desk, review, "a", limits)
    session.edit(["ring"], 0.4)
    assert judge(session, review, "a", "accepted") == "b"
    open_reviewed(session, desk, review, "b", limits)
    assert judge(session, review, "b", "rejected") == "deep__c"
    open_reviewed(session, desk, review, "deep__c", limits)
    assert judge(session, review, "deep__c", "accepted") is None
    again = open_reviewed(Session(), desk, review, "a", limits)
    assert (again.tags, again.threshold) == (("ring",), 0.4)


def test_only_the_photo_in_sight_is_judged(
    desk: Desk, limits: Limits, review: Review, draw: Callable[..., Path]
) -> None:
    session = Session()
    with pytest.raises(ValueError, match="No mask is under review"):
        judge(session, review, "a", "accepted")
    open_reviewed(session, desk, review, "a", limits)
    with pytest.raises(ValueError, match="No mask is under review"):
        judge(session, review, "b", "accepted")
    review.photos["b"].write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"b\.jpg is not a readable image"):
        open_reviewed(session, desk, review, "b", limits)
    with pytest.raises(ValueError, match="No mask is under review"):
        judge(session, review, "a", "accepted")
    open_reviewed(session, desk, review, "a", limits)
    list(add_photos(session, desk, [draw("own.png")], limits))  # now a photo of the visitor's own is shown
    with pytest.raises(ValueError, match="No mask is under review"):
        judge(session, review, "a", "accepted")
    assert review.counts()["open"] == 3


def test_one_photo_gives_an_indexed_png_and_coco_json(
    desk: Desk, limits: Limits, draw: Callable[..., Path], tmp_path: Path
) -> None:
    session = Session()
    list(add_photos(session, desk, [draw("one/cat.png")], limits))
    card = session.edit(["disc", "star"], 0.4)
    assert card is not None
    png, coco = make_downloads(session, desk, None, tmp_path)
    assert png.name == "cat.png"
    with Image.open(png) as image:
        assert (image.mode, image.size) == ("P", (40, 24))
        assert image.getpalette()[:768] == voc_palette().ravel().tolist()
    assert np.array_equal(load_mask(png), card.full_mask())
    assert_coco_gives_masks_back(coco, {"cat.png": card.full_mask()})


def test_several_photos_come_in_one_archive_and_old_files_go(
    desk: Desk, limits: Limits, draw: Callable[..., Path], tmp_path: Path
) -> None:
    session = Session()
    list(add_photos(session, desk, [draw("a.png"), draw("a.jpg", (30, 50))], limits))
    first = make_downloads(session, desk, None, tmp_path)
    archive, coco = make_downloads(session, desk, None, tmp_path)
    assert not first[0].exists()
    with ZipFile(archive) as opened:
        assert opened.namelist() == ["a.png", "a (2).png"]
        opened.extractall(tmp_path / "taken")
    masks = {name: card.full_mask() for name, card in session.cards.items()}
    assert np.array_equal(load_mask(tmp_path / "taken" / "a (2).png"), masks["a.jpg"])
    assert_coco_gives_masks_back(coco, masks)
    session.drop_downloads()
    assert not archive.exists()


def test_during_a_review_the_accepted_masks_are_taken_away(
    desk: Desk, limits: Limits, review: Review, tmp_path: Path
) -> None:
    session = Session()
    open_reviewed(session, desk, review, "deep__c", limits)
    with pytest.raises(ValueError, match="No mask of the review list is accepted yet"):
        make_downloads(session, desk, review, tmp_path)
    judge(session, review, "deep__c", "accepted")
    assert session.card is not None
    mask = session.card.full_mask()
    png, coco = make_downloads(session, desk, review, tmp_path)
    assert png.name == "c.png"
    assert_coco_gives_masks_back(coco, {"deep/c.png": mask})


def test_without_photos_there_is_nothing_to_take_away(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="add a photo first"):
        make_downloads(Session(), desk, None, tmp_path)


@pytest.mark.parametrize("name", ["../../evil.jpg", "/etc/evil.jpg", "..", "a/../../evil", "evil\n.png"])
def test_hostile_names_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "downloads"
    folder.mkdir()
    files = write_downloads([(name, np.ones((4, 4), np.uint8))], CLASSES, folder)
    assert all(file.resolve().parent == folder for file in files)
    assert sorted(tmp_path.rglob("*")) == sorted([folder, *files])


def assert_coco_gives_masks_back(path: Path, masks: dict[str, Any]) -> None:
    from pycocotools.coco import COCO

    assert [category["name"] for category in read_json(path)["categories"]] == list(CLASSES)
    coco = COCO(path)
    assert {image["file_name"] for image in coco.imgs.values()} == set(masks)
    for number, image in coco.imgs.items():
        drawn = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in coco.imgToAnns[number]:
            drawn[coco.annToMask(annotation) == 1] = annotation["category_id"]
        assert np.array_equal(drawn, masks[image["file_name"]])
