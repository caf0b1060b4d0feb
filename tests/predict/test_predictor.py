"""The predictor against the stages that it must agree with, and everything a user may hand to it."""

import dataclasses
import itertools
import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from cti import Prediction, Predictor
from cti.apps.web.cards import Desk
from cti.classes import voc_palette
from cti.config import CrfConfig, PredictConfig, RuntimeConfig, SeedsConfig
from cti.data import Photo, load_image, load_mask
from cti.data.batches import network_input
from cti.data.seed_file import read_seed, to_cams
from cti.evaluate.labels import label_pixels
from cti.files import write_manifest
from cti.method import CTI
from cti.predict.cti import CTIAnalyser
from cti.seeds.maps import scaled_maps
from cti.segment.predict import predict_mask, predict_probabilities
from cti.train.tagging import tag_logits
from tiny import RUN_CLASSES as CLASSES
from tiny import SIZES, THRESHOLD, UNLISTED, make_run, tiny_cti


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("predictor"))


@pytest.fixture(scope="module")
def photos(run: Path) -> Path:
    return run.parent / "photos" / "images"


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return Predictor.from_pretrained(run, use="cti")


@pytest.fixture(scope="module")
def segmenter(run: Path) -> Predictor:
    return Predictor.from_pretrained(run, use="segmenter")


@pytest.fixture
def prediction(predictor: Predictor, photos: Path) -> Prediction:
    return predictor(photos / "p0.jpg", tags=["dog", "cat"])


def test_maps_are_the_seeds_of_the_stage(predictor: Predictor, run: Path, photos: Path) -> None:
    for number in range(len(SIZES)):
        seed = read_seed(run / "seeds" / f"p{number}.npz")
        tags = [CLASSES[index] for index in seed.class_indices]
        prediction = predictor(photos / f"p{number}.jpg", tags=tags)
        assert prediction.class_indices == seed.class_indices
        assert prediction.size == SIZES[number] == seed.size
        # Seed files hold half precision, 1/2048 of a map's range.
        np.testing.assert_allclose(prediction.cams, seed.cams().numpy(), atol=3e-3)
        np.testing.assert_allclose(prediction.background_cam, seed.background_cam().numpy(), atol=3e-3)
        expected = label_pixels(prediction.cams, seed.class_indices, THRESHOLD)
        np.testing.assert_array_equal(prediction.mask, expected)
        near = np.abs(seed.cams().numpy().max(axis=0) - THRESHOLD) < 3e-3
        stored = label_pixels(seed.cams(), seed.class_indices, THRESHOLD)
        assert (near | (stored == prediction.mask)).mean() > 0.995  # two classes may be as near to each other


def test_located_maps_are_shared_out_among_the_tags_asked_for() -> None:
    """As the stage `seeds` shares them out among a photo's own, whichever other classes the network knows."""
    torch.manual_seed(0)
    network = CTI(
        ["a", "b", "c"], "vit", False, image_size=32, embed_dim=16, depth=4, num_heads=2, infusion_index=1,
        patch_features="two",
    ).eval()  # fmt: skip
    assert network.locator is not None
    torch.nn.init.normal_(network.locator.means)
    network.locator.whiten.copy_(torch.eye(16).expand(4, 16, 16))
    seeds = SeedsConfig(kinds=("located",))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8))
    analysis = CTIAnalyser(network, {}, seeds, 0.25).analyse([image], [""])[0]
    seen = network_input(image, (32, 48), network.mean, network.std)
    for tags, indices in ((["c"], (2,)), (["a", "c"], (0, 2)), ([], ())):
        expected = scaled_maps(network, seen[None], [indices], seeds)["located"][0]
        prediction = analysis.predict(tags)
        np.testing.assert_allclose(prediction.cams, to_cams(expected[:-1], (32, 48)), atol=1e-5)
        assert prediction.background_cam is not None
        np.testing.assert_allclose(prediction.background_cam, to_cams(expected[-1:], (32, 48))[0], atol=1e-5)


def test_scores_and_predicted_tags_are_those_the_thresholds_were_chosen_on(predictor: Predictor, photos: Path) -> None:
    names = ["p0", "p1", "p2", "p3"]
    listed = [Photo(name, photos / f"{name}.jpg", ()) for name in names]
    seeds = SeedsConfig(long_side=48)  # as the run's
    logits = tag_logits(tiny_cti(), listed, seeds, RuntimeConfig(workers=0))
    for photo, row in zip(listed, logits, strict=True):
        prediction = predictor(photo.image)
        expected = torch.from_numpy(row).sigmoid().tolist()
        assert list(prediction.scores) == list(CLASSES)
        assert list(prediction.scores.values()) == pytest.approx(expected, abs=1e-6)
        thresholds = {"cat": 0.1, "dog": -0.1, "sofa": 0.0}
        own = torch.logit(torch.tensor(list(prediction.scores.values())))
        assert prediction.tags == tuple(
            name for name, logit in zip(CLASSES, own, strict=True) if logit > thresholds[name]
        )
        assert set(np.unique(prediction.mask)) <= {0, *(index + 1 for index in prediction.class_indices)}
    assert len(predictor.classes) == 3


def test_thresholds_decide_which_classes_are_predicted(predictor: Predictor, photos: Path) -> None:
    strict, lax = (dict.fromkeys(CLASSES, value) for value in (1e6, -1e6))
    for thresholds, expected in ((strict, ()), (lax, CLASSES)):
        analyser = dataclasses.replace(predictor.analyser, tag_thresholds=thresholds)
        prediction = Predictor(analyser)(photos / "p0.jpg")
        assert prediction.tags == expected
        assert prediction.cams.shape == (len(expected), *SIZES[0])
    assert Predictor(dataclasses.replace(predictor.analyser, tag_thresholds=strict))(photos / "p0.jpg").mask.max() == 0


def test_the_score_of_a_segmenters_class_must_exceed_its_threshold(segmenter: Predictor, photos: Path) -> None:
    prediction = segmenter(photos / "p0.jpg")
    name = prediction.tags[0]
    for below, found in ((0.0, False), (1e-4, True)):
        thresholds = {name: prediction.scores[name] - below}
        limited = Predictor(dataclasses.replace(segmenter.analyser, tag_thresholds=thresholds))
        assert (name in limited(photos / "p0.jpg").tags) is found


def test_a_batch_of_different_sizes_is_each_photo_by_itself(predictor: Predictor, photos: Path) -> None:
    paths = [photos / f"p{number}.jpg" for number in range(3)]
    together = predictor([paths[0], str(paths[1]), Image.open(paths[2])], tags=["cat"])
    assert [prediction.size for prediction in together] == list(SIZES[:3])
    for path, prediction in zip(paths, together, strict=True):
        np.testing.assert_array_equal(prediction.mask, predictor(path, tags=["cat"]).mask)
    assert predictor([]) == []


def test_paths_images_and_arrays_say_the_same(predictor: Predictor, photos: Path) -> None:
    path = photos / f"{UNLISTED}.png"
    image = load_image(path)
    grey = image.convert("L")
    expected = predictor(path, tags=["cat"])
    for given in (str(path), image, np.asarray(image), np.asarray(image.convert("RGBA"))):
        np.testing.assert_array_equal(predictor(given, tags=["cat"]).cams, expected.cams)
    np.testing.assert_array_equal(predictor(np.asarray(grey), tags=["cat"]).cams, predictor(grey, tags=["cat"]).cams)
    assert (predictor(path).source, predictor(np.asarray(image)).source) == (str(path), "")


def test_bad_input_gets_one_sentence(predictor: Predictor, photos: Path, tmp_path: Path) -> None:
    photo = photos / "p0.jpg"
    with pytest.raises(ValueError, match="Unknown tag 'zebra'; this network knows cat, dog, sofa"):
        predictor(photo, tags=["cat", "zebra"])
    with pytest.raises(ValueError, match=r"tags is the text 'cat'; .*\['cat'\]"):
        predictor(photo, tags="cat")
    for threshold in (1.5, -0.1, float("nan"), "half"):
        with pytest.raises(ValueError, match="give a number from 0 to 1, or 'free'"):
            predictor(photo, threshold=threshold)
    with pytest.raises(FileNotFoundError, match=r"There is no image .*nowhere.jpg"):
        predictor(tmp_path / "nowhere.jpg")
    (tmp_path / "broken.jpg").write_bytes(photo.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"broken.jpg"):
        predictor(tmp_path / "broken.jpg")
    with pytest.raises(ValueError, match=r"shape \(3, 8, 8\) and type float32 cannot be used"):
        predictor(np.zeros((3, 8, 8), np.float32))


def test_a_prediction_is_frozen_and_changes_without_the_network(prediction: Prediction) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        prediction.threshold = 0.1
    assert prediction.tags == ("cat", "dog")
    assert prediction.with_threshold(1.0).mask.max() == 0
    assert (prediction.with_threshold(0.0).mask > 0).sum() >= (prediction.mask > 0).sum()
    only = prediction.with_tags(["dog"])
    np.testing.assert_array_equal(only.cams[0], prediction.cams[1])
    assert set(np.unique(only.mask)) == {0, 2}
    free = prediction.with_threshold("free")
    np.testing.assert_array_equal(free.mask, label_pixels(free.cams, (0, 1), free.background_cam))
    assert prediction.pixels() == {
        name: int((prediction.mask == value).sum())
        for value, name in enumerate(("background", *CLASSES))
        if (prediction.mask == value).any()
    }


def test_without_a_background_of_its_own_a_threshold_is_needed(predictor: Predictor, photos: Path) -> None:
    analysis = dataclasses.replace(predictor.analyse(photos / "p0.jpg"), background=None)
    assert analysis.predict(["cat"]).background_cam is None
    with pytest.raises(ValueError, match="has no background of its own"):
        analysis.predict(["cat"], "free")


def test_saved_files_read_back(prediction: Prediction, tmp_path: Path) -> None:
    files = prediction.save(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "p0.json", "p0.npz", "p0.png", "p0_overlay.png",
    ]  # fmt: skip
    np.testing.assert_array_equal(load_mask(files["mask"], 3), prediction.mask)
    assert (
        Image.open(files["mask"]).getpalette() == voc_palette().ravel().tolist() == prediction.palette.ravel().tolist()
    )
    assert Image.open(files["overlay"]).size == prediction.size[::-1]
    said = json.loads(files["scores"].read_text())
    assert said["tags"] == ["cat", "dog"]
    assert said["size"] == list(prediction.size)
    assert said["scores"] == pytest.approx(prediction.scores)
    with np.load(files["cams"]) as arrays:
        np.testing.assert_allclose(arrays["cams"], prediction.cams, atol=1e-3)
        assert arrays["class_indices"].tolist() == [0, 1]
        assert arrays["classes"].tolist() == list(CLASSES)
        assert arrays["background_cam"].shape == prediction.size
    assert prediction.save(tmp_path / "out", name="other")["mask"].name == "other.png"


def test_a_photo_from_memory_can_be_saved(predictor: Predictor, tmp_path: Path) -> None:
    predictor(np.zeros((20, 30, 3), np.uint8)).save(tmp_path)
    assert (tmp_path / "image.png").is_file()


def test_a_notebook_shows_overlay_and_legend(prediction: Prediction) -> None:
    half = float(np.median(prediction.cams.max(axis=0)))  # so that both foreground and background are there
    prediction = prediction.analysis.predict(prediction.tags, half)
    picture = Image.open(BytesIO(prediction._repr_png_()))
    height, width = prediction.size
    assert picture.width >= width
    assert picture.height > height  # the legend
    shown = np.asarray(picture.convert("RGB"))[:height, :width]
    np.testing.assert_array_equal(shown, np.asarray(prediction.overlay()))
    below = np.asarray(picture.convert("RGB"))[height:]
    assert len(np.unique(below.reshape(-1, 3), axis=0)) > 2  # colours and their names
    painted = np.abs(shown.astype(int) - np.asarray(prediction.image)).sum(axis=-1) > 0
    assert painted[prediction.mask > 0].mean() > 0.9
    assert not painted[prediction.mask == 0].all()
    nothing = Image.open(BytesIO(prediction.with_tags([])._repr_png_()))
    np.testing.assert_array_equal(np.asarray(nothing), np.asarray(prediction.image))


def test_a_segmenter_predicts_what_the_stage_wrote(segmenter: Predictor, run: Path, photos: Path) -> None:
    for number in range(len(SIZES)):
        prediction = segmenter(photos / f"p{number}.jpg")
        stored = load_mask(run / "segment" / "predictions" / "single" / f"p{number}.png", 3)
        np.testing.assert_array_equal(prediction.mask, stored)
        assert prediction.class_indices == tuple(value - 1 for value in np.unique(stored).tolist() if value)
        assert all(0 <= score <= 1 for score in prediction.scores.values())
    tagged = segmenter(photos / "p0.jpg", tags=["cat"], threshold=0.4)
    np.testing.assert_array_equal(tagged.mask == 1, tagged.cams[0] > np.float32(0.4))


@pytest.mark.parametrize("use", ["cti", "segmenter"])
def test_a_saved_network_predicts_as_its_run_does(use: str, run: Path, photos: Path, tmp_path: Path) -> None:
    original = Predictor.from_pretrained(run, use=use)
    original.save_pretrained(tmp_path / "mine")
    original.save_pretrained(tmp_path / "again")
    back = Predictor.from_pretrained(tmp_path / "mine", use=use)
    here, there = original(photos / "p1.jpg"), back(photos / "p1.jpg")
    np.testing.assert_array_equal(here.mask, there.mask)
    np.testing.assert_array_equal(here.cams, there.cams)
    assert (here.tags, here.scores, here.threshold) == (there.tags, there.scores, there.threshold)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "README.md", "config.json", "model.safetensors",
    ]  # fmt: skip
    assert str(run.parent) not in (tmp_path / "mine" / "config.json").read_text()
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "from_pretrained('mine')" in card
    assert "1 cat, 2 dog, 3 sofa" in card
    back.save_pretrained(tmp_path / "third")  # what is known about the run survives without it
    assert (tmp_path / "third" / "README.md").read_text() == card.replace("'mine'", "'third'")


def test_a_run_that_cannot_be_used_says_why(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nor a run with a finished network"):
        Predictor.from_pretrained(tmp_path)
    write_manifest(tmp_path / "segment", {})
    with pytest.raises(ValueError, match="nor a run with a finished network"):
        Predictor.from_pretrained(tmp_path, use="segmenter")
    with pytest.raises(ValueError, match="holds a network of the type 'cti', not 'segmenter'; leave `use` out"):
        Predictor.from_pretrained(run / "train", use="segmenter")


@pytest.mark.parametrize(
    "changed",
    [
        {"seeds": -1}, {"seeds": {"scales": ["x"]}}, {"tag_thresholds": {"cat": ["x"]}}, {"tag_thresholds": 3},
        {"threshold": "high"}, {"about": []},
    ],
)  # fmt: skip
def test_a_network_that_somebody_changed_is_refused_by_name(
    predictor: Predictor, tmp_path: Path, changed: dict[str, Any]
) -> None:
    predictor.save_pretrained(tmp_path / "mine")
    path = tmp_path / "mine" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(ValueError, match=r"config\.json was not written by this version of cti"):
        Predictor.from_pretrained(tmp_path / "mine")


def test_the_segmenter_where_there_is_one_else_cti(run: Path, photos: Path, tmp_path: Path) -> None:
    assert Predictor.from_pretrained(run).use == "segmenter"
    shutil.copytree(run / "train", tmp_path / "young" / "train")
    assert Predictor.from_pretrained(tmp_path / "young").use == "cti"
    with pytest.raises(ValueError, match=r"young has no finished 'segmenter'; it has cti: give that as `use`"):
        Predictor.from_pretrained(tmp_path / "young", use="segmenter")


def test_tags_restrict_a_segmenter(segmenter: Predictor, photos: Path) -> None:
    """Each pixel is the most probable of background and tagged classes."""
    for number in range(len(SIZES)):
        image = load_image(photos / f"p{number}.jpg")
        probabilities = predict_probabilities(segmenter.analyser.network, image, segmenter.analyser.config).numpy()
        for tags in (["sofa"], ["cat", "dog"]):
            values = np.array([0, *(CLASSES.index(tag) + 1 for tag in tags)])
            prediction = segmenter(image, tags)
            np.testing.assert_array_equal(prediction.mask, values[probabilities[values].argmax(axis=0)])
            # the probability of what each pixel got, not made larger by leaving classes out
            assert prediction.confidence == pytest.approx(probabilities[values].max(axis=0).mean(), rel=1e-5)


def test_confidence_of_cti_is_the_distance_to_the_next_best(predictor: Predictor, photos: Path) -> None:
    prediction = predictor(photos / "p0.jpg", ["cat", "dog"], threshold=0.25)
    planes = np.sort(np.stack([np.full(prediction.size, 0.25, np.float32), *prediction.cams]), axis=0)
    assert prediction.confidence == pytest.approx(float((planes[-1] - planes[-2]).mean()), rel=1e-4)


def test_confidence_without_any_class_is_that_of_the_background(
    predictor: Predictor, segmenter: Predictor, photos: Path
) -> None:
    assert predictor(photos / "p0.jpg", [], threshold=0.25).confidence == pytest.approx(0.25)
    free = predictor(photos / "p0.jpg", [], threshold="free")
    assert free.background_cam is not None
    assert free.confidence == pytest.approx(float(free.background_cam.mean()), rel=1e-5)
    seen = segmenter(photos / "p0.jpg", [])
    assert seen.background_cam is not None
    assert seen.confidence == pytest.approx(float(seen.background_cam.mean()), rel=1e-5)
    for threshold in (0.0, 1.0):  # what a segmenter's pixel is, not what it had to exceed
        limited = segmenter(photos / "p0.jpg", ["cat"], threshold)
        assert limited.background_cam is not None
        own = np.where(limited.mask == 0, limited.background_cam, limited.cams[0])
        assert limited.confidence == pytest.approx(float(own.mean()), rel=1e-5)


def test_each_photo_of_a_list_may_have_its_own_tags(segmenter: Predictor, photos: Path) -> None:
    paths = [photos / f"p{number}.jpg" for number in range(3)]
    together = segmenter(paths, tags=[["cat"], ["dog", "sofa"], None])
    for prediction, path, tags in zip(together, paths, (["cat"], ["dog", "sofa"], None), strict=True):
        np.testing.assert_array_equal(prediction.mask, segmenter(path, tags).mask)
    with pytest.raises(ValueError, match="There are 3 photos and 2 lists of tags"):
        segmenter(paths, tags=[["cat"], ["dog"]])
    with pytest.raises(ValueError, match="go with a list of photos; give one list"):
        segmenter(paths[0], tags=[["cat"]])


def test_a_folder_is_streamed(segmenter: Predictor, photos: Path) -> None:
    stream = segmenter.stream(photos, tags=["cat"])
    assert iter(stream) is stream  # nothing is read before it is asked for
    predictions = list(stream)
    assert [Path(prediction.source).name for prediction in predictions] == [f"{UNLISTED}.png"] + [
        f"p{number}.jpg" for number in range(len(SIZES))
    ]
    np.testing.assert_array_equal(predictions[1].mask, segmenter(photos / "p0.jpg", ["cat"]).mask)
    assert len(list(segmenter.stream(f"{photos}/p*.jpg"))) == len(SIZES)
    given = [["cat"], ["dog", "sofa"], None, *[["cat"]] * (len(SIZES) - 3)]
    streamed = [prediction.tags for prediction in segmenter.stream(f"{photos}/p*.jpg", tags=given)]
    assert streamed[:2] == [("cat",), ("dog", "sofa")]
    with pytest.raises(ValueError, match="not as many lists of tags as photos; give one list per photo"):
        list(segmenter.stream(f"{photos}/p*.jpg", tags=given[1:]))
    endless = (np.zeros((16, 16, 3), np.uint8) for _ in itertools.count())
    assert len(list(itertools.islice(segmenter.stream(endless), 3))) == 3


def test_names_and_devices(segmenter: Predictor, photos: Path) -> None:
    assert segmenter.to("cpu") is segmenter
    assert repr(segmenter) == "Predictor(segmenter, 3 classes: cat, dog, sofa; on cpu)"
    prediction = segmenter(photos / "p0.jpg", ["cat"])
    height, width = prediction.size
    share = float((prediction.mask == 1).mean())
    assert repr(prediction).startswith(f"Prediction(p0.jpg, {width} x {height}: ")
    assert f"cat {share:.0%}" in repr(prediction)


def test_a_prediction_goes_on_to_other_tools(segmenter: Predictor, photos: Path) -> None:
    prediction = segmenter(photos / "p1.jpg")
    said = json.loads(json.dumps(prediction.to_dict()))
    assert said == {
        "source": str(photos / "p1.jpg"),
        "size": list(SIZES[1]),
        "classes": list(CLASSES),
        "scores": prediction.scores,
        "tags": list(prediction.tags),
        "threshold": "free",
        "pixels": prediction.pixels(),
        "confidence": prediction.confidence,
        "certainty": prediction.certainty,
        "cannot_tell": None,
    }
    assert sum(prediction.shares().values()) == pytest.approx(1)
    polygons = prediction.to_polygons()
    assert set(polygons) == {name for name in prediction.pixels() if name != "background"}
    codes = pytest.importorskip("pycocotools.mask", reason="needs the extra coco")
    height, width = prediction.size
    for name, parts in polygons.items():
        flat = [part.ravel().tolist() for part in parts]
        drawn = codes.decode(codes.merge(codes.frPyObjects(flat, height, width)))
        np.testing.assert_array_equal(drawn.astype(bool), prediction.mask == CLASSES.index(name) + 1)
    for shape in ("polygons", "rle"):
        coco = json.loads(json.dumps(prediction.to_coco(shape)))
        assert coco["images"] == [{"id": 1, "file_name": "p1.jpg", "height": height, "width": width}]
        areas = {coco["categories"][note["category_id"] - 1]["name"]: note["area"] for note in coco["annotations"]}
        assert areas == {name: count for name, count in prediction.pixels().items() if name != "background"}
        assert [note["id"] for note in coco["annotations"]] == list(range(1, 1 + len(areas)))
        assert coco["categories"] == [{"id": value, "name": name} for value, name in enumerate(CLASSES, 1)]


@pytest.mark.filterwarnings("ignore:OpenCV")
def test_a_prediction_as_detections(segmenter: Predictor, photos: Path) -> None:
    pytest.importorskip("supervision", reason="needs the extra labelling")
    prediction = segmenter(photos / "p1.jpg")
    found = prediction.to_supervision()
    drawn = np.zeros(prediction.size, np.uint8)
    for part, index, name in zip(found.mask, found.class_id, found.data["class_name"], strict=True):
        drawn[part] = index + 1
        assert CLASSES[index] == name
    np.testing.assert_array_equal(drawn, prediction.mask)
    assert len(prediction.with_tags([]).to_supervision()) == 0


def test_show_opens_the_picture(segmenter: Predictor, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Image.Image] = []
    monkeypatch.setattr(Image.Image, "show", lambda self: shown.append(self))
    prediction = segmenter(photos / "p0.jpg", ["cat"])
    prediction.show()
    np.testing.assert_array_equal(np.asarray(shown[0]), np.asarray(prediction.picture()))


def test_a_stage_folder_is_a_network_too(run: Path, predictor: Predictor, photos: Path) -> None:
    found = Predictor.from_pretrained(run / "train")(photos / "p0.jpg", tags=["cat"])
    np.testing.assert_array_equal(found.scores["cat"], predictor(photos / "p0.jpg").scores["cat"])


def smoothing(image: np.ndarray, scores: np.ndarray, config: CrfConfig) -> np.ndarray:
    """Stands in for the dense CRF: each label's probability becomes its mean over 5 x 5 pixels."""
    assert image.shape == (*scores.shape[1:], 3)
    assert config.preset == "irn"
    return np.stack([ndimage.uniform_filter(plane, 5) for plane in scores / scores.sum(axis=0)])


def test_a_segmenter_with_a_crf_decides_among_the_background_and_the_chosen_classes(
    segmenter: Predictor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right mask: the most probable of background and classes, all of them refined together, at the photo's size.

    Without tags that is what the stage writes, `predict_mask`.
    """
    monkeypatch.setattr("cti.segment.predict.crf_step", smoothing)
    trained = segmenter.analyser.trained
    trained = dataclasses.replace(trained, predict=PredictConfig(variants=("single+crf",), crf="irn"))
    predictor = Predictor(dataclasses.replace(segmenter.analyser, trained=trained))
    config = predictor.analyser.config
    assert config.crf == "irn"
    backgrounds = 0
    for number in range(len(SIZES)):
        image = load_image(photos / f"p{number}.jpg")
        probabilities = predict_probabilities(predictor.analyser.network, image, config)
        prediction = predictor(image)
        np.testing.assert_array_equal(prediction.mask, predict_mask(predictor.analyser.network, image, config))
        np.testing.assert_array_equal(predictor(image, tags=prediction.tags).mask, prediction.mask)
        backgrounds += int((prediction.mask == 0).sum())
        for tags in (["cat"], ["cat", "sofa"], []):
            values = np.array([0, *(CLASSES.index(tag) + 1 for tag in tags)])
            planes = smoothing(np.asarray(image), probabilities[values].numpy(), CrfConfig("irn"))
            np.testing.assert_array_equal(predictor(image, tags=tags).mask, values[planes.argmax(axis=0)])
    assert backgrounds > 0


def test_the_page_writes_the_mask_of_a_segmenter_with_a_crf(
    segmenter: Predictor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cti.segment.predict.crf_step", smoothing)
    trained = segmenter.analyser.trained
    trained = dataclasses.replace(trained, predict=PredictConfig(variants=("single+crf",), crf="irn"))
    predictor = Predictor(dataclasses.replace(segmenter.analyser, trained=trained))
    config = predictor.analyser.config
    assert config.crf == "irn"
    image = load_image(photos / "p1.jpg")
    card = Desk(predictor).card(image, "p1", ["cat", "dog"])
    np.testing.assert_array_equal(card.full_mask(), predictor(image, tags=["cat", "dog"]).mask)
