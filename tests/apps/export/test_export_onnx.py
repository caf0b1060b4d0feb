"""ONNX graphs under onnxruntime, against the predictor, at batches and sizes that the export has not seen."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cti import Predictor
from cti.apps.export import onnx as module
from cti.apps.export.onnx import difference, export_onnx
from cti.config import PredictConfig, SeedsConfig
from cti.data.images import load_mask
from cti.data.readers.shapes import render_scene
from cti.method.attention import max_norm
from cti.predict.cti import CTIAnalyser
from cti.predict.segmenter import SegmenterAnalyser
from tiny import RUN_CLASSES as CLASSES
from tiny import tiny_cti, tiny_trained


def session(path: Path):
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def photo_of(seed: int, height: int, width: int) -> Image.Image:
    return Image.fromarray(render_scene(seed, 0, 64).image[:height, :width])


def as_input(*photos: Image.Image) -> np.ndarray:
    return np.stack([np.asarray(photo, np.float32).transpose(2, 0, 1) / 255 for photo in photos])


@pytest.mark.slow
@pytest.mark.parametrize(("background", "patch_features"), [("token", "two"), ("none", "last")])
def test_cti_gives_scores_and_cams_of_given_classes(background: str, patch_features: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    network = tiny_cti(background=background, patch_features=patch_features)
    predictor = Predictor(CTIAnalyser(network, {"cat": 0.5}, SeedsConfig(blocks=2, precision="32")))
    result = export_onnx(predictor, tmp_path / "cti.onnx")
    assert result.largest_difference < 1e-4
    graph = session(tmp_path / "cti.onnx")
    assert [given.name for given in graph.get_inputs()] == list(result.inputs) == ["images", "class_indices"]
    assert all(isinstance(graph.get_inputs()[0].shape[axis], str) for axis in (0, 2, 3))
    for height, width, tags in ((32, 32, ["sofa"]), (40, 56, ["cat", "sofa"]), (64, 24, list(CLASSES))):
        photos = [photo_of(seed, height, width) for seed in range(3)]
        indices = np.array([CLASSES.index(tag) for tag in tags])
        scores, cams = graph.run(None, {"images": as_input(*photos), "class_indices": indices})
        assert cams.shape == (3, len(tags) + (background == "token"), height, width)
        for photo, row, maps in zip(photos, scores, cams, strict=True):
            prediction = predictor(photo, tags=tags)
            np.testing.assert_allclose(maps[: len(tags)], prediction.cams, atol=1e-4)
            if background == "token":
                np.testing.assert_allclose(maps[-1], prediction.background_cam, atol=1e-4)
            if (height, width) == (32, 32):  # the size at which the predictor scores tags
                np.testing.assert_allclose(row, list(prediction.scores.values()), atol=1e-4)
    facts = graph.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == list(CLASSES)
    assert json.loads(facts["tag_thresholds"]) == {"cat": 0.5}
    assert json.loads(facts["patch_size"]) == 8
    assert "RGB in [0, 1]" in json.loads(facts["input"])
    assert json.loads(facts["mean"]) == list(predictor.analyser.network.mean)
    assert [given.name for given in graph.get_outputs()] == list(result.outputs) == ["scores", "cams"]
    photo_of(0, 40, 48).save(tmp_path / "photo.png")
    says = run_snippet(result.snippet, tmp_path)
    assert f"{(1, 1 + (background == 'token'), 40, 48)}" in says
    photo_of(0, 41, 53).save(tmp_path / "photo.png")
    assert f"{(1, 1 + (background == 'token'), 40, 56)}" in run_snippet(result.snippet, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("normal", [False, True])
def test_what_is_fitted_is_in_the_graph(normal: bool, tmp_path: Path) -> None:
    """As in every run of one's own photos: kind `located`, scores by the head on what is not background."""
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    network = tiny_cti(patch_features="two")
    locator, normality, tag_head = network.locator, network.normality, network.tag_head
    assert locator is not None
    assert normality is not None
    assert tag_head is not None
    torch.manual_seed(0)
    with torch.no_grad():
        locator.means.normal_()
        locator.whiten.copy_(torch.eye(32).expand(4, -1, -1) * 0.3)
        tag_head.weight.normal_()
        normality.whiten.copy_(torch.eye(32) * 0.2)
        normality.speaks_for[1] = normal
    predictor = Predictor(CTIAnalyser(network, seeds=SeedsConfig(kinds=("located",), precision="32")))
    export_onnx(predictor, tmp_path / "cti.onnx")
    assert network.settled is None
    photo = photo_of(0, 40, 56)
    given = {"images": as_input(photo), "class_indices": np.array([1, 2])}
    scores, cams = session(tmp_path / "cti.onnx").run(None, given)
    prediction = predictor(photo, tags=list(CLASSES[1:]))
    np.testing.assert_allclose(scores[0], list(prediction.scores.values()), atol=1e-4)
    np.testing.assert_allclose(cams[0, :2], prediction.cams, atol=1e-3)


def run_snippet(path: str, folder: Path) -> str:
    words = [sys.executable, path, str(folder / "photo.png")]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_a_network_of_flat_maps_is_exported(tmp_path: Path) -> None:
    """`max_norm` turns the rounding of a flat map into large differences; the graph is right all the same."""
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    model = tiny_cti()
    with torch.no_grad():  # all patches nearly alike
        model.backbone.pos_embed.zero_()
        model.backbone.patch_embed.proj.weight.mul_(1e-5)
    assert export_onnx(Predictor(CTIAnalyser(model)), tmp_path / "cti.onnx").largest_difference < 1e-4


def test_flat_maps_are_compared_before_they_are_stretched() -> None:
    rng = np.random.default_rng(0)
    flat = 0.7 + 3e-5 * rng.random((1, 1, 9, 9), dtype=np.float32)
    rounded = flat + 1e-7 * rng.standard_normal((1, 1, 9, 9), dtype=np.float32)
    scores = np.full((1, 2), 0.5, np.float32)

    def outputs(maps: np.ndarray) -> list[np.ndarray]:
        return [scores, max_norm(torch.from_numpy(maps)).numpy(), maps]

    found, true = outputs(rounded), outputs(flat)
    assert np.abs(found[1] - true[1]).max() > 1e-3
    assert difference(found, true) < 1e-6
    assert difference(outputs(flat * 1.001), true) == pytest.approx(1e-3, rel=0.1)  # relative to the map
    assert difference([scores + 0.01, *true[1:]], true) == pytest.approx(0.01)
    assert difference([scores, true[1] + 0.02, true[2]], true) == pytest.approx(0.02)
    assert np.isnan(difference([scores, true[1], true[2] * np.nan], true))
    assert difference([scores + 0.5], [scores]) == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("network", ["vit-upsample", "vit-mlp"])
def test_a_segmenter_gives_probabilities_and_scores(network: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    trained = replace(tiny_trained(network=network), predict=PredictConfig(precision="32"))
    predictor = Predictor(SegmenterAnalyser(trained))
    assert export_onnx(predictor, tmp_path / "s.onnx").largest_difference < 1e-4
    graph = session(tmp_path / "s.onnx")
    for height, width in ((32, 32), (48, 24)):
        photos = [photo_of(seed, height, width) for seed in range(3)]
        probabilities, scores = graph.run(None, {"images": as_input(*photos)})
        assert probabilities.shape == (3, 1 + len(CLASSES), height, width)
        for photo, planes, row in zip(photos, probabilities, scores, strict=True):
            analysis = predictor.analyse(photo)
            np.testing.assert_allclose(planes[1:], analysis.maps, atol=1e-4)
            np.testing.assert_allclose(planes[0], analysis.background, atol=1e-4)
            np.testing.assert_allclose(row, analysis.scores, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("long_side", [0, 48])
def test_the_snippet_makes_the_predictors_mask(long_side: int, tmp_path: Path) -> None:
    """Of a photo whose sides are no multiples of the patch; a class below its threshold is left out by both."""
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    trained = replace(tiny_trained(), predict=PredictConfig(precision="32"))
    trained = replace(trained, config=replace(trained.config, long_side=long_side))
    photo_of(0, 41, 53).save(tmp_path / "photo.png")
    free = Predictor(SegmenterAnalyser(trained))(tmp_path / "photo.png")
    shown = max(free.shares(), key=lambda name: free.shares()[name] if name in CLASSES else 0)
    for limits in ({}, {shown: 1.0}):
        predictor = Predictor(SegmenterAnalyser(trained, limits))
        snippet = export_onnx(predictor, tmp_path / "s.onnx").snippet
        assert shown in run_snippet(snippet, tmp_path)
        expected, found = predictor(tmp_path / "photo.png").mask, load_mask(tmp_path / "mask.png")
        assert found.shape == (41, 53)
        assert (CLASSES.index(shown) + 1 in found) == (not limits)
        assert (found == expected).mean() > 0.98


def test_a_graph_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_onnx", lambda: None)

    class Another:
        def save(self, path: Path, external_data: bool) -> None:
            path.write_bytes(b"another graph")

    monkeypatch.setattr(module, "_exported", lambda graph, multiple, facts: Another())
    monkeypatch.setattr(module, "_largest_difference", lambda graph, multiple, path: float("nan"))
    with pytest.raises(ValueError, match=r"differs from the network by nan, more than 1e-04; it was not written"):
        export_onnx(Predictor(SegmenterAnalyser(tiny_trained())), tmp_path / "s.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_without_the_extra_one_sentence_names_it(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None if name == missing else sys)
    with pytest.raises(ModuleNotFoundError, match=rf'needs {missing}: pip install "cti\[onnx\]"'):
        export_onnx(Predictor(CTIAnalyser(tiny_cti())), tmp_path / "cti.onnx")
