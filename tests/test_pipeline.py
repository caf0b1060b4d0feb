"""All stages on a tiny rendered set: what they leave, that they are not done twice, and life without masks."""

import csv
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cti import pipeline
from cti.config import Config
from cti.data import load_mask
from cti.data.readers.shapes import SHAPES_CLASSES
from cti.data.seed_file import read_seed
from cti.evaluate.scores import ListScores
from cti.files import read_manifest, to_json
from cti.method.checkpoint import load_model
from cti.run import Run
from cti.segment.checkpoint import load_segmenter
from cti.segment.networks import ViTSegmenter
from tiny import tiny_config, tiny_shapes

STAGES = ("train", "seeds", "masks", "segment", "evaluate")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_shapes(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="module")
def config(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny_config(photos, tmp_path_factory.mktemp("runs") / "run", seeds__predicted_tags="[val]")


@pytest.fixture(scope="module")
def results(config: Config) -> dict[str, Any]:
    return pipeline.run(config)


def test_every_stage_is_finished(config: Config, results: dict[str, Any]) -> None:
    assert tuple(results) == STAGES
    for name in STAGES:
        manifest = read_manifest(Path(config.out) / name)
        assert manifest is not None
        assert manifest["result"] == to_json(results[name])


def test_the_time_left_follows_from_what_the_stages_took() -> None:
    assert pipeline.time_left(30, ["first_look"], ["train", "seeds"]) == ""  # too early to tell
    # 51 % took 510 s, so the other 49 % take 490 s
    done, left = ["first_look", "train"], ["seeds", "masks", "segment", "evaluate", "report"]
    assert pipeline.time_left(510, done, left) == ", about 8 minutes left in all"
    assert pipeline.time_left(510, done, ["seeds"]) == ", about a minute left in all"
    done, left = ["first_look", "train", "seeds"], ["masks", "segment", "evaluate", "report"]
    assert pipeline.time_left(70, done, left, idle=["train"]) == ""
    assert pipeline.time_left(120, [*done, "masks"], left[1:], idle=["train"]) == ", about 7 minutes left in all"
    assert set(pipeline.SHARES) == set(pipeline.STAGES)
    assert sum(pipeline.SHARES.values()) == 100


def test_what_the_stages_leave(config: Config, results: dict[str, Any]) -> None:
    run = Path(config.out)
    model, facts = load_model(run / "train")
    assert model.classes == SHAPES_CLASSES
    assert facts["tag_thresholds"].keys() == set(SHAPES_CLASSES)
    names = {f"shapes_{index:05d}" for index in range(12)}
    assert {path.stem for path in (run / "seeds").glob("*.npz")} == names
    assert len(list((run / "seeds" / "predicted").glob("*.npz"))) == 3
    assert results["masks"].photos == 12  # those held out have tags, too
    assert {path.stem for path in (run / "masks" / "pseudo").glob("*.png")} == names
    assert {path.stem for path in (run / "masks").glob("*.png")} == names
    assert {path.stem for path in (run / "segment" / "predictions" / "single").glob("*.png")} == names
    assert (run / "train" / "lists" / "val.txt").read_text().split() == _list(config, "val")
    assert not [path for path in run.rglob("*") if ".tmp" in path.name]


def test_another_way_to_predict_is_added_without_training_again(
    config: Config, results: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(config.out, tmp_path / "run")
    more = replace(
        config,
        out=str(tmp_path / "run"),
        predict=replace(config.predict, variants=("single", "multi-scale"), lists=("val",)),
    )
    state = tmp_path / "run" / "segment" / "state.pt"
    trained_at = state.stat().st_mtime_ns
    result = pipeline.segment(Run(more))
    assert state.stat().st_mtime_ns == trained_at
    assert result == results["segment"]
    added = tmp_path / "run" / "segment" / "predictions" / "multi-scale"
    assert {path.stem for path in added.glob("*.png")} == set(_list(config, "val"))


def test_a_segmenter_learns_on_from_the_runs_own_network(
    photos: Path, config: Config, results: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(config.out, run, ignore=shutil.ignore_patterns("segment"))
    still = {"segment__train__lr": "1e-12", "segment__weights": "run"}
    pipeline.segment(Run(tiny_config(photos, run, seeds__predicted_tags="[val]", **still)))
    model, _ = load_model(run / "train")
    network = load_segmenter(run / "segment").network
    assert isinstance(network, ViTSegmenter)
    assert len(network.encoder.blocks) == model.depth != config.segment.depth  # whatever `segment` says
    torch.testing.assert_close(network.encoder.blocks.state_dict(), model.backbone.blocks.state_dict())
    # In place of a CLS token it has all class tokens' mean, the background's included.
    torch.testing.assert_close(network.cls_token, model.class_tokens().mean(dim=1, keepdim=True))


@pytest.mark.parametrize(
    "setting", [{"masks__steps": "[pamr, crf]"}, {"predict__variants": "[single, single+crf]"}], ids=str
)
def test_a_missing_extra_is_said_before_anything_is_trained(
    photos: Path, tmp_path: Path, setting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(ModuleNotFoundError, match=r"cti\[crf\]"):
        pipeline.run(tiny_config(photos, tmp_path / "run", **setting))
    assert not (tmp_path / "run" / "train").exists()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"segment__frozen_blocks": "9"}, "frozen_blocks is 9"),
        ({"segment__weights": "run", "segment__frozen_blocks": "9"}, "frozen_blocks is 9"),
        ({"segment__weights": "nowhere.pth"}, r"nowhere\.pth"),
    ],
    ids=str,
)
def test_a_segmenter_that_cannot_be_built_is_said_before_anything_is_trained(
    photos: Path, tmp_path: Path, setting: dict[str, str], sentence: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        pipeline.run(tiny_config(photos, tmp_path / "run", **setting))
    assert not (tmp_path / "run" / "train").exists()


def test_seeds_are_of_the_tagged_classes(config: Config, results: dict[str, Any]) -> None:
    with (Path(config.data.root) / "labels.csv").open(newline="") as handle:
        for row in csv.DictReader(handle):
            seed = read_seed(Path(config.out) / "seeds" / f"{Path(row['image']).stem}.npz")
            assert {SHAPES_CLASSES[index] for index in seed.class_indices} == set(row["tags"].split())
            assert seed.size == (32, 32)


def test_pseudo_masks_show_tagged_classes_only(config: Config, results: dict[str, Any]) -> None:
    for path in (Path(config.out) / "masks" / "pseudo").glob("*.png"):
        seed = read_seed(Path(config.out) / "seeds" / f"{path.stem}.npz")
        assert set(np.unique(load_mask(path))) <= {0, 255, *(index + 1 for index in seed.class_indices)}


def test_scores_of_everything(config: Config, results: dict[str, Any]) -> None:
    lists = results["evaluate"].lists
    assert lists.keys() == {"score", "val"}
    for scores in lists.values():
        assert scores.seeds.keys() == {"refined", "fused", "patch"}
        for kind in scores.seeds.values():
            assert 0 <= kind.fixed.miou <= kind.best.miou <= 1
            assert kind.baselines
        assert 0 <= scores.segment["single"].as_background.miou <= 1
        assert scores.pseudo_masks is not None
        assert scores.masks is not None
        assert scores.masks.coverage == 1
    assert lists["val"].seeds_predicted_tags
    with Image.open(results["evaluate"].picture) as picture:
        assert min(picture.size) > 100


def test_a_second_call_does_nothing(
    config: Config, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("a finished stage was done again")

    for place in ("train.stage.fit", "seeds.stage.extract_seeds", "masks.stage.refine", "segment.stage.make_masks",
                  "evaluate.stage.score_run"):  # fmt: skip
        monkeypatch.setattr(f"cti.{place}", never)
    before = {path: path.stat().st_mtime_ns for path in Path(config.out).rglob("*") if path.is_file()}
    again = pipeline.run(config)
    assert to_json(again) == to_json(results)
    assert {path: path.stat().st_mtime_ns for path in Path(config.out).rglob("*") if path.is_file()} == before


def test_scores_are_taken_again_when_asked_otherwise(photos: Path, config: Config, results: dict[str, Any]) -> None:
    higher = tiny_config(photos, Path(config.out), seeds__predicted_tags="[val]", evaluate__threshold="0.9")
    seeds = pipeline.evaluate(Run(higher)).lists["val"].seeds["refined"]
    assert seeds.threshold == pytest.approx(0.9)
    assert pipeline.evaluate(Run(config)) == results["evaluate"]


def test_another_learning_rate_in_the_same_folder_is_refused(
    photos: Path, config: Config, results: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"train\.lr: 0\.001 there, 0\.1 now"):
        pipeline.run(tiny_config(photos, Path(config.out), train__lr="0.1"))


def test_other_photos_in_the_same_folder_are_refused(config: Config, results: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\(4 photos added, 5 in another list\)"):
        pipeline.train(Run(tiny_config(tiny_shapes(tmp_path / "shapes", count=16), Path(config.out))))


@pytest.mark.parametrize(
    ("stage", "sentence"),
    [("seeds", "run `cti train` first"), ("masks", "`cti seeds`"), ("segment", "`cti masks`")],
)
def test_stages_out_of_turn_say_what_comes_first(photos: Path, stage: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        pipeline.STAGES[stage](Run(tiny_config(photos, tmp_path)))


def test_photos_of_ones_own_without_masks(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder and labels.csv, found by CTI_DATA: no lists, no classes.txt, no masks, odd names."""
    mine = tmp_path / "mine"
    (mine / "garden party").mkdir(parents=True)
    rows = [["image", "tags"]]
    with (photos / "labels.csv").open(newline="") as handle:
        for number, row in enumerate(csv.DictReader(handle)):
            name = f"garden party/IMG {number}.PNG"
            shutil.copyfile(photos / "images" / row["image"], mine / name)
            rows.append([name, row["tags"].replace(" ", ";")])
    with (mine / "labels.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    monkeypatch.setenv("CTI_DATA", str(mine))
    config = tiny_config(Path(), tmp_path / "run", data__root="", data__val_fraction="0.25")
    results = pipeline.run(config)
    (scores,) = results["evaluate"].lists.values()  # of photos held out
    assert scores == ListScores(segment_tags=scores.segment_tags)
    assert scores.segment_tags.mean_average_precision is not None
    assert "have no masks, so nothing is scored" in caplog.text
    assert Path(results["evaluate"].picture).is_file()
    assert results["train"].tags.mean_average_precision is not None
    predictions = (tmp_path / "run" / "segment" / "predictions" / "single").glob("*.png")
    assert {path.stem for path in predictions} == {f"garden party__IMG {number}" for number in range(12)}
    held_out = (tmp_path / "run" / "train" / "lists" / "val.txt").read_text().splitlines()
    assert len(held_out) == 4  # not 3, a quarter of 12: every class is held out once
    assert {path.stem for path in (tmp_path / "run" / "masks").glob("*.png")} >= set(held_out)


@pytest.mark.data
def test_smoke_run_on_a_few_real_photos(animals_root: Path, distilled_weights: Path, tmp_path: Path) -> None:
    """Every stage of the recipe `voc12-animals` on 8 real photos and the real weights, for one epoch of small crops."""
    lists = {}
    for name, count in (("train", 6), ("val", 2)):
        listed = (animals_root / "ImageSets" / "Segmentation" / f"{name}.txt").read_text().split()
        lists[name] = listed[:count]
    root = tmp_path / "photos"
    for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClassAug", "png")):
        (root / folder).mkdir(parents=True)
        for photo in (*lists["train"], *lists["val"]):
            (root / folder / f"{photo}.{suffix}").symlink_to(animals_root / folder / f"{photo}.{suffix}")
    for name in ("labels.csv", "classes.txt"):
        shutil.copyfile(animals_root / name, root / name)
    for name, listed in lists.items():
        path = root / "ImageSets" / "Segmentation" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(listed) + "\n")
    size = {"model__image_size": "112", "seeds__long_side": "224"}
    vit = {"backbone": "vit_small_patch14_dinov2", "weights": str(distilled_weights)}
    networks = {f"{part}__{name}": value for part in ("model", "segment") for name, value in vit.items()}
    more = {
        "data__train": "train",
        "segment__crop_size": "112",
        "segment__long_side": "224",
        "evaluate__bootstrap": "0",
    }
    more |= {"masks__steps": "[affinity]"}  # the recipe's own step is an extra that needs a compiler
    config = tiny_config(root, tmp_path / "run", "voc12-animals", **networks, **size, **more)
    scores = pipeline.run(config)["evaluate"]
    for name in ("score", "val"):
        assert 0 < scores.lists[name].seeds["refined"].best.miou <= 1
    assert scores.lists["score"].masks is not None
    assert scores.lists["val"].segment
    assert Path(scores.picture).is_file()


def _list(config: Config, name: str) -> list[str]:
    return (Path(config.data.root) / "lists" / f"{name}.txt").read_text().split()
