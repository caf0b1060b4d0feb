"""The masks of a run, its result: they obey the tags, every photo has one, and they are made again only when needed."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cti import pipeline
from cti.config import Config, DataConfig, PredictConfig, SegmentConfig, SegmentTrainConfig
from cti.data.images import load_mask, save_mask
from cti.data.mask_records import PhotoRecord, absent_sentences, read_records
from cti.data.photos import Photo
from cti.files import link, read_manifest, write_manifest
from cti.run import Run
from cti.run.stage_folder import damaged_files
from cti.segment import make_masks as module
from cti.segment.checkpoint import TrainedSegmenter, load_segmenter
from cti.segment.inference import inference
from cti.segment.make_masks import give_back, join
from cti.segment.predict import Seen, look_at, predict_mask, predict_probabilities

CLASSES = ("disc", "box", "bar")
TAGS = {"a": ("disc",), "b": ("box", "bar"), "c": (), "d": ("disc", "box"), "e": ("bar",), "f": ()}
VALUES = np.array([0, 2, 3])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on noise, whose segmenter has hardly learned: left to itself it puts every class everywhere."""
    root = tmp_path_factory.mktemp("masks")
    (root / "photos" / "lists").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name in TAGS:
        Image.fromarray(draw.integers(0, 256, (33, 45, 3), dtype=np.uint8)).save(root / "photos" / f"{name}.png")
    lines = [f'{name}.png,"{";".join(tags)}"' for name, tags in TAGS.items()]
    (root / "photos" / "labels.csv").write_text("\n".join(["image,tags", *lines]) + "\n")
    (root / "photos" / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    for name, members in (("train", "abc"), ("val", "def")):
        (root / "photos" / "lists" / f"{name}.txt").write_text("\n".join(members) + "\n")
    run = open_run(root)
    for photo in run.photos.photos():
        if photo.id != "e":  # e has no seed, so the segmenter alone says what its mask is
            pseudo = np.full((33, 45), 255, np.uint8)
            for row, tag in enumerate(photo.tags):
                pseudo[8 * row : 8 * row + 8] = tag + 1
            pseudo[24:] = 0
            save_mask(run.pseudo_mask(photo), pseudo)
            link(run.pseudo_mask(photo), run.mask(photo))
    write_manifest(run.stage_folder("masks"), {"classes": CLASSES})
    torch.manual_seed(0)
    pipeline.segment(run)
    return root


def open_run(root: Path, **predict: Any) -> Run:
    segment = SegmentConfig(
        backbone="vit", weights="none", embed_dim=32, depth=2, num_heads=2, patch_size=8, crop_size=32, drop_path=0.0,
        train=SegmentTrainConfig(epochs=1, batch_size=4, precision="32"),
    )  # fmt: skip
    config = Config(
        out=str(root / "run"),
        data=DataConfig(root=str(root / "photos"), empty_tags="negative"),
        segment=segment,
        predict=PredictConfig(lists=("val",), **predict),
    )
    return Run(replace(config, runtime=replace(config.runtime, workers=0, accelerator="cpu", devices=1)))


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A word for each photo that the network is run on from here on."""
    photos: list[str] = []
    real: Callable[..., list[Seen]] = look_at

    def counted(network: object, images: list[Image.Image], settings: object) -> list[Seen]:
        photos.extend("photo" for _ in images)
        return real(network, images, settings)

    monkeypatch.setattr(module, "look_at", counted)
    return photos


def test_every_photo_has_a_mask_that_obeys_its_tags(finished: Path) -> None:
    run = open_run(finished)
    assert {path.stem for path in run.stage_folder("masks").glob("*.png")} == TAGS.keys()
    contradicted = 0
    for photo in run.photos.photos():
        mask = load_mask(run.mask(photo))
        assert mask.shape == (33, 45)
        assert set(np.unique(mask)) <= {0, *(tag + 1 for tag in photo.tags)}  # and no pixel is undecided
        if not photo.tags:
            assert not mask.any()
        if photo in run.photos.lists["val"]:
            contradicted += bool(set(np.unique(load_mask(run.prediction(photo)))) - {0, *(t + 1 for t in photo.tags)})
        else:
            assert not run.prediction(photo).exists()  # train is not in predict.lists
    assert contradicted > 0  # without tags the segmenter says something else, or this test shows nothing


def test_a_mask_is_what_segmenter_and_pseudo_mask_say_together(finished: Path) -> None:
    run = open_run(finished)
    trained = load_segmenter(run.stage_folder("segment"))
    settings = inference(trained.config, run.config.predict)
    for photo in run.photos.photos():
        image = photo.load()
        plain = predict_probabilities(trained.network, image, settings).numpy()
        values = [0, *(tag + 1 for tag in photo.tags)]
        evidence = np.log(plain[values])
        if photo.id != "e":
            pseudo = load_mask(run.pseudo_mask(photo))
            evidence += np.stack([pseudo == value for value in values])
        np.testing.assert_array_equal(load_mask(run.mask(photo)), np.array(values)[evidence.argmax(axis=0)])
        if photo in run.photos.lists["val"]:  # made in the same pass
            np.testing.assert_array_equal(
                load_mask(run.prediction(photo)), predict_mask(trained.network, image, settings)
            )


def test_what_is_known_of_each_mask_lies_beside_it(finished: Path) -> None:
    run = open_run(finished)
    records = read_records(run.stage_folder("masks"))
    assert {name: record.tags for name, record in records.items()} == {
        name: tuple(sorted(tags, key=CLASSES.index)) for name, tags in TAGS.items()
    }
    for photo in run.photos.photos():
        record, mask = records[photo.id], load_mask(run.mask(photo))
        assert record.given == record.tags
        assert record.empty == (not mask.any())
        assert sum(record.shares.values()) == pytest.approx(1)
        for value, name in enumerate(("background", *CLASSES)):
            assert record.shares.get(name, 0) == pytest.approx((mask == value).mean())
        assert record.scores.keys() == set(CLASSES)
        assert 0 < record.confidence < 1
    assert (run.stage_folder("masks") / "photos.csv").read_text().startswith("id,photo,tags,empty,confidence")


def test_masks_are_made_again_only_where_they_are_missing_or_would_differ(copied: Path, seen: list[str]) -> None:
    run = open_run(copied)
    masks = {photo.id: run.mask(photo).read_bytes() for photo in run.photos.photos()}
    pipeline.segment(run)
    assert not seen
    run.mask(run.photos.lists["train"][0]).unlink()
    lines = run.stage_folder("masks") / "photos.jsonl"
    kept = [line for line in lines.read_text().splitlines() if json.loads(line)["id"] != "d"]
    lines.write_text("\n".join(kept) + '\n{"id": "d", "pho')  # killed while it wrote about d
    pipeline.segment(open_run(copied))
    assert len(seen) == 2
    assert {photo.id: run.mask(photo).read_bytes() for photo in run.photos.photos()} == masks
    assert read_records(run.stage_folder("masks")).keys() == TAGS.keys()
    seen.clear()
    pipeline.segment(open_run(copied, pseudo_weight=0))
    assert len(seen) == len(TAGS)
    assert {photo.id: run.mask(photo).read_bytes() for photo in run.photos.photos()} != masks


def test_other_settings_of_predict_make_masks_predictions_and_thresholds_again(
    copied: Path, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `cti run --config RUN --predict.flip false` does."""
    stage = "cti.segment.stage"
    monkeypatch.setattr(f"{stage}.ENOUGH_HELD_OUT", 3)
    monkeypatch.setattr(f"{stage}.certain_thresholds", lambda scores, *others: {"box": float(scores[0, 1])})
    run = open_run(copied)
    pipeline.evaluate(run)
    held_out, folder = run.photos.lists["val"], run.stage_folder("segment")
    before = {path: path.read_bytes() for photo in held_out for path in (run.prediction(photo), run.mask(photo))}
    changed = {"flip": False, "window": 16, "stride": 8}
    pipeline.segment(open_run(copied, **changed))
    assert len(seen) == len(TAGS)
    trained = load_segmenter(folder)
    assert trained.tag_thresholds == {"box": pytest.approx(look_at_first(trained, held_out[0], changed))}
    for photo in held_out:
        expected = predict_mask(trained.network, photo.load(), trained.inference(PredictConfig(**changed)))
        np.testing.assert_array_equal(load_mask(run.prediction(photo)), expected)
    assert {path: path.read_bytes() for path in before} != before
    assert not damaged_files(folder, (read_manifest(folder) or {})["files"])
    settings = copied / "run/evaluate/stage.json"
    scored = settings.read_text()
    pipeline.evaluate(open_run(copied, **changed))
    assert settings.read_text() != scored

    seen.clear()
    pipeline.segment(open_run(copied, **changed))
    assert not seen
    pipeline.segment(open_run(copied, **changed, variants=("single", "multi-scale")))
    multi = {photo.id: run.prediction(photo, "multi-scale").stat().st_mtime_ns for photo in held_out}
    single = {photo.id: run.prediction(photo).stat().st_mtime_ns for photo in held_out}
    pipeline.segment(open_run(copied, **changed, variants=("single", "multi-scale"), multi_scales=(0.5, 1.0)))
    assert not multi.items() & {p.id: run.prediction(p, "multi-scale").stat().st_mtime_ns for p in held_out}.items()
    assert single == {photo.id: run.prediction(photo).stat().st_mtime_ns for photo in held_out}


def look_at_first(trained: TrainedSegmenter, photo: Photo, settings: dict[str, Any]) -> float:
    """The score of box on a photo."""
    return float(look_at(trained.network, [photo.load()], trained.inference(PredictConfig(**settings)))[0].scores[1])


@pytest.fixture
def never_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A join that leaves no pixel of bar, whatever the pseudo-mask says."""

    def erasing(*arguments: object) -> np.ndarray:
        mask = join(*arguments)  # type: ignore[arg-type]
        return np.where(mask == 3, 0, mask).astype(np.uint8)

    monkeypatch.setattr(module, "join", erasing)


@pytest.mark.usefixtures("never_a_bar")
def test_a_class_that_the_join_erases_is_given_back(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run = open_run(copied, pseudo_weight=2)
    pipeline.segment(run)
    photos = {photo.id: photo for photo in run.photos.photos()}
    mask, pseudo = load_mask(run.mask(photos["b"])), load_mask(run.pseudo_mask(photos["b"]))
    np.testing.assert_array_equal(mask == 3, pseudo == 3)
    record = read_records(run.stage_folder("masks"))["b"]
    assert record.shares["bar"] == pytest.approx((pseudo == 3).mean())
    assert not load_mask(run.mask(photos["e"])).any()  # no pseudo-mask holds its bar
    assert "in no mask" not in caplog.text
    assert "1 of the 4 with tags show none of them" in caplog.text
    # The confidence is that of the mask as it is.
    trained = load_segmenter(run.stage_folder("segment"))
    settings = inference(trained.config, run.config.predict)
    plain = predict_probabilities(trained.network, photos["b"].load(), settings).numpy()
    sure = np.take_along_axis(plain, mask[None].astype(np.int64), axis=0)
    assert record.confidence == pytest.approx(float(sure.mean()), rel=1e-5)
    pipeline.segment(open_run(copied, pseudo_weight=0))  # the segmenter alone
    assert not (load_mask(run.mask(photos["b"])) == 3).any()


@pytest.mark.parametrize(
    ("joined", "pseudo", "expected"),
    [
        ([0, 0, 2, 2], [3, 255, 2, 2], [3, 0, 2, 2]),
        ([0, 2, 3, 2], [3, 3, 2, 2], [0, 2, 3, 2]),  # nothing is erased, so nothing is given back
        ([3, 3, 3, 0], [2, 2, 3, 3], [2, 2, 3, 0]),
        ([3, 3, 0, 0], [2, 2, 3, 255], [2, 2, 3, 0]),  # the one erases the other, which then gets its own
        ([0, 0, 0, 0], [1, 0, 255, 255], [0, 0, 0, 0]),  # 1 is no tag of this photo, and 2 and 3 are nowhere
    ],
)
def test_what_is_given_back(joined: list[int], pseudo: list[int], expected: list[int]) -> None:
    mask = np.array([joined], np.uint8)
    give_back(mask, np.array([pseudo], np.uint8), VALUES)
    assert mask.tolist() == [expected]


@pytest.mark.usefixtures("never_a_bar")
def test_a_class_that_is_in_no_mask_is_said(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run = open_run(copied, pseudo_weight=2)
    (photo,) = (photo for photo in run.photos.photos() if photo.id == "b")
    pseudo = load_mask(run.pseudo_mask(photo))
    save_mask(run.pseudo_mask(photo), np.where(pseudo == 3, 255, pseudo).astype(np.uint8))  # nor in a pseudo-mask
    pipeline.segment(run)
    sentence = "bar is tagged on 2 photos and is in no mask; "
    assert sentence in caplog.text
    # Of the six photos c and f have no tags, so that nothing is missing in their masks.
    assert "6 masks in" in caplog.text
    assert "1 of the 4 with tags show none of them" in caplog.text
    assert [remark.startswith(sentence) for remark in pipeline.evaluate(run).remarks] == [True]


def test_scores_are_those_of_the_masks_on_disk(copied: Path) -> None:
    pipeline.segment(open_run(copied))
    scores = pipeline.evaluate(open_run(copied))
    assert pipeline.evaluate(open_run(copied, pseudo_weight=0)) == scores  # the masks have not changed
    pipeline.segment(open_run(copied, pseudo_weight=0))
    settings = copied / "run/evaluate/stage.json"
    before = settings.read_text()
    pipeline.evaluate(open_run(copied, pseudo_weight=0))
    assert settings.read_text() != before  # now they have, and are scored again


def test_absent_classes_are_those_that_are_tagged_and_nowhere() -> None:
    def record(given: tuple[str, ...] | None, **shares: float) -> PhotoRecord:
        return PhotoRecord("p", "", (1, 1), given, given or (), {}, shares, False, 1.0)

    records = {"a": record(("disc", "box"), disc=1.0), "b": record(("box",), background=1.0), "c": record(None)}
    (sentence,) = absent_sentences(records, CLASSES)
    assert sentence.startswith("box is tagged on 2 photos and is in no mask; ")


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (0.0, [0, 2, 3, 3]),  # the segmenter alone
        (1.0, [2, 2, 3, 3]),  # it is overruled where its first choice is less than e times as likely
        (2.0, [2, 2, 2, 3]),  # e^2 = 7.4
        (9.0, [2, 2, 2, 3]),  # where the pseudo-mask says nothing, the segmenter decides
    ],
)
def test_the_heavier_the_pseudo_mask_the_more_it_decides(weight: float, expected: list[int]) -> None:
    probabilities = np.array([[[0.5, 0.1, 0.1, 0.2]], [[0.4, 0.8, 0.1, 0.3]], [[0.1, 0.1, 0.5, 0.5]]], np.float32)
    pseudo = np.array([[2, 2, 2, 255]], np.uint8)
    assert join(probabilities, VALUES, pseudo, weight).tolist() == [expected]


def test_without_a_pseudo_mask_the_segmenter_decides_and_ties_are_background() -> None:
    probabilities = np.array([[[0.4, 0.0]], [[0.4, 0.0]], [[0.2, 1.0]]], np.float32)
    mask = join(probabilities, VALUES, None, 9.0)
    assert mask.tolist() == [[0, 3]]
    assert mask.dtype == np.uint8
    assert not join(np.full((1, 2, 2), 0.0, np.float32), VALUES[:1], None, 1.0).any()
