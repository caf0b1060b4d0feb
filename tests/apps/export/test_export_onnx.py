"""ONNX graphs under onnxruntime, against the predictor, at batches and sizes that the export has not seen."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cti import Predictor
from cti.apps.export import onnx as module
from cti.apps.export.onnx import export_onnx
from cti.config import SeedsConfig
from cti.data.readers.shapes import render_scene
from cti.predict.cti import CTIAnalyser
from cti.predict.segmenter import SegmenterAnalyser
from sample_run import CLASSES, tiny_cti, tiny_segmenter


def session(path: Path):
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def photo_of(seed: int, height: int, width: int) -> Image.Image:
    return Image.fromarray(render_scene(seed, 0, 64).image[:height, :width])


def as_input(*photos: Image.Image) -> np.ndarray:
    return np.stack([np.asarray(photo, np.float32).transpose(2, 0, 1) / 255 for photo in photos])


@pytest.mark.slow
@pytest.mark.parametrize("background", ["token", "none"])
def test_cti_gives_scores_and_cams_of_given_classes(background: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    predictor = Predictor(CTIAnalyser(tiny_cti(background=background), {"cat": 0.5}, SeedsConfig(blocks=2)))
    result = export_onnx(predictor, tmp_path / "cti.onnx")
    assert result["largest_difference"] < 1e-4
    graph = session(tmp_path / "cti.onnx")
    assert [given.name for given in graph.get_inputs()] == result["inputs"] == ["images", "class_indices"]
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


@pytest.mark.slow
def test_a_segmenter_gives_probabilities(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    predictor = Predictor(SegmenterAnalyser(*tiny_segmenter(), CLASSES))
    assert export_onnx(predictor, tmp_path / "s.onnx")["largest_difference"] < 1e-4
    graph = session(tmp_path / "s.onnx")
    for height, width in ((32, 32), (48, 24)):
        photos = [photo_of(seed, height, width) for seed in range(3)]
        (probabilities,) = graph.run(None, {"images": as_input(*photos)})
        assert probabilities.shape == (3, 1 + len(CLASSES), height, width)
        for photo, planes in zip(photos, probabilities, strict=True):
            analysis = predictor.analyse(photo)
            np.testing.assert_allclose(planes[1:], analysis.maps, atol=1e-4)
            np.testing.assert_allclose(planes[0], analysis.background, atol=1e-4)


def test_a_graph_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_onnx", lambda: None)
    monkeypatch.setattr(module, "_write", lambda graph, multiple, facts, path: path.write_bytes(b"another graph"))
    monkeypatch.setattr(module, "_largest_difference", lambda graph, multiple, path: float("nan"))
    with pytest.raises(ValueError, match=r"differs from the network by nan, more than 1e-04; it was not written"):
        export_onnx(Predictor(SegmenterAnalyser(*tiny_segmenter(), CLASSES)), tmp_path / "s.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_without_the_extra_one_sentence_names_it(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None if name == missing else sys)
    with pytest.raises(ModuleNotFoundError, match=rf'needs {missing}: pip install "cti\[onnx\]"'):
        export_onnx(Predictor(CTIAnalyser(tiny_cti())), tmp_path / "cti.onnx")
