"""What a further round has brought: the same photos before and after, and those held out apart from those learned."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from cti.data.images import MaskFile, save_mask
from cti.data.mask_records import PhotoRecord, write_records
from cti.data.photos import Photo
from cti.evaluate.gain import Gain, gains
from cti.run import Run

CLASSES = ("crack", "blowhole")


def test_a_gain_is_a_sentence() -> None:
    assert str(Gain("mIoU", 20, 0.5, 0.625)) == "mIoU (20 photos) 50.0 -> 62.5 % (+12.5)"
    assert str(Gain("mIoU", 19, 0.5, 0.625)) == "mIoU (19 photos, too few to rely on) 50.0 -> 62.5 % (+12.5)"
    assert str(Gain("tag AP", 1, 0.9, 0.8)) == "tag AP (1 photo, too few to rely on) 90.0 -> 80.0 % (-10.0)"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Photos a and b learned from, c, d and e held out; c and a reviewed; of e nothing was known before."""
    tags = {"a": (0,), "b": (1,), "c": (0,), "d": (1,), "e": (0,)}
    photos = [Photo(name, tmp_path / f"{name}.jpg", own) for name, own in tags.items()]

    def write(folder: str, scores: dict[str, tuple[float, float]]) -> None:
        records = {
            name: PhotoRecord("", "", (1, 1), None, (), dict(zip(CLASSES, both, strict=True)), {}, False, 1.0)
            for name, both in scores.items()
        }
        (tmp_path / folder).mkdir(exist_ok=True)
        write_records(tmp_path / folder, records, CLASSES)

    write("before", {"a": (1, 0), "b": (0, 1), "c": (0.2, 0.9), "d": (0.4, 0.1)})  # both held out are wrong
    write("masks", {"a": (0, 1), "b": (1, 0), "c": (0.9, 0.1), "d": (0.1, 0.8), "e": (0, 1)})
    truth, half = np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 0, 0, 1]], np.uint8)
    for name in "ac":
        save_mask(tmp_path / "review" / f"{name}.png", truth)
        save_mask(tmp_path / "before" / f"{name}.png", half if name == "c" else truth)
        save_mask(tmp_path / "now" / f"{name}.png", truth if name == "c" else half)
    return cast(
        Run,
        SimpleNamespace(
            predictions=lambda before=False: tmp_path / ("before" if before else "now"),
            stage_folder=lambda stage: tmp_path / stage,
            finished=lambda stage: stage == "segment",
            review=tmp_path / "review",
            photos=SimpleNamespace(photos=lambda: photos, lists={"train": tuple(photos[:2])}, classes=CLASSES),
        ),
    )


def test_photos_held_out_are_told_from_those_learned_from(run: Run) -> None:
    found = {gain.what: (gain.photos, gain.before, gain.after) for gain in gains(run)}
    half = (2 / 3 + 1 / 2) / 2  # of the background and the one class that is there
    assert found == {
        "segmenter's mIoU on reviewed pixels of photos held out": (1, pytest.approx(half), 1.0),
        "segmenter's mIoU on reviewed pixels learned from": (1, 1.0, pytest.approx(half)),
        "segmenter's tag AP on photos held out": (2, 0.5, 1.0),
        "segmenter's tag AUROC on photos held out": (2, 0.0, 1.0),
    }


def test_true_masks_of_photos_held_out_are_scored(run: Run, tmp_path: Path) -> None:
    """Of c there is one, of which nobody says that it is learned from; of d, too, but no prediction of before."""
    photos = run.photos.photos()
    for name in "acd":
        save_mask(tmp_path / "truth" / f"{name}.png", np.array([[0, 1, 1, 1]], np.uint8))
    save_mask(tmp_path / "now" / "d.png", np.array([[0, 1, 1, 1]], np.uint8))
    for place, photo in enumerate(photos):
        if photo.id in "acd":
            photos[place] = replace(photo, mask=MaskFile(tmp_path / "truth" / f"{photo.id}.png", 2, bytes(range(256))))
    found = {gain.what: (gain.photos, gain.before, gain.after) for gain in gains(run)}
    before, after = (1 / 3 + 1 / 3) / 2, (1 / 2 + 2 / 3) / 2
    what = "segmenter's mIoU on true masks of photos held out"
    assert found[what] == (1, pytest.approx(before), pytest.approx(after))
    save_mask(tmp_path / "truth" / "c.png", np.full((1, 4), 255, np.uint8))
    assert what not in {gain.what for gain in gains(run)}  # without a labelled pixel there is no score


def test_without_a_round_before_there_is_none(run: Run, tmp_path: Path) -> None:
    cast(Any, run).finished = lambda stage: False
    assert gains(run) == ()
    cast(Any, run).finished = lambda stage: True
    (tmp_path / "before").rename(tmp_path / "elsewhere")
    assert gains(run) == ()
