"""What follows from an analysis for some tags and a threshold; no network is needed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cti.predict.prediction import Analysis, class_indices
from cti.visualize import legend, overlay

CLASSES = ("cat", "dog", "sofa")
PLANES = np.array(
    [[[0.5, 0.1, 0.2, 0.1]], [[0.3, 0.6, 0.2, 0.1]], [[0.1, 0.2, 0.2, 0.1]], [[0.1, 0.1, 0.4, 0.7]]], np.float32
)


def _analysis(refine: Callable[[tuple[int, ...]], NDArray[np.float32]] | None = None) -> Analysis:
    """Of a segmenter, with a probability of background, cat, dog and sofa for each of four pixels."""
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(1, 4, 3) * 20)
    return Analysis(
        image=image, source="photos/p.jpg", classes=CLASSES, scores=np.array([0.9, 0.2, 0.7], np.float32),
        predicted=(0, 2), maps=PLANES[1:], background=PLANES[0], kind="segmenter", threshold="free", refine=refine,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tags", "threshold", "mask"),
    [
        (None, None, [0, 1, 3, 3]),
        (["dog"], None, [0, 2, 0, 0]),
        (["sofa", "cat"], None, [0, 1, 3, 3]),
        ([], None, [0, 0, 0, 0]),
        (None, 0.3, [0, 1, 3, 3]),  # the first is not above 0.3
        (None, 0.25, [1, 1, 3, 3]),
        (None, 0, [1, 1, 3, 3]),
        (None, 1, [0, 0, 0, 0]),
    ],
)
def test_each_pixel_is_the_strongest_class_that_exceeds_the_background(
    tags: list[str] | None, threshold: float | None, mask: list[int]
) -> None:
    prediction = _analysis().predict(tags, threshold)
    assert prediction.mask.tolist() == [mask]
    assert prediction.threshold == ("free" if threshold is None else threshold)
    indices = (0, 2) if tags is None else tuple(sorted(CLASSES.index(tag) for tag in tags))
    assert prediction.class_indices == indices
    np.testing.assert_array_equal(prediction.cams, PLANES[1:][list(indices)])


def test_classes_may_be_decided_among_those_that_are_asked_for() -> None:
    asked: list[tuple[int, ...]] = []

    def refine(indices: tuple[int, ...]) -> NDArray[np.float32]:
        asked.append(indices)
        chosen = PLANES[[0, *(index + 1 for index in indices)]]
        return chosen / chosen.sum(axis=0)

    analysis = _analysis(refine)
    assert analysis.predict(["dog", "cat"]).mask.tolist() == [[0, 1, 0, 0]]
    few = analysis.restricted((0, 1))
    assert few.refine is None
    assert few.background is not None
    np.testing.assert_allclose(few.background, refine((0, 1))[0])
    np.testing.assert_allclose(few.maps, [*refine((0, 1))[1:], np.zeros((1, 4))])
    assert set(asked) == {(0, 1)}
    plain = _analysis()
    assert plain.restricted((0,)) is plain


def test_names_are_indices_each_once_in_their_order() -> None:
    assert class_indices(("sofa", "cat", "sofa"), CLASSES) == (0, 2)
    with pytest.raises(ValueError, match="Unknown tag 'cow', 'hen'; this network knows cat, dog, sofa"):
        class_indices(("cow", "cat", "hen"), CLASSES)


def test_what_is_counted_and_said_of_the_mask() -> None:
    prediction = _analysis().predict()
    assert prediction.pixels() == {"background": 1, "cat": 1, "sofa": 2}
    assert prediction.shares() == {"background": 0.25, "cat": 0.25, "sofa": 0.5}
    assert (prediction.tags, prediction.size, prediction.source) == (("cat", "sofa"), (1, 4), "photos/p.jpg")
    assert prediction.scores == pytest.approx({"cat": 0.9, "dog": 0.2, "sofa": 0.7})
    assert prediction.certainty == {}
    sure = replace(prediction.analysis, certainty=np.array([0.5, 0.25, 1], np.float32)).predict()
    assert sure.certainty == {"cat": 0.5, "dog": 0.25, "sofa": 1.0}
    assert repr(prediction) == "Prediction(p.jpg, 4 x 1: background 25%, cat 25%, sofa 50%)"
    assert repr(replace(prediction.analysis, source="").predict([])).startswith("Prediction(photo from memory, 4 x 1")
    assert prediction.confidence == pytest.approx((0.5 + 0.6 + 0.4 + 0.7) / 4)
    assert prediction.with_tags(["dog"]).confidence == pytest.approx((0.5 + 0.2 + 0.2 + 0.1) / 4)
    assert prediction.with_threshold(0.25).threshold == 0.25
    assert prediction.with_threshold(0.25).with_tags(None).threshold == 0.25
    assert prediction.with_tags(["dog"]).with_threshold(None).tags == ("dog",)


def test_the_picture_is_the_overlay_above_its_legend() -> None:
    prediction = _analysis().predict()
    above, below = overlay(prediction.image, prediction.mask, alpha=0.5), legend(CLASSES, [1, 3], 160)
    page = prediction.picture()
    assert page.size == (max(4, below.width), 1 + below.height)  # the legend of a narrow photo can be read as well
    np.testing.assert_array_equal(np.asarray(page)[:1, :4], np.asarray(above))
    assert (np.asarray(page)[:1, 4:] == 255).all()
    np.testing.assert_array_equal(np.asarray(page)[1:, : below.width], np.asarray(below))
    assert not np.array_equal(np.asarray(prediction.overlay(0.9)), np.asarray(above))
    assert prediction.with_tags([]).picture().size == (4, 1)


def test_files_go_by_the_photos_name_or_another(tmp_path: Path) -> None:
    analysis = replace(_analysis(), background=None, threshold=0.3)
    files = analysis.predict().save(tmp_path)
    assert {kind: path.name for kind, path in files.items()} == {
        "mask": "p.png", "overlay": "p_overlay.png", "scores": "p.json", "cams": "p.npz",
    }  # fmt: skip
    with np.load(files["cams"], allow_pickle=False) as arrays:
        assert set(arrays) == {"cams", "class_indices", "classes"}
        assert arrays["cams"].dtype == np.float16
    assert replace(analysis, source="").predict().save(tmp_path)["mask"].name == "image.png"
    assert analysis.predict().save(tmp_path, "x")["cams"].name == "x.npz"
