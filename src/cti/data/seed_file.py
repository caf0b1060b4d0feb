"""Seeds on disk: one small `.npz` per photo, at the size of the patch grid and before `max_norm`.

Up-sampling to pixels and `max_norm` happen on reading, so a file is a few kilobytes and no choice is baked in.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cti.files import atomic_path
from cti.method.attention import max_norm


@dataclass(frozen=True)
class Seed:
    """The maps of one photo.

    Args:
        class_indices: (n,) 0-based foreground indices of the photo's classes.
        size: (H, W) of the photo in pixels.
        maps: (n, h, w) summed maps before `max_norm`, one per class of `class_indices`, 0 or more.
        background: (h, w) the background channel's map before `max_norm`, or None for a model without one.
    """

    class_indices: tuple[int, ...]
    size: tuple[int, int]
    maps: NDArray[np.float32]
    background: NDArray[np.float32] | None

    def cams(self) -> Tensor:
        """Class activation maps, (n, H, W) float32 in [0, 1], one per class of `class_indices`."""
        return to_cams(torch.from_numpy(self.maps), self.size)

    def background_cam(self) -> Tensor | None:
        """The background's own map, (H, W) float32 in [0, 1]; it serves as a threshold-free background score."""
        if self.background is None:
            return None
        return to_cams(torch.from_numpy(self.background)[None], self.size)[0]


def to_cams(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring maps (n, h, w) of the patch grid to pixels (n, H, W), bilinearly, and to [0, 1] by `max_norm`."""
    if maps.shape[0] == 0:
        return maps.new_zeros((0, *size))
    return max_norm(F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0])


def write_seed(path: Path | str, seeds: dict[str, Seed]) -> None:
    """Write one photo's seeds atomically.

    Args:
        path: The `.npz`.
        seeds: Kind of map (`refined`, `fused`, `patch`, `attention`) -> seed; the first kind is the one later
            stages use. All share class indices and size.
    """
    first = next(iter(seeds.values()))
    arrays: dict[str, NDArray[Any]] = {
        "kinds": np.array(list(seeds)),
        "class_indices": np.asarray(first.class_indices, dtype=np.int64),
        "size": np.asarray(first.size, dtype=np.int64),
    }
    for kind, seed in seeds.items():
        stack = seed.maps if seed.background is None else np.concatenate([seed.maps, seed.background[None]])
        low, high = stack.min(axis=(1, 2), initial=np.inf), stack.max(axis=(1, 2), initial=-np.inf)
        width = np.maximum(high - low, np.finfo(np.float32).tiny)
        # Half precision, relative to each map's own range: a flat map keeps its digits, a large one does not overflow.
        arrays[f"maps/{kind}"] = ((stack - low[:, None, None]) / width[:, None, None]).astype(np.float16)
        arrays[f"range/{kind}"] = np.stack([low, width], axis=1).astype(np.float32)
        arrays[f"has_background/{kind}"] = np.array(seed.background is not None)
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        np.savez(handle, allow_pickle=False, **arrays)


def read_seed(path: Path | str, kind: str = "") -> Seed:
    """Read one photo's seed.

    Args:
        path: The `.npz`.
        kind: Kind of map; empty = the one that was written first.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a seed file or lacks `kind`; the message names it and the kinds it has.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            kinds = [str(name) for name in arrays["kinds"]]
            wanted = kind or kinds[0]
            found = _seed(arrays, wanted) if wanted in kinds else None
    except Exception as error:  # numpy and zipfile raise a dozen types for a broken file
        if isinstance(error, OSError) and error.filename:  # the file cannot be opened; others are of what is in it
            raise
        raise ValueError(f"{path} is not a seed file ({error}); delete it and run `cti seeds` again.") from error
    if found is None:
        raise ValueError(f"{path} has no '{kind}' maps, only {', '.join(kinds)}; extract that kind first.")
    return found


def _seed(arrays: Any, kind: str) -> Seed:
    indices = tuple(int(index) for index in arrays["class_indices"])
    height, width = (int(side) for side in arrays["size"])
    low, spread = arrays[f"range/{kind}"].T[:, :, None, None]
    stack = arrays[f"maps/{kind}"].astype(np.float32) * spread + low
    has_background = bool(arrays[f"has_background/{kind}"])
    if min(height, width) < 1 or min(indices, default=0) < 0:
        raise ValueError(f"classes {indices} of a photo of {width} x {height} pixels")
    if stack.ndim != 3 or len(stack) != len(indices) + has_background or not np.isfinite(stack).all():
        raise ValueError(f"maps of shape {stack.shape} for {len(indices)} classes, or not of finite numbers")
    return Seed(indices, (height, width), stack[: len(indices)], stack[-1] if has_background else None)
