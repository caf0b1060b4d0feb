"""A rendered data set that needs no download: six textured shapes on cluttered backgrounds.

Outline, texture and shading say what an object is; its hue is a hint, for backgrounds and clutter come in every hue. A
set is an ordinary folder data set (images, labels.csv, masks, lists), so everything that works on it works on photos of
one's own.
"""

import csv
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from cti.data.images import save_mask
from cti.data.readers.shapes_art import CLASSES, Array, background, clutter, draw_object
from cti.data.splits import split_by_seed
from cti.files import read_json, write_json, write_text

SHAPES_CLASSES = CLASSES
_MARK = "shapes.json"
_VERSION = 2  # raise it when the drawing changes: an old folder is then not taken for a new one


@dataclass(frozen=True)
class Scene:
    """One rendered image.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) uint8, 0 background, class index + 1 elsewhere.
        classes: Sorted 0-based indices of the classes that can be seen.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    classes: tuple[int, ...]


def render_shapes(
    root: Path | str, count: int = 1400, size: int = 96, seed: int = 0, val_fraction: float = 0.15
) -> Path:
    """Render the data set into `root`, once; the folder appears complete or not at all.

    Args:
        root: Folder to write; an existing shapes folder is left as it is.
        count: Images, `val_fraction` of them in the list `val`, the others in `train`.
        size: Side of the square images in pixels.
        seed: Seed of everything drawn.
        val_fraction: Share held out.

    Returns:
        `root`.

    Raises:
        ValueError: if `root` holds something else, or `count` or `size` is too small.
    """
    root = Path(root)
    if (root / _MARK).is_file() and read_json(root / _MARK).get("version") == _VERSION:
        return root
    if root.exists() and any(root.iterdir()):
        raise ValueError(f"{root} holds files that are not this version's shapes; name an empty or a new folder.")
    if count < 2 or size < 32:
        raise ValueError(f"Got {count} images of {size} px; render at least 2 images of at least 32 px.")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}.") as scratch:
        unfinished = Path(scratch) / "set"
        _write_set(unfinished, count, size, seed, val_fraction)
        try:
            unfinished.replace(root)
        except OSError:
            if not (root / _MARK).is_file():  # else another process has rendered it meanwhile
                raise
    return root


def render_scene(seed: int, index: int, size: int = 96) -> Scene:
    """Draw one image: 1 to 3 classes (one or two objects each) that overlap a little, over clutter.

    An object hides at most half of another one, so that every tag can be seen.
    """
    random = np.random.default_rng((seed, index))
    canvas = background(random, size)
    clutter(random, canvas)
    mask = np.zeros((size, size), dtype=np.uint8)
    owner = np.full((size, size), -1, dtype=np.int64)  # which object a pixel shows
    areas: list[int] = []
    classes = random.choice(len(CLASSES), size=int(random.choice([1, 2, 3], p=[0.4, 0.4, 0.2])), replace=False)
    wanted = [index for index in classes for _ in range(int(random.choice([1, 2], p=[0.8, 0.2])))]
    for class_index in random.permutation(wanted):
        _place(random, canvas, mask, owner, areas, int(class_index))
    image = canvas + random.normal(0, random.uniform(0.005, 0.03), canvas.shape)
    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return Scene(pixels, mask, tuple(int(value) - 1 for value in np.unique(mask) if value))


def _place(
    random: Generator,
    canvas: Array,
    mask: NDArray[np.uint8],
    owner: NDArray[np.int64],
    areas: list[int],
    class_index: int,
) -> None:
    """Put one object somewhere it leaves enough of the others to be seen; give up after some tries."""
    size = mask.shape[0]
    for _ in range(20):
        radius = size * random.uniform(0.14, 0.3)
        centre = random.uniform(0.7 * radius, size - 0.7 * radius, 2)
        drawn, alpha = draw_object(random, canvas, class_index, (float(centre[0]), float(centre[1])), float(radius))
        covered = alpha > 0.5
        left = [int(((owner == number) & ~covered).sum()) for number in range(len(areas))]
        if all(2 * rest >= area for rest, area in zip(left, areas, strict=True)):
            canvas[:] = drawn
            mask[covered] = class_index + 1
            owner[covered] = len(areas)
            areas.append(int(covered.sum()))
            return


def _write_set(folder: Path, count: int, size: int, seed: int, val_fraction: float) -> None:
    (folder / "images").mkdir(parents=True)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["image", "tags"])
    names = [f"shapes_{index:05d}" for index in range(count)]
    console = Console(stderr=True)
    for index, name in enumerate(track(names, "Rendering shapes", console=console, transient=True)):
        scene = render_scene(seed, index, size)
        Image.fromarray(scene.image).save(folder / "images" / f"{name}.png")
        save_mask(folder / "masks" / f"{name}.png", scene.mask)
        rows.writerow([f"{name}.png", " ".join(CLASSES[tag] for tag in scene.classes)])
    write_text(folder / "labels.csv", table.getvalue())
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    train, val = split_by_seed(names, val_fraction, seed)
    for name, photos in (("train", train), ("val", val)):
        write_text(folder / "lists" / f"{name}.txt", "".join(f"{photo}\n" for photo in photos))
    write_json(folder / _MARK, {"version": _VERSION, "count": count, "size": size, "seed": seed})
