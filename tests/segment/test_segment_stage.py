"""What the stage hands on: how each variant predicts, and what each weight learns with."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cti import pipeline
from cti.config import PredictConfig, SegmentConfig
from cti.data.images import load_mask
from cti.run import Run
from cti.segment import stage
from cti.segment.checkpoint import load_segmenter
from cti.segment.inference import Inference, inference
from cti.segment.networks import Segmenter
from cti.segment.predict import predict_mask
from tiny import make_run

WAYS = PredictConfig(
    variants=("multi-scale", "single"), multi_scales=(0.5, 2.0), flip=False, window=96, stride=40, crf="irn"
)


@pytest.mark.parametrize(
    ("variant", "scales", "crf"),
    [
        ("single", (1.0,), "none"),
        ("single+crf", (1.0,), "irn"),
        ("multi-scale", (0.5, 2.0), "none"),
        ("multi-scale+crf", (0.5, 2.0), "irn"),
        ("", (0.5, 2.0), "none"),  # the first one
    ],
)
def test_how_a_variant_predicts(variant: str, scales: tuple[float, ...], crf: Any) -> None:
    expected = Inference(long_side=77, scales=scales, flip=False, window=96, stride=40, crf=crf)
    assert inference(SegmentConfig(long_side=77), WAYS, variant) == expected


def test_each_variant_predicts_at_its_own_scales(tmp_path: Path) -> None:
    run = Run.open(make_run(tmp_path))
    predict = replace(run.config.predict, variants=("single", "multi-scale"), multi_scales=(0.5, 2.0))
    run = Run(replace(run.config, predict=predict))
    pipeline.segment(run)
    network = load_segmenter(run.stage_folder("segment")).network
    differ = 0
    for photo in run.photos.lists["val"]:
        masks = [load_mask(run.prediction(photo, variant)) for variant in predict.variants]
        for mask, scales in zip(masks, ((1.0,), (0.5, 2.0)), strict=True):
            expected = predict_mask(network, photo.load(), inference(run.config.segment, replace(
                predict, variants=("multi-scale",), multi_scales=scales)))  # fmt: skip
            np.testing.assert_array_equal(mask, expected)
        differ += int((masks[0] != masks[1]).sum())
    assert differ


class _Stop(Exception):
    pass


@pytest.mark.parametrize("network", ["vit-upsample", "vit-mlp"])
def test_every_weight_has_its_rate_and_decay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str) -> None:
    """The decoder, which is new, may learn faster; all decay but 1-D tensors, the CLS token and the positions."""
    given: dict[str, Any] = {}

    def watched(step: Any, dataset: Any, config: Any, folder: Path, groups: Any, *_: Any, **__: Any) -> None:
        given.update(step=step, groups=groups, config=config)
        raise _Stop

    run = Run.open(make_run(tmp_path))
    train = replace(run.config.segment.train, lr=1e-3, new_lr_factor=10, weight_decay=0.05, seed=5)
    segment = replace(run.config.segment, train=train, network=network)
    run = Run(replace(run.config, segment=segment, runtime=replace(run.config.runtime, overwrite=True, workers=0)))
    monkeypatch.setattr(stage, "fit", watched)
    with pytest.raises(_Stop):
        stage.train_segmenter(run, tmp_path / "out")
    found = {id(p): (group["peak_lr"], group["weight_decay"]) for group in given["groups"] for p in group["params"]}
    learning = {name: p for name, p in given["step"].named_parameters() if p.requires_grad}
    assert len(found) == len(learning) == sum(len(group["params"]) for group in given["groups"])
    for name, parameter in learning.items():
        fixed = parameter.ndim == 1 or name.endswith(("cls_token", "pos_embed"))
        rate = 1e-2 if "decoder." in name else 1e-3
        assert found[id(parameter)] == (pytest.approx(rate), 0.0 if fixed else 0.05), name
    assert any(parameter.ndim > 1 for parameter in learning.values())
    assert given["config"].seed == 5


def test_a_token_of_its_own_or_that_of_the_runs_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes the CLS token's part: the pre-trained one, or the mean of all class tokens of the run's network."""
    seen: list[Segmenter] = []

    def watched(run: Run, network: Segmenter, *_: Any, **__: Any) -> None:
        seen.append(network)
        raise _Stop

    monkeypatch.setattr(stage, "fit_round", watched)
    run = Run.open(make_run(tmp_path))
    for weights in ("none", "run"):
        config = replace(run.config, segment=replace(run.config.segment, weights=weights))
        with pytest.raises(_Stop):
            stage.train_segmenter(Run(config), tmp_path / "out")
    own, runs = (network.state_dict() for network in seen)
    cls, position = seen[0].encoder.initial_cls
    np.testing.assert_allclose(own["cls_token"], (cls + position).detach(), rtol=1e-6)
    model, _ = stage.load_model(run.stage_folder("train"))
    mean = model.class_tokens()[0].mean(dim=0)
    np.testing.assert_allclose(runs["cls_token"][0, 0], mean.detach(), rtol=1e-5)
