"""Dense CRF (Kraehenbuehl & Koltun 2011) over the background and a photo's own classes, through pydensecrf2.

Presets and their numbers: docs/method.md, "Pseudo-masks and segmentation". This module imports no torch, because
worker processes import it.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cti.config import CrfConfig, MasksConfig


@dataclass(frozen=True)
class CrfNumbers:
    """What a dense CRF runs with; the fields are those of `cti.config.CrfConfig`."""

    unary: Literal["probabilities", "labels"]
    label_confidence: float
    gaussian_sxy: float
    gaussian_compat: float
    bilateral_sxy: float
    bilateral_srgb: float
    bilateral_compat: float
    iterations: int


PRESETS = {
    "psa": CrfNumbers("probabilities", 0.7, 3, 3, 80, 13, 10, 10),
    "irn": CrfNumbers("labels", 0.7, 3, 3, 50, 5, 10, 10),
}


def crf_numbers(config: CrfConfig) -> CrfNumbers:
    """The preset's numbers with the configuration's own in their places."""
    numbers = asdict(PRESETS[config.preset])
    given = {name: value for name, value in asdict(config).items() if name in numbers and value is not None}
    return CrfNumbers(**(numbers | given))


def crf_step(image: NDArray[np.uint8], scores: NDArray[np.float32], config: CrfConfig) -> NDArray[np.float32]:
    """Refine one photo's scores by mean-field inference in a fully connected CRF.

    Args:
        image: (H, W, 3) RGB.
        scores: (1+n, H, W) in [0, 1]; normalised to sum 1 at each pixel.
        config: Preset, and numbers that replace the preset's.

    Returns:
        (1+n, H, W) probabilities, summing to 1 at each pixel.

    Raises:
        ModuleNotFoundError: if pydensecrf2 is not installed; the message names the extra.
    """
    num_labels, height, width = scores.shape
    if num_labels == 1:
        return np.ones_like(scores)
    library = load_library()
    numbers = crf_numbers(config)
    field = library.DenseCRF2D(width, height, num_labels)
    field.setUnaryEnergy(unary_energy(scores, numbers).reshape(num_labels, -1))
    if numbers.gaussian_compat > 0:
        field.addPairwiseGaussian(sxy=numbers.gaussian_sxy, compat=numbers.gaussian_compat)
    if numbers.bilateral_compat > 0:
        field.addPairwiseBilateral(
            sxy=numbers.bilateral_sxy,
            srgb=numbers.bilateral_srgb,
            rgbim=np.array(image, order="C"),  # the library refuses read-only arrays
            compat=numbers.bilateral_compat,
        )
    result = np.asarray(field.inference(numbers.iterations), dtype=np.float32)
    return result.reshape(num_labels, height, width)


def unary_energy(scores: NDArray[np.float32], numbers: CrfNumbers) -> NDArray[np.float32]:
    """Minus the log of each label's probability, (1+n, H, W).

    From probabilities: the scores, normalised. From labels: `label_confidence` for the leading label, the rest
    shared evenly among the others.
    """
    if numbers.unary == "labels":
        others = (1 - numbers.label_confidence) / (len(scores) - 1)
        leads = np.arange(len(scores))[:, None, None] == scores.argmax(axis=0)
        probabilities = np.where(leads, numbers.label_confidence, others)
    else:
        clipped = np.maximum(scores, 1e-5)  # no label is impossible
        probabilities = clipped / clipped.sum(axis=0)
    return -np.log(probabilities).astype(np.float32)


def needs_library(config: MasksConfig) -> bool:
    """Whether any of the configured steps runs a dense CRF."""
    return "crf" in config.steps or ("affinity" in config.steps and config.affinity.clean == "crf")


def load_library() -> Any:
    """The module `pydensecrf.densecrf`.

    Raises:
        ModuleNotFoundError: if it is not installed.
    """
    try:
        import pydensecrf.densecrf as library
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'The dense CRF needs pydensecrf2; install it with `pip install "cti[crf]"` (it builds with gcc), '
            "or use the `pamr` step instead."
        ) from error
    return library
