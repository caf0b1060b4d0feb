import dataclasses
from concurrent.futures import Future

import numpy as np
import pytest

from cti.config import AffinityConfig, CrfConfig, MasksConfig, OverlapConfig, PamrConfig
from cti.masks import steps as chain
from cti.masks.affinity_labels import confident_labels, confident_labels_crf, to_grid
from cti.masks.pamr import pamr_step
from cti.masks.scores import start_scores
from cti.masks.seed_folder import SeedFolder
from cti.masks.steps import build_steps, read_rgb, refine_photos

SMALL = AffinityConfig(channels=8, epochs=1, walk_steps=4, radius=3)


@pytest.fixture
def seeds(drawn):
    return SeedFolder(drawn.seeds, ("disc", "box", "bar"))


def test_every_step_can_be_scored_by_itself(drawn, seeds, tmp_path, features):
    config = MasksConfig(steps=("pamr", "affinity", "pamr"), affinity=SMALL)
    steps = build_steps(drawn.photos, seeds, config, tmp_path, features, progress=False)
    refined = list(refine_photos(drawn.photos, seeds, config, steps))
    assert [item.photo for item in refined] == list(drawn.photos)
    first = refined[0]
    assert list(first.scores) == ["seed", "pamr", "pamr+affinity", "pamr+affinity+pamr"]
    assert first.class_indices == (0, 1)
    np.testing.assert_array_equal(first.scores["seed"], start_scores(seeds(first.photo.id), config))
    image = read_rgb(first.photo)
    np.testing.assert_array_equal(first.scores["pamr"], pamr_step(image, first.scores["seed"], config.pamr))
    again = pamr_step(image, first.scores["pamr+affinity"], config.pamr)
    np.testing.assert_array_equal(first.final, again)


def test_the_head_is_trained_once_for_the_same_question(drawn, seeds, tmp_path, features):
    config = MasksConfig(steps=("affinity",), affinity=SMALL)
    build_steps(drawn.photos, seeds, config, tmp_path, features, progress=False)
    head = tmp_path / "affinity.safetensors"
    written = head.stat().st_mtime_ns
    build_steps(drawn.photos, seeds, config, tmp_path, features, progress=False)
    assert head.stat().st_mtime_ns == written
    build_steps(drawn.photos[:3], seeds, config, tmp_path, features, progress=False)
    assert head.stat().st_mtime_ns > written


@pytest.mark.parametrize("clean", ["none", "pamr", "crf"])
def test_confident_pixels_are_those_of_cleaned_scores(drawn, seeds, tmp_path, features, monkeypatch, clean):
    """What the affinity head learns from, after the steps before it and the cleaning that was asked for."""
    if clean == "crf":
        pytest.importorskip("pydensecrf.densecrf", reason="the crf extra is not installed")
    given = []

    def learn(samples, *_):
        given.extend(samples)
        raise InterruptedError

    monkeypatch.setattr(chain, "train_affinity", learn)
    config = MasksConfig(steps=("pamr", "affinity"), affinity=dataclasses.replace(SMALL, clean=clean, stride=2))
    with pytest.raises(InterruptedError):
        build_steps(drawn.photos, seeds, config, tmp_path, features, progress=False)
    found = []
    for photo, sample in zip(drawn.photos, given, strict=True):
        image = read_rgb(photo)
        scores = pamr_step(image, start_scores(seeds(photo.id), config), config.pamr)
        labels = {
            "none": lambda image, scores: confident_labels(scores, config.affinity),
            "pamr": lambda image, scores: confident_labels(pamr_step(image, scores, config.pamr), config.affinity),
            "crf": lambda image, scores: confident_labels_crf(image, scores, config),
        }
        expected = {
            name: to_grid(function(image, scores), 2)
            for name, function in labels.items()
            if name == clean or name != "crf"
        }
        np.testing.assert_array_equal(sample.labels, expected[clean])
        np.testing.assert_array_equal(sample.load(), image)
        found.append(all((expected[clean] != other).any() for name, other in expected.items() if name != clean))
    assert any(found)  # the ways differ here


def test_affinity_without_a_backbone_is_said(drawn, seeds, tmp_path):
    with pytest.raises(ValueError, match="features of a trained backbone"):
        build_steps(drawn.photos, seeds, MasksConfig(steps=("affinity",)), tmp_path)


def test_a_seed_of_another_size_is_said(drawn, seeds):
    wrong = type(drawn.photos[0])(drawn.photos[2].id, drawn.photos[0].image, (0,), None)
    with pytest.raises(ValueError, match=r"75 x 90 pixels, but .*96 x 72"):
        list(refine_photos([wrong], seeds, MasksConfig(), []))


def test_worker_processes_give_what_one_process_gives(drawn, seeds, tmp_path):
    pytest.importorskip("pydensecrf.densecrf", reason="the crf extra is not installed")
    config = MasksConfig(steps=("crf", "pamr"))
    steps = build_steps(drawn.photos, seeds, config, tmp_path)
    results = [
        [item.final for item in refine_photos(drawn.photos * 2, seeds, config, steps, workers)] for workers in (0, 2)
    ]
    for alone, pooled in zip(*results, strict=True):
        np.testing.assert_array_equal(alone, pooled)


def test_the_head_is_trained_anew_when_what_shapes_it_changes(drawn, seeds):
    """Settings count where a step before the affinity, or the cleaning of its labels, uses them; nothing else does."""

    def digest(photos=drawn.photos, number=1, **changes):
        config = MasksConfig(steps=("resolve_overlap", "affinity", "pamr"), affinity=SMALL)
        return chain._fingerprint(photos, seeds, dataclasses.replace(config, **changes), number)

    clean = {kind: {"affinity": dataclasses.replace(SMALL, clean=kind)} for kind in ("none", "pamr", "crf")}
    others = {
        "pamr": {"pamr": PamrConfig(iterations=3)},
        "crf": {"crf": CrfConfig(iterations=3)},
        "resolve_overlap": {"resolve_overlap": OverlapConfig(power=1.5)},
    }
    for kind, settings in clean.items():
        plain = digest(**settings)
        assert digest(**settings) == plain
        for used, change in others.items():
            assert (digest(**settings, **change) != plain) is (used in (kind, "resolve_overlap")), (kind, used)
        assert digest(**settings, threshold=0.123) != plain
        assert digest(drawn.photos[1:], **settings) != plain
    none = clean["none"]
    first = {"steps": ("affinity", "resolve_overlap")}
    assert digest(number=0, **none, **first) == digest(number=0, **none, **first, **others["resolve_overlap"])
    after = {"steps": ("pamr", "affinity")}
    assert digest(**none, **after) != digest(**none, **after, **others["pamr"])
    was, seeds.identity = digest(), "extracted again"
    assert digest() != was


def test_a_missing_library_is_said_before_anything_is_learned(drawn, seeds, tmp_path, features, monkeypatch):
    def missing():
        raise ModuleNotFoundError("no library")

    monkeypatch.setattr(chain, "load_library", missing)
    monkeypatch.setattr(chain, "train_affinity", lambda *_: pytest.fail("learned first"))
    with pytest.raises(ModuleNotFoundError, match="no library"):
        build_steps(drawn.photos, seeds, MasksConfig(steps=("affinity", "crf"), affinity=SMALL), tmp_path, features)


def test_processes_work_a_few_photos_ahead(drawn, seeds, monkeypatch):
    """Twice as many as there are processes, so that memory is bounded; what was begun is ended with the stream."""
    ended, begun = [], []

    class Pool:
        def __init__(self, workers, mp_context):
            assert (workers, mp_context.get_start_method()) == (2, "spawn")

        def submit(self, function, image, scores):
            begun.append(image)
            future = Future()
            future.set_result(function(image, scores))
            return future

        def shutdown(self, **how):
            ended.append(how)

    monkeypatch.setattr(chain, "ProcessPoolExecutor", Pool)
    config = MasksConfig(steps=("crf",))
    step = chain.PixelStep(lambda image, scores: scores + 1)
    stream = refine_photos(drawn.photos * 2, seeds, config, [step], workers=2)
    first = next(stream)
    assert len(begun) == 5
    np.testing.assert_array_equal(first.final, first.scores["seed"] + 1)
    assert [first.photo, *(item.photo for item in stream)] == list(drawn.photos * 2)
    assert ended == [{"cancel_futures": True}]
    begun.clear()
    assert len(list(refine_photos(drawn.photos, seeds, config, [step]))) == 4
    assert not begun  # in this process
