"""Further rounds: the segmenter learns from what it sees itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cti import pipeline
from cti.data.images import load_mask, save_mask
from cti.run import Run
from cti.segment.checkpoint import load_segmenter
from cti.segment.inference import inference
from cti.segment.make_masks import join, joint_probabilities
from cti.segment.masks import MaskFolder
from cti.segment.predict import pixel_probabilities, predict_probabilities
from cti.segment.rounds import own_masks
from tiny import make_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose segmenter is to be trained in two rounds; its photo p1 is reviewed."""
    run = Run.open(make_run(tmp_path))
    known = np.full(load_mask(run.pseudo_mask(run.photos.lists["train"][1])).shape, 255, np.uint8)
    known[:10] = 3
    save_mask(run.review / "p1.png", known)
    train = replace(run.config.segment.train, epochs=2, batch_size=2, precision="32", lr=1e-3, warmup_epochs=0)
    segment = replace(run.config.segment, rounds=2, round_confidence=0.6, train=train)
    runtime = replace(run.config.runtime, overwrite=True, workers=0, accelerator="cpu", devices=1)
    run = Run(replace(run.config, segment=segment, runtime=runtime))
    pipeline.masks(run)
    return run


def test_joint_probabilities_are_a_product_with_the_mask() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), size=(4, 5)).transpose(2, 0, 1).astype(np.float32) * 0.7
    values, pseudo = np.array([0, 2, 3]), rng.choice(np.array([0, 2, 3, 255], np.uint8), size=(4, 5))
    found = joint_probabilities(probabilities, values, pseudo, 1.5)
    for y in range(4):
        for x in range(5):
            odds = [
                probabilities[index, y, x] * (np.exp(1.5) if pseudo[y, x] == value else 1)
                for index, value in enumerate(values)
            ]
            np.testing.assert_allclose(found[:, y, x], np.array(odds) / sum(odds), rtol=1e-5)
    np.testing.assert_array_equal(values[found.argmax(axis=0)], join(probabilities, values, pseudo, 1.5))
    assert joint_probabilities(probabilities[:1], values[:1], None, 1.5).max() == 1  # a normal photo is all background
    sure = np.array([[[1.0]], [[0.0]]], np.float32)
    joint = joint_probabilities(sure, values[:2], np.zeros((1, 1), np.uint8), 5.0)
    np.testing.assert_allclose(joint, sure, atol=1e-6)  # nothing overflows


def test_the_second_round_goes_on_from_the_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[dict[str, torch.Tensor]] = []
    fit = pipeline.segment.__globals__["fit"]

    def watched(step: Any, *arguments: Any, **options: Any) -> Any:
        starts.append({name: tensor.clone() for name, tensor in step.network.state_dict().items()})
        return fit(step, *arguments, **options)

    monkeypatch.setitem(pipeline.segment.__globals__, "fit", watched)
    pipeline.segment(run)
    folder = run.stage_folder("segment")
    first, last = (load_segmenter(place).network.state_dict() for place in (folder / "rounds" / "1", folder))
    assert len(starts) == 2
    assert all(torch.equal(tensor, first[name]) for name, tensor in starts[1].items())
    assert any(not torch.equal(tensor, last[name]) for name, tensor in first.items())

    masks = {photo.id: load_mask(folder / "rounds" / "2" / f"{photo.id}.png") for photo in run.photos.lists["train"]}
    for photo in run.photos.lists["train"]:
        labels = set(np.unique(masks[photo.id][10:]).tolist())
        assert labels <= {0, 255, *(tag + 1 for tag in photo.tags)}
    assert (masks["p1"][:10] == 3).all()  # what a person said
    assert any((mask == 255).any() for mask in masks.values())
    assert any((mask != 255).any() for mask in masks.values())


def test_a_killed_second_round_keeps_the_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fit, calls = pipeline.segment.__globals__["fit"], []

    def killed(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setitem(pipeline.segment.__globals__, "fit", killed)
        with pytest.raises(KeyboardInterrupt):
            pipeline.segment(run)
    first = run.stage_folder("segment") / "rounds" / "1" / "model.safetensors"
    made = first.stat().st_mtime_ns
    pipeline.segment(run)
    assert first.stat().st_mtime_ns == made
    assert run.finished("segment")


def test_how_masks_are_joined_matters_only_to_further_rounds(run: Run) -> None:
    pipeline.segment(run)
    other = replace(run.config.predict, pseudo_weight=2.0)
    runtime = replace(run.config.runtime, overwrite=False)
    with pytest.raises(ValueError, match=r"pseudo_weight: 1\.0 there, 2\.0 now"):
        pipeline.segment(Run(replace(run.config, predict=other, runtime=runtime)))


def test_the_masks_of_a_round_are_decided_as_those_of_the_run(run: Run, tmp_path: Path) -> None:
    """Sure labels stay, others are left open; the review counts where the masks to learn from are the run's own."""
    network = load_segmenter(run.stage_folder("segment")).network
    photos, pseudo = run.photos.lists["train"][:2], MaskFolder(run.pseudo_masks, 3)
    for masks in ("", str(tmp_path / "others")):
        config = replace(run.config, segment=replace(run.config.segment, masks=masks, round_confidence=0.7))
        own, settings = Run(config), inference(config.segment, config.predict)
        folder = tmp_path / f"own-{bool(masks)}"
        made = own_masks(own, network, photos, pseudo, folder)
        assert (made.folder, made.num_classes) == (folder, 3)
        for photo in photos:
            image, values = photo.load(), np.array([0, *(tag + 1 for tag in photo.tags)])
            chosen = pixel_probabilities(image, predict_probabilities(network, image, settings), values, settings)
            joint = joint_probabilities(chosen, values, pseudo(photo), config.predict.pseudo_weight)
            expected = np.where(joint.max(axis=0) < 0.7, 255, values[joint.argmax(axis=0)])
            assert 0 < (expected == 255).mean() < 1
            if photo.id == "p1" and not masks:
                expected[:10] = 3
            np.testing.assert_array_equal(made(photo), expected)
    save_mask(made.path(photos[0]), np.zeros((3, 3), np.uint8))
    assert not own_masks(own, network, photos, pseudo, folder)(photos[0]).any()  # what is there is kept
