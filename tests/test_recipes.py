"""Every shipped recipe is loaded, and its losses, optimiser and schedule make two steps on rendered shapes.

What has to be small or needs the hub is overridden, in `tiny.SETTINGS`: the data, the backbones (three blocks
from scratch instead of a ViT-S), image and batch size, one epoch, no worker processes, float32. The losses that start
in a later epoch start in the first one, so that they are stepped too. The number of steps is that of one epoch.
"""

import json
import math
from pathlib import Path

import pytest

from cti import pipeline
from cti.run import Run
from cti.settings import load_config, recipes
from cti.train import fit as fitting
from cti.train.optimiser import epochs_by_size
from tiny import tiny_config, tiny_shapes

ALL = list(recipes())


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_shapes(tmp_path_factory.mktemp("data") / "shapes", count=12)  # 9 to train on: two batches of 4


# What belongs to the recipe's own data set: names of lists, classes, sizes relative to big photos.
ELSEWHERE = {
    "data__format": "folder",
    "data__classes": "[]",
    "data__train": "train",
    "data__score": "train",
    "data__val": "val",
    "segment__frozen_blocks": "0",
    "segment__long_side": "0",
}


@pytest.mark.parametrize("recipe", ALL)
def test_two_steps_of_training(recipe: str, photos: Path, tmp_path: Path) -> None:
    config = tiny_config(
        photos, tmp_path, recipe, **ELSEWHERE, method__start_epoch="0", method__gate=load_config(recipe).method.gate
    )
    result = pipeline.train(Run(config))
    assert result.fit.steps == 2
    logged = [json.loads(line) for line in (tmp_path / "train" / "metrics.jsonl").read_text().splitlines()]
    losses = {name: value for line in logged for name, value in line.items() if name.startswith("loss")}
    assert {"loss", "loss/classification", "loss/background", "loss/intra"} <= losses.keys()
    assert all(math.isfinite(value) for value in losses.values())
    assert (tmp_path / "train" / "model.safetensors").is_file()


@pytest.mark.parametrize("recipe", ALL)
def test_two_steps_of_the_segmenter(recipe: str, photos: Path, tmp_path: Path) -> None:
    network = load_config(recipe).segment.network
    small = {}
    if network.startswith("smp:"):
        pytest.importorskip("segmentation_models_pytorch", reason="the smp extra is not installed")
        small = {"segment__network": "smp:DeepLabV3Plus:resnet18"}
    more = ELSEWHERE | small | {"predict__variants": "[single]", "segment__masks": "real"}
    config = tiny_config(photos, tmp_path, recipe, **more)
    steps = 1 if network == "vit-mlp" else 2  # patches of all photos at once
    assert pipeline.segment(Run(config)).fit.steps == steps
    predicted = list((tmp_path / "segment" / "predictions" / "single").glob("*.png"))
    assert len(predicted) == (12 if "score" in config.predict.lists else 3)


def test_the_papers_settings() -> None:
    """Both benchmarks are trained alike (docs/method.md, "Optimisation") ..."""
    voc, coco = load_config("voc12"), load_config("coco14")
    assert voc.train == coco.train
    assert voc.model == coco.model
    train = voc.train
    assert (train.epochs, train.batch_size, train.accumulate) == (60, 64, 1)
    assert voc.runtime.devices == coco.runtime.devices == 1
    assert train.lr == pytest.approx(5e-4 * 64 / 512)
    assert (train.warmup_epochs, train.warmup_lr, train.min_lr) == (5, 1e-6, 1e-5)
    assert (train.schedule, train.schedule_per, train.weight_decay, train.new_lr_factor) == ("cosine", "epoch", 0.05, 1)
    model = voc.model
    assert (model.backbone, model.weights, model.image_size) == ("deit_small_patch16_224", "timm", 224)
    assert (model.infusion_index, model.background, model.drop_path) == (3, "token", 0.1)
    assert voc.method.gate == coco.method.gate == "all"
    assert voc.method.bank_size == coco.method.bank_size == 30
    assert (voc.seeds.flip, voc.seeds.scales, voc.seeds.long_side, voc.seeds.blocks) == (True, (1.0,), 0, 0)


def test_what_differs_on_coco() -> None:
    """... and differ in the weights, the start and the detached patch maps."""
    voc, coco = load_config("voc12").method, load_config("coco14").method
    assert (voc.background_weight, voc.intra_weight, voc.cross_weight) == (0.1, 1.0, 1.0)
    assert (coco.background_weight, coco.intra_weight, coco.cross_weight) == (0.1, 0.1, 0.1)
    assert (voc.start_epoch, coco.start_epoch) == (0, 2)
    assert (voc.detach_patch_maps_in_background, coco.detach_patch_maps_in_background) == (False, True)


def test_ones_own_photos_need_no_extra_and_no_full_bank() -> None:
    own = load_config("own")
    assert own.method.gate == "per_class"
    assert own.train.epochs == own.segment.train.epochs == 0  # by the number of photos
    assert "crf" not in own.masks.steps
    assert own.masks.affinity.clean != "crf" or "affinity" not in own.masks.steps
    assert not own.segment.network.startswith("smp:")


def test_few_photos_are_shown_more_often(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [epochs_by_size(steps) for steps in (1, 10, 50, 1000)] == [60, 50, 10, 4]
    monkeypatch.setattr(fitting, "epochs_by_size", lambda steps_per_epoch, warm: steps_per_epoch + 1)
    assert pipeline.train(Run(tiny_config(photos, tmp_path, train__epochs="0"))).fit.steps == 2 * (2 + 1)


@pytest.mark.parametrize("recipe", ALL)
def test_recipes_say_where_score_and_cost_stand(recipe: str) -> None:
    head = [line for line in recipes()[recipe].read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert "docs/results.md" in " ".join(head)
