import builtins
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from cti.config import AffinityConfig, CrfConfig, MasksConfig
from cti.masks.crf import PRESETS, CrfNumbers, crf_numbers, crf_step, needs_library, unary_energy


def test_presets_are_the_papers():
    """As docs/method.md has them, and each number goes where its name says."""
    papers = {
        "psa": CrfNumbers(
            unary="probabilities", label_confidence=0.7, gaussian_sxy=3, gaussian_compat=3,
            bilateral_sxy=80, bilateral_srgb=13, bilateral_compat=10, iterations=10,
        ),
        "irn": CrfNumbers(
            unary="labels", label_confidence=0.7, gaussian_sxy=3, gaussian_compat=3,
            bilateral_sxy=50, bilateral_srgb=5, bilateral_compat=10, iterations=10,
        ),
    }  # fmt: skip
    assert papers == PRESETS


def test_the_library_is_given_every_number(monkeypatch):
    calls = {}

    class Field:
        def __init__(self, *size):
            calls["size"] = size

        def setUnaryEnergy(self, energy):
            calls["unary"] = energy.shape

        def addPairwiseGaussian(self, **numbers):
            calls["gaussian"] = numbers

        def addPairwiseBilateral(self, rgbim, **numbers):
            calls["bilateral"] = numbers

        def inference(self, iterations):
            calls["iterations"] = iterations
            return np.full((2, 12), 0.5)

    monkeypatch.setattr("cti.masks.crf.load_library", lambda: SimpleNamespace(DenseCRF2D=Field))
    numbers = {"gaussian_sxy": 1, "gaussian_compat": 2, "bilateral_sxy": 4, "bilateral_srgb": 5, "bilateral_compat": 6}
    config = CrfConfig(iterations=7, **numbers)
    assert crf_step(np.zeros((3, 4, 3), np.uint8), np.ones((2, 3, 4), np.float32), config).shape == (2, 3, 4)
    assert calls == {
        "size": (4, 3, 2), "unary": (2, 12), "gaussian": {"sxy": 1, "compat": 2},
        "bilateral": {"sxy": 4, "srgb": 5, "compat": 6}, "iterations": 7,
    }  # fmt: skip
    calls.clear()
    alone = CrfConfig(gaussian_compat=0, bilateral_compat=0)
    crf_step(np.zeros((3, 4, 3), np.uint8), np.ones((2, 3, 4), np.float32), alone)
    assert set(calls) == {"size", "unary", "iterations"}  # what weighs nothing is not computed


def test_overrides_replace_only_their_numbers():
    numbers = crf_numbers(CrfConfig(preset="irn", bilateral_sxy=7, iterations=0))
    assert (numbers.unary, numbers.bilateral_srgb, numbers.bilateral_sxy, numbers.iterations) == ("labels", 5, 7, 0)
    assert crf_numbers(CrfConfig()) == PRESETS["psa"]


def test_unaries():
    scores = np.array([0.5, 1.0, 0.5], dtype=np.float32).reshape(3, 1, 1)
    from_scores = np.exp(-unary_energy(scores, PRESETS["psa"])).ravel()
    np.testing.assert_allclose(from_scores, [0.25, 0.5, 0.25], rtol=1e-5)
    from_labels = np.exp(-unary_energy(scores, PRESETS["irn"])).ravel()
    np.testing.assert_allclose(from_labels, [0.15, 0.7, 0.15], rtol=1e-5)
    impossible = np.array([1, 0], dtype=np.float32).reshape(2, 1, 1)
    np.testing.assert_allclose(unary_energy(impossible, PRESETS["psa"]).ravel(), [1e-5, -np.log(1e-5)], rtol=2e-3)
    assert unary_energy(scores, PRESETS["irn"]).dtype == unary_energy(scores, PRESETS["psa"]).dtype == np.float32


@pytest.mark.parametrize(
    ("steps", "clean", "needed"),
    [(("crf",), "none", True), (("affinity",), "crf", True), (("affinity",), "pamr", False), (("pamr",), "crf", False)],
)
def test_when_the_library_is_needed(steps, clean, needed):
    assert needs_library(MasksConfig(steps=steps, affinity=AffinityConfig(clean=clean))) is needed


def test_without_the_library_one_sentence_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pydensecrf"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for name in [name for name in sys.modules if name.startswith("pydensecrf")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "cti\[crf\]"'):
        crf_step(np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 2), np.float32), CrfConfig())


def test_background_alone_needs_no_library():
    np.testing.assert_array_equal(crf_step(np.zeros((2, 2, 3), np.uint8), np.ones((1, 2, 2)), CrfConfig()), 1)


class TestInference:
    @pytest.fixture(autouse=True)
    def _library(self):
        pytest.importorskip("pydensecrf.densecrf", reason="the crf extra is not installed")

    def test_without_pairs_it_is_the_unary(self):
        scores = np.random.default_rng(0).random((3, 5, 6)).astype(np.float32)
        config = CrfConfig(gaussian_compat=0, bilateral_compat=0)
        result = crf_step(np.zeros((5, 6, 3), np.uint8), scores, config)
        np.testing.assert_allclose(result, scores / scores.sum(axis=0), rtol=1e-4)

    def test_matches_mean_field_written_out(self):
        """One iteration of a Gaussian kernel against plain loops, up to the library's filter approximation."""
        rng = np.random.default_rng(0)
        image = rng.integers(0, 255, (5, 6, 3), dtype=np.uint8)
        scores = rng.random((2, 5, 6)).astype(np.float32)
        config = CrfConfig(gaussian_compat=2, gaussian_sxy=2, bilateral_compat=0, iterations=1)
        probabilities = scores / scores.sum(axis=0)
        y, x = (grid.ravel() for grid in np.mgrid[:5, :6])
        kernel = np.exp(-((y[:, None] - y) ** 2 + (x[:, None] - x) ** 2) / (2 * 2**2))
        norm = 1 / np.sqrt(kernel.sum(axis=1))
        kernel = norm[:, None] * kernel * norm
        flat = probabilities.reshape(2, -1)
        logits = np.log(flat) + 2 * flat @ kernel
        expected = np.exp(logits) / np.exp(logits).sum(axis=0)
        np.testing.assert_allclose(crf_step(image, scores, config).reshape(2, -1), expected, atol=0.05)

    @pytest.mark.parametrize("preset", ["psa", "irn"])
    def test_a_blurred_step_moves_to_the_edge_in_the_photo(self, preset):
        image = np.zeros((24, 40, 3), dtype=np.uint8)
        image[:, 20:] = 200
        image.setflags(write=False)  # as an image read by Pillow is
        ramp = np.broadcast_to(np.clip((np.arange(40) - 8) / 16, 0, 1), (24, 40)).astype(np.float32)
        result = crf_step(image, np.stack([np.full_like(ramp, 0.5), ramp]), CrfConfig(preset=preset))
        np.testing.assert_allclose(result.sum(axis=0), 1, rtol=1e-4)
        np.testing.assert_array_equal(result[1] > result[0], np.broadcast_to(np.arange(40) >= 20, (24, 40)))
