"""Charts, choice of photos, their scores and the class tokens, one by one."""

import numpy as np
import pytest

from cti.apps.report.charts import MAX_POINTS, Series, line_chart, thinned
from cti.apps.report.page import with_code
from cti.apps.report.panels import choose_photos, photo_score
from cti.apps.report.run_tables import duration, metric_charts
from cti.apps.report.tokens import LayerTokens, tsne_charts
from cti.data import Photo
from cti.evaluate.separation import token_similarity


def test_a_chart_has_only_the_colours_of_the_page_and_says_its_values() -> None:
    chart = line_chart("Loss <a>", [Series("a", [1, 2], [3.0, 0.5]), Series("b", [1], [np.nan], colour=1)], "step")
    assert "var(--ink)" in chart.svg
    assert "var(--s0)" in chart.svg
    assert "#fe0" not in chart.svg
    assert chart.legend == (("a", "var(--s0)", False), ("b", "var(--s1)", True))
    label = chart.svg.split('aria-label="', 1)[1].split('"', 1)[0]
    assert label == "Loss &lt;a&gt;. a: from 3 at 1 to 0.5 at 2, highest 3; b: no value"


def test_sentences_show_commands_as_code_and_nothing_else_as_html() -> None:
    assert with_code("See <b> (`cti a`), `b`; 5` more") == (
        "See &lt;b&gt; (<code>cti a</code>), <code>b</code>; 5` more"
    )


def test_long_series_become_means_of_neighbours() -> None:
    x, y = thinned(np.arange(1001.0), np.arange(1001.0) * 2)
    assert x.size <= MAX_POINTS
    assert x[0] == 1.5  # of 0, 1, 2, 3
    assert x[-1] == 1000  # the last group holds one point
    np.testing.assert_allclose(y, 2 * x)


def test_each_logged_value_has_its_chart() -> None:
    lines = [{"step": 1, "epoch": 0, "lr": 0.1, "loss": 2.0, "loss/classification": 1.9, "loss/intra": 1e-4},
             {"step": 1, "epoch": 0, "tag_map": 0.5}]  # fmt: skip
    captions = [chart.caption for chart in metric_charts(lines, "CTI")]
    assert captions == ["CTI: loss", "CTI: further losses", "CTI: learning rate",
                        "CTI: mAP of the tags, photos not trained on"]  # fmt: skip


def _photos(*tags: tuple[int, ...], first: int = 0) -> list[Photo]:
    return [Photo(f"p{first + number}", __file__, own) for number, own in enumerate(tags)]  # type: ignore[arg-type]


def test_photos_are_drawn_evenly_over_the_classes() -> None:
    common = _photos(*[(0,)] * 20)
    rare = _photos((1,), (2,), first=20)
    chosen = choose_photos({"train": common + rare}, 3, 5)
    assert sorted(photo.tags[0] for _, photo in chosen) == [0, 0, 0, 1, 2]
    assert chosen == choose_photos({"train": common + rare}, 3, 5)


def test_photos_trained_on_give_way_and_none_is_drawn_twice() -> None:
    both = _photos((0,), (1,))
    chosen = choose_photos({"train": both, "score": both, "val": _photos((0,), (1,), first=2)}, 2, 10)
    assert [name for name, _ in chosen] == ["score", "score", "val", "val"]
    assert len({photo.id for _, photo in chosen}) == 4


def test_score_of_a_photo_counts_ignored_as_background_and_leaves_unlabelled_out() -> None:
    truth = np.array([[1, 1, 0, 255]], np.uint8)
    assert photo_score(np.array([[1, 255, 0, 1]], np.uint8), truth, 3) == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_similarity_with_and_without_what_all_tokens_share() -> None:
    tokens = np.tile(np.array([[10, 1, 0], [10, -1, 0]], np.float32), (4, 1, 1))
    layer = LayerTokens(0, tokens, np.ones((4, 2), bool), ("cat", "dog"))
    np.testing.assert_allclose(layer.similarity(), [[1, -1], [-1, 1]], atol=1e-6)
    assert token_similarity(layer.tokens) == pytest.approx(99 / 101)


def test_tsne_maps_only_the_tokens_of_tagged_classes_and_measures_their_separation() -> None:
    draw = np.random.default_rng(0)
    tokens = draw.normal(0, 0.01, (8, 3, 4)).astype(np.float32)
    tokens[:, 1] += [0, 1, 0, 0]
    tokens[:, 2] += [0, 0, 1, 0]
    tags = np.tile([False, True, True], (8, 1))
    layer = LayerTokens(3, tokens, tags, ("background", "cat", "dog"), infused=True)
    (chart,) = tsne_charts([layer])
    assert chart.caption.startswith("after block 4 (infused), silhouette 1.0")
    assert "16 points of 2 classes" in chart.svg
    assert tsne_charts([LayerTokens(0, tokens[:2], tags[:2], layer.names)]) == []


@pytest.mark.parametrize(("seconds", "words"), [(4.21, "4.2 s"), (60, "1 min 00 s"), (7325, "2 h 02 min"), (None, "-")])
def test_durations(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words
