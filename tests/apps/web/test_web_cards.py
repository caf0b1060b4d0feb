import itertools
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cti.apps.web.cards import PREVIEW_SIDE, Card, Desk
from cti.visualize import display_palette
from tiny import CLASSES


@pytest.fixture
def card(desk: Desk) -> Card:
    return desk.card(Image.new("RGB", (40, 24), (200, 0, 0)), "photo.jpg")


def test_predicted_tags_come_first_and_choices_need_no_network(card: Card, network: Any) -> None:
    assert (card.tags, card.threshold) == (("disc",), 0.25)
    other = card.choose(["star", "ring"], 0.9)
    assert (other.tags, other.threshold) == (("ring", "star"), 0.9)
    assert set(np.unique(other.prediction.mask)) == {0, 2, 3}
    assert other.choose(None, None) == card
    assert len(network.runs) == 1
    assert card.tags == ("disc",)


def test_a_higher_threshold_leaves_fewer_pixels(card: Card) -> None:
    pixels = [int((card.choose(["disc"], threshold).prediction.mask > 0).sum()) for threshold in (0, 0.3, 0.6, 1)]
    assert pixels == sorted(pixels, reverse=True)
    assert len(set(pixels)) == 4
    assert pixels[-1] == 0


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), "free ", [0.5]])
def test_thresholds_that_are_none(card: Card, threshold: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        card.choose(["disc"], threshold)


def test_unknown_tags_are_refused(card: Card) -> None:
    with pytest.raises(ValueError, match="Unknown tag '<script>'"):
        card.choose(["<script>"], None)


@pytest.mark.parametrize("threshold", [0.0, 0.4, "free"])
@pytest.mark.parametrize("tags", [tags for n in range(4) for tags in itertools.combinations(CLASSES, n)])
def test_the_mask_in_full_size_is_the_plain_prediction_of_that_size(
    card: Card, network: Any, tags: tuple[str, ...], threshold: Any
) -> None:
    analysis = network.analyse(Image.new("RGB", (40, 24), (200, 0, 0)))
    assert np.array_equal(card.choose(tags, threshold).full_mask(), analysis.predict(tags, threshold).mask)


def test_large_photos_are_shown_to_the_network_small_and_labelled_large(desk: Desk, network: Any) -> None:
    card = desk.card(Image.new("RGB", (2048, 1024)), "large.jpg", ["disc"])
    assert network.runs == [(PREVIEW_SIDE, PREVIEW_SIDE // 2)]
    assert card.prediction.mask.shape == (512, 1024)
    mask = card.full_mask()
    assert mask.shape == (1024, 2048)
    assert (mask == 1).mean() == pytest.approx((card.prediction.mask == 1).mean(), abs=0.01)


def test_opacity_and_colours(card: Card) -> None:
    card = card.choose(["disc"], 0.5)
    painted, plain = np.asarray(card.overlay(1)), np.asarray(card.prediction.image)
    inside = card.prediction.mask == 1
    assert (painted[inside] == display_palette()[1]).all()
    assert (painted[~inside] == plain[~inside]).all()
    assert (np.asarray(card.mask_picture())[~inside] == 0).all()


def test_one_map_per_tag_and_the_background(card: Card, network: Any) -> None:
    assert [name for _, name in card.choose(["disc", "star"], None).cam_pictures()] == ["disc", "star", "background"]
    bare = Desk(type(network)(background=False)).card(Image.new("RGB", (40, 24)), "x", ["ring"])
    assert [name for _, name in bare.cam_pictures()] == ["ring"]
    with pytest.raises(ValueError, match="no background of its own"):
        bare.choose(["ring"], "free")


def test_the_table_names_every_class_best_first_and_escapes_names(card: Card, network: Any) -> None:
    table = card.table()
    places = [table.index(f"{name}</th>") for name in ("disc", "ring", "star")]  # scores 0.78, 0.6, 0.1
    assert places == sorted(places)
    assert table.count("yes") == 1
    hostile = type(network)()
    hostile.classes = ("<b>", "ring", "star")
    analysis = hostile.analyse(Image.new("RGB", (8, 8)))
    object.__setattr__(analysis, "classes", hostile.classes)
    assert "<b>" not in Card("x", (8, 8), analysis, ("<b>",), 0.5).table()


def test_the_network_sees_one_photo_at_a_time(desk: Desk, network: Any) -> None:
    network.free.clear()
    cards: dict[int, Card] = {}

    def ask(red: int) -> None:
        cards[red] = desk.card(Image.new("RGB", (40, 24), (red, 0, 0)), str(red))

    threads = [Thread(target=ask, args=(red,)) for red in range(0, 250, 50)]
    for thread in threads:
        thread.start()
    network.free.set()
    for thread in threads:
        thread.join(20)
    assert network.most_inside == 1
    assert {red: round(float(card.analysis.scores[0]) * 255) for red, card in cards.items()} == {
        red: red for red in range(0, 250, 50)
    }
