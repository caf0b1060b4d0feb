"""The stage `first_look` on a tiny run, and training that starts from it and cannot lose."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from cti import pipeline
from cti.apps.summary import summary
from cti.config import Config, ModelConfig, RuntimeConfig, SeedsConfig, TrainConfig
from cti.data import Photo
from cti.data.batches import normalised
from cti.data.images import MaskFile, save_mask
from cti.data.seed_file import Seed, read_seed
from cti.evaluate.wrong_tags import read_tag_logits
from cti.first_look import stage
from cti.first_look.features import extract_features
from cti.first_look.locator import locate
from cti.first_look.stage import FirstLook, extents_of, first_look, small_sentence
from cti.method.checkpoint import load_model
from cti.run import Run
from cti.seeds.maps import batch_maps
from cti.train.keep import BestNetwork, Judge
from cti.train.stage import TrainResult, _score_tags
from cti.train.tagging import positive_weights
from tiny import tiny_config, tiny_model, tiny_shapes

WARM = {"train__warm_start": "on"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_shapes(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tiny_config(photos, tmp_path_factory.mktemp("runs") / "run", **WARM))
    pipeline.train(run)
    return run


def test_classes_that_cover_few_patches_are_named_with_what_to_try() -> None:
    """Half of the maximum and less is not the class; 5 patches are enough; at photos' own sizes nothing is said."""

    def seed(*patches: int) -> Seed:
        maps = np.full((len(patches), 4, 6), 0.2, np.float32)
        for row, count in zip(maps, patches, strict=True):
            row.flat[:count] = 0.41
            row.flat[0] = 0.8  # 0.41 is above half of it
        return Seed(tuple(range(len(patches))), (40, 60), maps, None)

    extents = extents_of([seed(1, 5), seed(3, 5), seed(9, 20)], ("dot", "disc", "none"))
    assert extents == {"dot": 3.0, "disc": 5.0}
    said = small_sentence(extents, 336)
    assert "dot (3)." in said
    assert "disc" not in said
    assert "--long-side 504 shows" in said
    assert small_sentence({"disc": 5.0}, 336) == small_sentence(extents, 0) == ""


@pytest.mark.parametrize(("most", "size"), [(48, (8, 6)), (47, (4, 3))])
def test_large_photos_are_drawn_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, size: Any) -> None:
    """With the true mask at the same size, without new values; the seed is shown as it is."""
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(stage, "_MOST_SHOWN", most)
    monkeypatch.setattr(stage, "_SHOWN", 4)
    monkeypatch.setattr(
        stage, "panel_row", lambda image, classes, masks, **more: drawn.update(image=image, **masks, **more)
    )
    Image.new("RGB", (8, 6), "red").save(tmp_path / "a.png")
    truth = np.repeat(np.array([[0, 5, 0, 5]], np.uint8), 6, axis=0).repeat(2, axis=1)
    save_mask(tmp_path / "truth.png", truth)
    mask = MaskFile(tmp_path / "truth.png", 6, bytes(range(256)))
    maps = np.random.default_rng(0).random((1, 2, 2)).astype(np.float32)
    seed = Seed((1,), (6, 8), maps, maps[0])
    stage._panel(Photo("a", tmp_path / "a.png", (1,), mask), seed, ("x", "y"))
    assert drawn["image"].size == size
    np.testing.assert_array_equal(
        drawn["truth"], np.repeat([[0, 5, 0, 5]], size[1], axis=0).repeat(size[0] // 4, axis=1)
    )
    assert drawn["cams"].shape == (1, size[1], size[0])
    assert drawn["background_cam"].shape == (size[1], size[0])
    assert (drawn["name"], drawn["class_indices"]) == ("a", (1,))


def test_first_maps_are_those_of_photo_and_mirror_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At one scale in float32, whatever is asked for later; large photos window by window."""
    model = tiny_model(patch_features="two").eval()
    photos = []
    for name, size in (("small", (32, 24)), ("large", (96, 32))):
        pixels = np.random.default_rng(len(name)).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        photos.append(Photo(name, tmp_path / f"{name}.png", (0, 2)))
    config = Config(seeds=SeedsConfig(window=32, scales=(2.0,), flip=False, kinds=("refined",)))
    config = replace(config, runtime=RuntimeConfig(workers=0))
    given: list[Any] = []

    def windowed(model: Any, image: Any, seen: Any, tags: Any, config: Any) -> dict[str, torch.Tensor]:
        given.append((image.size, seen.window, tags, config))
        return {"located": torch.ones(3, 4, 12)}

    monkeypatch.setattr(stage, "windowed_maps", windowed)
    made = stage.first_seeds(model, photos, cast(Run, SimpleNamespace(config=config)))
    seeds = {photo.id: seed for photo, seed in made}
    image = normalised(photos[0].load(), model.mean, model.std)[None]
    expected = batch_maps(model, image, [(0, 2)], ("located",))["located"][0]
    torch.testing.assert_close(torch.from_numpy(seeds["small"].maps), expected[:2])
    assert (seeds["small"].size, seeds["large"].size) == ((24, 32), (32, 96))
    assert seeds["large"].maps.shape == (2, 4, 12)
    ((size, window, tags, used),) = given
    assert (size, window, tags) == ((96, 32), 32, (0, 2))
    assert (used.kinds, used.scales, used.flip, used.precision) == (("located",), (1.0,), True, "32")


def test_what_is_said_of_a_first_look(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    look = run.result("first_look", FirstLook)
    assert look is not None
    caplog.set_level("INFO")
    stage._say(
        replace(look, seconds=12.3, tag_map=0.5, stand_out=("a", "b"), extents={"a": 1.0}, remarks=("Odd.",)), 100
    )
    assert f"First look after 12 s: tag mAP 0.500; {look.picture}" in caplog.text
    assert "what differs from photos without any class: a, b" in caplog.text
    assert "a (1). --long-side 150" in caplog.text
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == ["Odd."]
    caplog.clear()
    stage._say(replace(look, tag_map=None, stand_out=(), extents={}, remarks=()), 100)
    assert len(caplog.records) == 1
    assert "no class occurs among the photos held out" in caplog.text


def test_a_first_look_leaves_a_network_seeds_and_a_picture(run: Run) -> None:
    look = run.result("first_look", FirstLook)
    assert look is not None
    assert look.photos == 9
    assert look.tag_map == look.tags.mean_average_precision
    assert look.seconds > 0
    folder = run.stage_folder("first_look")
    assert Path(look.picture).is_file()
    assert {path.stem for path in (folder / "seeds").glob("*.npz")} == {photo.id for photo in run.photos.lists["val"]}
    model, description = load_model(folder)
    assert model.classes == look.classes
    assert description["tag_thresholds"] == look.tags.thresholds


def test_the_networks_tags_are_those_of_the_head(run: Run) -> None:
    """What training starts from scores as the look says."""
    from cti.evaluate.tags import score_tags
    from cti.train.tagging import labels_of

    look = run.result("first_look", FirstLook)
    assert look is not None
    model, _ = load_model(run.stage_folder("first_look"))
    held_out = run.photos.lists["val"]
    from cti.data.batches import load_batches, size_batches

    logits = {}
    for batch, images in load_batches(size_batches(held_out, 0, 8, 4), model.mean, model.std, run.config.runtime):
        with torch.inference_mode():
            rows = model(images).patch_logits
        logits |= {photo.id: row for photo, row in zip(batch.photos, rows, strict=True)}
    found = score_tags(torch.stack([logits[photo.id] for photo in held_out]), labels_of(held_out, 6), look.classes)
    assert found.average_precision == look.tags.average_precision


def test_training_says_what_it_is_measured_against(run: Run) -> None:
    look, result = run.result("first_look", FirstLook), run.result("train", TrainResult)
    assert look is not None
    assert result is not None
    assert result.linear_tag_map == look.tag_map
    assert result.tags is not None
    _, description = load_model(run.stage_folder("train"))
    assert description["tag_thresholds"] == result.tags.thresholds
    assert (result.classes, result.photos, result.notes) == (look.classes, 9, run.photos.notes)
    for stage_name, names in (("train", ("val",)), ("first_look", ("train", "val"))):
        known = read_tag_logits(run.stage_folder(stage_name))
        assert list(known) == [photo.id for name in names for photo in run.photos.lists[name]]
    if not result.kept:
        assert result.tags.mean_average_precision >= result.linear_tag_map


def test_a_trained_networks_locator_is_fitted_to_its_own_features(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features move in training, so what the first look has fitted no longer holds."""
    monkeypatch.setattr("cti.train.stage.CLEARLY", 1.0)  # what is trained here is kept, however bad
    monkeypatch.setattr(BestNetwork, "settle", lambda *_: "")
    run = Run(tiny_config(photos, tmp_path / "run", **WARM, model__patch_features="two"))
    pipeline.train(run)
    model, _ = load_model(run.stage_folder("train"))
    again, _ = load_model(run.stage_folder("train"))
    train = run.photos.lists["train"]
    locate(again.eval(), extract_features(again, train, run.config.seeds, run.config.runtime), train)
    assert bool(model.tag_head.weight.any())
    torch.testing.assert_close(model.state_dict(), again.state_dict(), rtol=1e-4, atol=1e-4)
    start, _ = load_model(run.stage_folder("first_look"))
    assert not torch.allclose(model.locator.means, start.locator.means, rtol=1e-4)


def test_without_weights_there_is_no_first_look(photos: Path, tmp_path: Path) -> None:
    assert first_look(Run(tiny_config(photos, tmp_path / "run"))) is None
    assert not (tmp_path / "run").exists()


def test_training_for_longer_looks_no_second_time(run: Run) -> None:
    config = tiny_config(Path(run.config.data.root), run.folder, train__epochs="7", **WARM)
    before = (run.stage_folder("first_look") / "manifest.json").stat().st_mtime_ns
    assert first_look(Run(config)) == run.result("first_look", FirstLook)
    assert (run.stage_folder("first_look") / "manifest.json").stat().st_mtime_ns == before


def test_a_network_that_falls_below_the_head_is_not_kept(run: Run, tmp_path: Path) -> None:
    start, trained = run.stage_folder("first_look"), run.stage_folder("train")
    good, _ = load_model(trained)
    best = BestNetwork(tmp_path / "best", start, baseline=0.8)
    assert best.judge(good, 0, 0.85) == ""
    bad, _ = load_model(trained)
    with torch.no_grad():
        bad.patch_head.weight.zero_()
    assert best.judge(bad, 1, 0.79) == ""  # below, but not clearly
    assert "clearly below the 0.800 of the linear head" in best.judge(bad, 2, 0.5)
    assert best.settle(bad, 0.9) == ""
    assert "the network of epoch 1 (0.850) is kept" in best.settle(bad, 0.5)
    torch.testing.assert_close(bad.state_dict(), good.state_dict())
    never = BestNetwork(tmp_path / "other", start, baseline=0.8)
    assert "the network of the start" in never.settle(bad, 0.5)
    torch.testing.assert_close(bad.state_dict(), load_model(start)[0].state_dict())
    assert BestNetwork(tmp_path / "none", start, None).settle(bad, 0.1) == ""


@pytest.mark.parametrize(("keep", "changes"), [("better", False), ("last", True)])
def test_a_training_that_loses_is_kept_only_where_that_was_asked_for(
    photos: Path, tmp_path: Path, keep: str, changes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ruin = {"train__lr": "10", "train__warmup_epochs": "0", "train__clip": "0"}
    run = Run(tiny_config(photos, tmp_path / "run", **WARM, **ruin, train__keep=keep))
    result = pipeline.train(run)
    start, trained = (load_model(run.stage_folder(stage))[0] for stage in ("first_look", "train"))
    assert torch.equal(start.patch_head.weight, trained.patch_head.weight) is not changes
    assert bool(result.kept) is not changes
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert (result.kept in warned) is not changes


def test_nothing_is_trained_where_the_first_look_is_enough(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run = Run(tiny_config(photos, tmp_path / "run", train__warm_start="only"))
    result = pipeline.train(run)
    assert result.fit.steps == 0
    assert "Nothing was trained" in result.kept
    assert [record.levelname for record in caplog.records if record.message == result.kept] == ["INFO"]
    start, trained = (load_model(run.stage_folder(stage))[0].state_dict() for stage in ("first_look", "train"))
    assert all(torch.equal(start[name], trained[name]) for name in start)
    assert result.tags is not None
    assert result.tags.mean_average_precision is not None
    # That is the usual way, so that it is no doubt, and one score is not said as two.
    look = run.result("first_look", FirstLook)
    lines = "\n".join(summary(run.config, {"first_look": look, "train": result}))
    assert "tag mAP of the first look" in lines
    assert "trained network" not in lines
    assert "Nothing was trained" not in lines
    # So settings of a training change nothing, whatever is made from its network.
    only = {"train__warm_start": "only"}
    other = {"train__epochs": "7", "train__lr": "1", "method__intra_weight": "9"}
    assert Run(tiny_config(photos, tmp_path / "run", **only, **other)).fits("train")
    assert not Run(tiny_config(photos, tmp_path / "run", **only, train__seed="1")).fits("train")
    assert not Run(tiny_config(photos, tmp_path / "run", train__warm_start="on")).fits("train")
    assert not Run(tiny_config(photos, tmp_path / "run", **only, model__image_size="64")).fits("train")


def test_a_network_that_is_clearly_worse_in_the_end_is_not_kept(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What counts is the score of the whole network, which is known only when the locator is fitted once more."""
    scored: list[Any] = []

    def ruined(model: Any, run: Run, folder: Path) -> Any:
        if not scored:
            model.patch_head.weight.data.zero_()
        scored.append(_score_tags(model, run, folder))
        return scored[-1]

    monkeypatch.setattr("cti.train.stage._score_tags", ruined)
    monkeypatch.setattr("cti.train.stage._clearly_below", lambda tag_map, other: True)
    run = Run(tiny_config(photos, tmp_path / "run", train__warm_start="only"))
    result = pipeline.train(run)
    look = run.result("first_look", FirstLook)
    assert look is not None
    start, trained = (load_model(run.stage_folder(name))[0] for name in ("first_look", "train"))
    assert torch.equal(start.patch_head.weight, trained.patch_head.weight)
    assert result.tags == scored[1] != scored[0]
    assert result.kept.endswith(f"clearly below the first look's {look.tag_map:.3f}; the first look's network is kept.")
    assert [record.message for record in caplog.records if record.levelname == "WARNING"][-1] == result.kept


def test_large_photos_are_looked_at_by_windows(photos: Path, tmp_path: Path) -> None:
    run = Run(tiny_config(photos, tmp_path / "run", **WARM, seeds__window="16", model__patch_features="two"))
    look = first_look(run)
    assert look is not None
    seeds = sorted((run.stage_folder("first_look") / "seeds").glob("*.npz"))
    assert len(seeds) == 3
    for path in seeds:
        seed = read_seed(path)
        assert seed.maps.shape[1:] == (4, 4)  # of 32 pixels, in windows of 2 x 2 patches
        assert np.isfinite(seed.maps).all()
    assert Path(look.picture).is_file()


def test_frozen_blocks_stay_as_they_were(photos: Path, tmp_path: Path) -> None:
    run = Run(tiny_config(photos, tmp_path / "run", **WARM, train__frozen_blocks="1"))
    pipeline.train(run)
    start = load_model(run.stage_folder("first_look"))[0].state_dict()
    state = torch.load(run.stage_folder("train") / "state.pt", weights_only=True)["module"]  # whichever network is kept
    backbone = [name for name in start if name.startswith("backbone.")]
    moved = [name for name in backbone if not torch.equal(start[name], state[f"model.{name}"])]
    assert moved
    frozen = ("backbone.patch_embed", "backbone.pos_embed", "backbone.blocks.0.")
    assert not any(name.startswith(frozen) for name in moved)
    too_many = Run(tiny_config(photos, tmp_path / "other", **WARM, train__frozen_blocks="99"))
    with pytest.raises(ValueError, match=r"train\.frozen_blocks is 99, but the backbone has"):
        pipeline.train(too_many)


@pytest.mark.parametrize(
    ("start", "weights", "looked", "enough"),
    [
        ("enough", "timm", True, True),
        ("enough", "none", False, False),  # random weights know nothing: they are trained
        ("only", "none", True, True),
        ("on", "none", True, False),
        ("auto", "timm", True, False),
        ("auto", "none", False, False),
        ("off", "timm", False, False),
    ],
)
def test_when_the_first_look_is_taken_and_when_it_is_enough(
    start: Any, weights: str, looked: bool, enough: bool
) -> None:
    config = Config(model=ModelConfig(weights=weights), train=TrainConfig(warm_start=start))
    assert (config.looks_first, config.look_is_enough) == (looked, enough)


def test_a_trained_network_is_summed_up_with_its_score(run: Run) -> None:
    trained = run.result("train", TrainResult)
    assert trained is not None
    lines = "\n".join(summary(run.config, {"train": replace(trained, kept="It fell below the first look.")}))
    assert "tag mAP of the trained network" in lines
    assert "It fell below the first look." in lines


class _Stop(Exception):
    pass


@pytest.mark.parametrize(("warm", "keep"), [("on", "better"), ("on", "last"), ("off", "better")])
def test_what_the_training_loop_is_given(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm: str, keep: str
) -> None:
    """Photos, settings of views and losses, and a judge that knows the linear head, where it may not fall below."""
    given: dict[str, Any] = {}

    def watched(
        step: Any, dataset: Any, config: Any, folder: Any, groups: Any, runtime: Any, judge: Any, **more: Any
    ) -> None:
        given.update(step=step, dataset=dataset, config=config, folder=folder, runtime=runtime, judge=judge, **more)
        raise _Stop

    monkeypatch.setattr("cti.train.stage.fit", watched)
    settings = {"method__positive_weight": "0.5", "method__crop_scale": "[0.5, 0.9]", "method__cross_weight": "0.7"}
    more = {"train__warm_start": warm, "train__keep": keep, "train__seed": "9", "train__recompute": "true"}
    run = Run(tiny_config(photos, tmp_path / "run", model__patch_features="two", **settings, **more))
    with pytest.raises(_Stop):
        pipeline.train(run)
    config, train, val = run.config, run.photos.lists["train"], run.photos.lists["val"]
    step, dataset, judge = given["step"], given["dataset"], given["judge"]
    assert (given["config"], given["runtime"]) == (config.train, config.runtime)
    assert given["folder"] == run.stage_folder("train")
    assert given["warm"] is (warm == "on")
    assert (dataset.photos, dataset.num_classes, dataset.seed) == (train, len(run.photos.classes), 9)
    assert (dataset.views.crop_scale, dataset.views.image_size) == ((0.5, 0.9), 32)
    assert step.config == config.method
    torch.testing.assert_close(step.positive_weight, positive_weights(train, len(run.photos.classes), 0.5))
    assert step.model.recompute
    assert isinstance(judge, Judge)
    assert (judge.photos, judge.seeds, judge.runtime) == (val, config.seeds, config.runtime)
    assert judge.model is step.model
    look = run.result("first_look", FirstLook)
    assert judge.best.baseline == (look.linear_tag_map if look is not None and keep == "better" else None)
    assert judge.best.start == run.stage_folder("first_look")
    assert step.model.tag_head is not None
    assert not step.model.tag_head.weight.any()  # what is trained answers for the tags until it is fitted again


def test_a_network_that_starts_at_random_depends_on_the_seed_alone(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[dict[str, torch.Tensor]] = []

    def watched(step: Any, *_: Any, **__: Any) -> None:
        begun.append({name: value.clone() for name, value in step.model.state_dict().items()})
        raise _Stop

    monkeypatch.setattr("cti.train.stage.fit", watched)
    for number, seed in enumerate(("3", "3", "4")):
        torch.manual_seed(number)
        with pytest.raises(_Stop):
            pipeline.train(Run(tiny_config(photos, tmp_path / str(number), train__seed=seed)))
    first, again, other = begun
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["patch_head.weight"], other["patch_head.weight"])


def test_the_split_is_written_beside_the_network(run: Run) -> None:
    for name in ("train", "val"):
        written = (run.stage_folder("train") / "lists" / f"{name}.txt").read_text().split()
        assert written == [photo.id for photo in run.photos.lists[name]]
