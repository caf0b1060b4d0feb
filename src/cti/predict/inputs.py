"""Whatever people hand in as a photo, as an RGB image."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cti.data.bands import mix
from cti.data.depth import AS_IT_IS, Reading
from cti.data.images import MAX_PIXELS, load_image, to_rgb
from cti.predict.photos import is_pattern
from cti.predict.places import Elsewhere, is_address, place_of

ImageLike = str | os.PathLike[str] | Elsewhere | bytes | IO[bytes] | Image.Image | NDArray[Any] | Tensor


def read_image(image: ImageLike, max_pixels: int = MAX_PIXELS, reading: Reading = AS_IT_IS) -> tuple[Image.Image, str]:
    """One photo as RGB, and where it came from (empty for one from memory).

    Args:
        image: A path, an address (`https://...`, `s3://...`), the bytes of an image file, such a file opened in binary
            mode, a PIL image, an array (H, W), (H, W, 3) or (H, W, 4), or a tensor (3, H, W); arrays and tensors are
            uint8, or floats in [0, 1], or (H, W, bands) of any numbers where `reading` names bands.
        max_pixels: Larger files are refused by name.
        reading: How values in files and PIL images become colours.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no photo, or cannot be fetched; the message says what to give.
        ModuleNotFoundError: if a package is missing that reads such an address.
    """
    if isinstance(image, bytes):
        return load_image("the bytes given", max_pixels, content=image, reading=reading), ""
    if isinstance(image, str) and is_address(image):
        image = place_of(image)
    if isinstance(image, Elsewhere):
        return load_image(str(image), max_pixels, content=image.content(), reading=reading), str(image)
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        if path.is_dir() or is_pattern(path):
            raise ValueError(f"{path} names several photos; use predictor.stream({str(path)!r}), one after the other.")
        return load_image(path, max_pixels, reading=reading), str(image)
    if isinstance(image, Image.Image):
        return to_rgb(image, reading), getattr(image, "filename", "")
    if isinstance(image, Tensor):
        return _from_tensor(image), ""
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] > 4 and reading.bands:
        return mix(image, reading), ""
    if isinstance(image, np.ndarray):
        return to_rgb(Image.fromarray(_bytes(image))), ""
    if hasattr(image, "read"):
        if isinstance(content := image.read(), bytes):
            return load_image("the file given", max_pixels, content=content, reading=reading), ""
    elif isinstance(image, Iterator):
        raise ValueError("An iterator of photos goes into predictor.stream(...), which takes one after the other.")
    raise ValueError(
        f"A {type(image).__name__} is no photo; give a path, an address, bytes, a PIL image, an array or a tensor."
    )


def _from_tensor(image: Tensor) -> Image.Image:
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(
            f"A tensor of shape {tuple(image.shape)} cannot be used; give one photo (3, H, W) or (1, H, W), and a "
            "batch as a list."
        )
    pixels = image.detach().cpu().numpy().transpose(1, 2, 0)
    return to_rgb(Image.fromarray(_bytes(pixels[..., 0] if pixels.shape[2] == 1 else pixels)))


def _bytes(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An array as uint8."""
    fits = image.size > 0 and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4)))
    if not fits or image.dtype.kind not in "fu" or (image.dtype.kind == "u" and image.dtype != np.uint8):
        raise ValueError(
            f"An image of shape {image.shape} and type {image.dtype} cannot be used; give (H, W, 3), (H, W, 4) or "
            "(H, W) of uint8, or of floats in [0, 1]."
        )
    if image.dtype == np.uint8:
        return cast(NDArray[np.uint8], np.ascontiguousarray(image))
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"An image of floats from {low:.3g} to {high:.3g} cannot be used; give floats in [0, 1], or uint8."
        )
    return np.rint(image * 255).astype(np.uint8)
