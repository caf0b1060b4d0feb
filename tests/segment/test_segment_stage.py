"""What the stage hands on: how each variant predicts, and what each weight learns with."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from cti import pipeline
from cti.config import Config, PredictConfig, SegmentConfig
from cti.data.images import load_mask, save_mask
from cti.data.photos import Photo
from cti.files import write_json
from cti.run import Run
from cti.run.stage_folder import keep_records
from cti.segment import stage
from cti.segment.checkpoint import load_segmenter
from cti.segment.inference import Inference, inference
from cti.segment.networks import Segmenter
from cti.segment.predict import Seen, predict_mask
from cti.train.tagging import ENOUGH_HELD_OUT
from tiny import make_run, tiny_trained

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


def test_thresholds_are_those_of_the_photos_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first variant's scores say where tags begin; with a photo less than enough nothing is looked at."""
    trained = tiny_trained()
    predict = PredictConfig(variants=("multi-scale", "single"), multi_scales=(0.5,), flip=False)
    photos = tuple(Photo(str(i), Path(str(i)), (0,) if i < 9 else (1, 2)) for i in range(ENOUGH_HELD_OUT))
    seen: list[Inference] = []

    def look(network: Any, images: list[str], settings: Inference) -> list[Seen]:
        seen.append(settings)
        first = int(images[0]) < 9
        return [Seen(torch.zeros(0), torch.tensor([0.8, 0.2, 0.1] if first else [0.3, 0.4, 0.6]))]

    monkeypatch.setattr(Photo, "load", lambda photo: photo.id)
    monkeypatch.setattr(stage, "look_at", look)
    run = SimpleNamespace(config=SimpleNamespace(predict=predict), photos=SimpleNamespace(lists={"val": photos}))
    found = stage.thresholds_of(trained, cast(Run, run))
    assert found == {"cat": pytest.approx(0.55), "dog": pytest.approx(0.3), "sofa": pytest.approx(0.35)}
    assert seen == [replace(inference(trained.config, predict), scales=(0.5,))] * ENOUGH_HELD_OUT
    run.photos.lists["val"] = photos[1:]
    assert stage.thresholds_of(trained, cast(Run, run)) == {}
    assert len(seen) == ENOUGH_HELD_OUT


def test_what_is_known_of_the_masks_of_before_is_kept_once(tmp_path: Path) -> None:
    masks, before = tmp_path / "masks", tmp_path / "before"
    keep_records(masks, before)  # nothing is known yet
    assert not before.exists()
    masks.mkdir()
    for content in ("first\n", "second\n"):
        (masks / "photos.jsonl").write_text(content)
        keep_records(masks, before)
    assert (before / "photos.jsonl").read_text() == "first\n"


@pytest.mark.parametrize("network", ["vit-upsample", "vit-mlp"])
def test_a_review_is_learned_from_where_the_masks_are_the_runs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    run, given = Run.open(make_run(tmp_path)), list[Any]()
    learn = {"vit-upsample": "_learn_crops", "vit-mlp": "_learn_patches"}[network]
    monkeypatch.setattr(stage, learn, lambda *arguments: given.append(arguments))
    photos = run.photos.lists["train"]

    def fitted(masks: str, warm: bool) -> Any:
        config = replace(run.config, segment=replace(run.config.segment, network=network, masks=masks))
        trained = tiny_trained(network=network)
        stage.fit_round(Run(config), trained.network, photos, load_mask, tmp_path / "out", warm)  # type: ignore[arg-type]
        return given.pop()

    *_, reviewed, folder, warm = fitted("", True)
    assert (reviewed, folder, warm) == (None, tmp_path / "out", True)  # nobody has drawn anything
    save_mask(run.review / "p1.png", np.array([[255, 0], [1, 255]], np.uint8))
    *_, reviewed, _, warm = fitted("", False)
    assert not warm
    assert reviewed(photos[1]).tolist() == [[False, True], [True, False]]
    assert reviewed(photos[0]) is None
    assert fitted("real", False)[4] is None
    assert load_segmenter(tmp_path / "out").config.network == network


def test_masks_to_learn_from_are_the_runs_the_data_sets_or_a_folders(tmp_path: Path) -> None:
    run = Run.open(make_run(tmp_path))

    def masks(source: str) -> Any:
        return stage.training_masks(Run(replace(run.config, segment=replace(run.config.segment, masks=source))))

    own, photos = masks("")
    assert (own.folder, own.num_classes, photos) == (run.pseudo_masks, 3, run.photos.lists["train"])
    assert masks("real") == (stage.real_mask, run.photos.lists["train"])
    others = tmp_path / "others"
    for photo in photos:
        save_mask(others / f"{photo.id}.png", own(photo))
    assert masks(str(others))[0].folder == others
    (others / "p0.png").unlink()
    with pytest.raises(ValueError, match="lacks the masks of 1 of 4 photos"):
        masks(str(others))
    write_json(others / "manifest.json", {"result": {"classes": ["cow", "dog", "sofa"]}})
    with pytest.raises(ValueError, match="cow"):
        masks(str(others))


def test_only_further_rounds_depend_on_how_masks_are_joined() -> None:
    config = Config(segment=SegmentConfig(rounds=1), predict=PredictConfig(pseudo_weight=0.7))
    assert stage._joined_by(config) == {}
    more = stage._joined_by(replace(config, segment=replace(config.segment, rounds=2)))
    assert (more["pseudo_weight"], more["inference"]["flip"]) == (0.7, True)


@pytest.mark.parametrize(
    ("masks", "weights", "sections"),
    [
        ("", "none", ("data", "model", "method", "train", "seeds", "masks", "segment")),
        ("real", "run", ("data", "model", "method", "train", "segment")),
        ("real", "none", ("data", "segment")),
    ],
)
def test_the_segmenter_depends_on_what_its_masks_and_weights_come_from(
    masks: str, weights: Any, sections: tuple[str, ...]
) -> None:
    assert stage._sections(SegmentConfig(masks=masks, weights=weights)) == sections
