"""Photos are analysed several at a time, and what comes out is what one at a time gives."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cti import Predictor
from cti.data.images import load_mask
from cti.data.mask_records import read_records
from cti.data.readers.shapes import render_scene
from cti.predict import batches
from cti.predict.batches import in_batches
from cti.predict.label import label
from cti.segment.networks import Segmenter
from tiny import make_run

SIZES = ((40, 64), (64, 40), (40, 64), (64, 64), (40, 64), (57, 40), (64, 40))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("batches"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of four sizes, mixed."""
    folder = tmp_path_factory.mktemp("photos")
    for index, (height, width) in enumerate(SIZES):
        Image.fromarray(render_scene(7, index, 64).image[:height, :width]).save(folder / f"p{index}.png")
    return folder


def counted(predictor: Predictor) -> tuple[Predictor, list[int]]:
    """The predictor, and how many photos each call of its network saw (mirror images count as well)."""
    seen: list[int] = []
    network = predictor.analyser.network
    if isinstance(network, Segmenter):
        see = network.see
        network.see = lambda images: (seen.append(len(images)), see(images))[1]  # type: ignore[method-assign]
    else:
        network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    return predictor, seen


@pytest.mark.parametrize("use", ["cti", "segmenter"])
def test_a_list_gives_what_single_photos_give(run: Path, photos: Path, use: Any) -> None:
    predictor, seen = counted(Predictor.from_pretrained(run, use))
    paths = sorted(photos.iterdir())
    singly = [predictor(path) for path in paths]
    calls = len(seen)
    together = predictor(paths)
    assert len(seen) - calls < calls
    for path, one, other in zip(paths, singly, together, strict=True):
        assert other.source == str(path)
        assert other.tags == one.tags
        np.testing.assert_array_equal(other.mask, one.mask)
        assert other.scores == pytest.approx(one.scores, abs=1e-5)


@pytest.mark.parametrize("use", ["cti", "segmenter"])
def test_labels_are_those_of_single_photos(
    run: Path, photos: Path, tmp_path: Path, use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    label([photos], run, tmp_path / "together", use=use)
    monkeypatch.setattr(batches, "MOST_PHOTOS", 1)
    label([photos], run, tmp_path / "singly", use=use)
    together, singly = read_records(tmp_path / "together"), read_records(tmp_path / "singly")
    assert list(together) == list(singly) == sorted(path.stem for path in photos.iterdir())
    for name in together:
        np.testing.assert_array_equal(
            load_mask(tmp_path / "together" / f"{name}.png"), load_mask(tmp_path / "singly" / f"{name}.png")
        )
        assert (together[name].photo, together[name].digest) == (singly[name].photo, singly[name].digest)


def test_tags_of_a_list_stay_with_their_photos(run: Path, photos: Path) -> None:
    predictor = Predictor.from_pretrained(run, "cti")
    tags = [["cat"], ["dog"], ["sofa"], ["cat", "dog"], ["dog"], ["sofa"], ["cat"]]
    found = predictor(sorted(photos.iterdir()), tags)
    assert [list(prediction.tags) for prediction in found] == tags


def test_a_photo_that_cannot_be_read_does_not_take_its_batch_with_it(
    run: Path, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in photos.iterdir():
        (tmp_path / "new").mkdir(exist_ok=True)
        (tmp_path / "new" / path.name).write_bytes(path.read_bytes())
    cut = tmp_path / "new" / "p2.png"  # its header is whole: it is sorted into the batch of p0 and p4
    cut.write_bytes(cut.read_bytes()[:200])
    with caplog.at_level(logging.WARNING):
        result = label([tmp_path / "new"], run, tmp_path / "out")
    assert list(result.skipped) == [str(cut)]
    assert set(result.photos) == {f"p{index}" for index in range(len(SIZES)) if index != 2}


def test_photos_seen_alike_are_together_in_order() -> None:
    sizes = {"a": (40, 64), "b": (64, 40), "c": (41, 64), "d": (40, 64), "e": (64, 40)}
    found = in_batches(sizes, sizes.__getitem__, lambda size: (round(size[0] / 8), round(size[1] / 8)))
    assert [list(batch) for batch in found] == [["a", "c", "d"], ["b", "e"]]


def test_a_batch_is_bounded_in_photos_and_pixels() -> None:
    small, large = [(10, 10)] * 20, [(2000, 2000)] * 5
    by_count = [len(batch) for batch in in_batches(small, lambda size: size, lambda size: size)]
    assert by_count == [batches.MOST_PHOTOS] * 2 + [20 - 2 * batches.MOST_PHOTOS]
    assert [len(batch) for batch in in_batches(large, lambda size: size, lambda size: size)] == [2, 2, 1]


def test_photos_are_not_all_looked_at_first() -> None:
    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    assert list(next(in_batches(endless(), lambda _: (8, 8), lambda size: size))) == list(range(batches.MOST_PHOTOS))


def test_photos_are_sorted_a_window_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of so many photos, or as soon as they hold so many bytes in memory."""
    monkeypatch.setattr(batches, "_WINDOW", 4)
    sizes = [(8, 8), (9, 9)] * 5
    found = [list(batch) for batch in in_batches(range(10), sizes.__getitem__, lambda size: size)]
    assert found == [[0, 2], [1, 3], [4, 6], [5, 7], [8], [9]]
    monkeypatch.setattr(batches, "_MOST_BYTES", 100)
    found = [list(batch) for batch in in_batches(range(6), lambda _: (8, 8), lambda size: size, lambda _: 50)]
    assert found == [[0, 1], [2, 3], [4, 5]]
    found = [list(batch) for batch in in_batches(range(6), lambda _: (8, 8), lambda size: size, lambda _: 49)]
    assert found == [[0, 1, 2], [3, 4, 5]]


def test_the_largest_of_a_batch_counts() -> None:
    sizes = [(1000, 1000), (2000, 2000), (1000, 1000)]
    assert [list(batch) for batch in in_batches(range(3), sizes.__getitem__, lambda _: 0)] == [[0, 1], [2]]
    sizes = [(3000, 3000)] * 2
    assert [list(batch) for batch in in_batches(range(2), sizes.__getitem__, lambda _: 0)] == [[0], [1]]
