"""Panels of a report: which photos, their pictures as JPEG thumbnails, their own scores."""

import base64
import io
import logging
import random
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cti.apps.report.blocks import Panel, Panels, Picture
from cti.apps.report.run_folder import RunFolder
from cti.classes import IGNORE_INDEX
from cti.data import Photo, PhotoSet, load_image, load_mask
from cti.data.seed_file import read_seed
from cti.evaluate.confusion import ConfusionMatrix
from cti.evaluate.doubt import Doubt
from cti.evaluate.labels import label_pixels
from cti.visualize import PanelRow, display_palette, panel_row

logger = logging.getLogger(__name__)

THUMBNAIL = 320  # longest side in pixels
QUALITY = 80
MAX_BYTES = 18_000_000  # of all pictures together, as base64
MASKS = ("seed", "pseudo-mask", "segmentation", "mask")


def build_panels(runs: Sequence[RunFolder], count: int) -> Panels | None:
    """Panels of photos that the runs have results for; the photos are the first run's.

    Args:
        runs: One for a report, several to be compared; then each photo gets a row of pictures per run.
        count: Photos to show, if they fit into `MAX_BYTES`.
    """
    photo_set = runs[0].photo_set
    if photo_set is None:
        return None
    candidates = {name: [photo for photo in photos if all(_has_result(run, photo) for run in runs)]
                  for name, photos in photo_set.lists.items()}  # fmt: skip
    chosen = choose_photos(candidates, len(photo_set.classes), count)
    panels, values, failed = _panels(runs, photo_set, chosen)
    if not panels:
        return None
    total = len({photo.id for photos in candidates.values() for photo in photos})
    note = f"{len(panels)} of {total} photos, drawn evenly over the classes."
    if failed:
        note += f" {failed} more could not be read."
    return Panels(tuple(panels), _colours(photo_set.classes, values), note)


def doubt_panels(run: RunFolder, doubts: Sequence[Doubt], count: int) -> Panels | None:
    """Panels of the photos that are to be doubted, each with the reasons and what to type.

    Args:
        run: The run.
        doubts: The most doubtful first.
        count: Photos to show at most.
    """
    if run.photo_set is None:
        return None
    listed = {photo.id: (name, photo) for name, photos in run.photo_set.lists.items() for photo in photos}
    chosen = [doubt for doubt in doubts if doubt.photo in listed][:count]
    panels, values, _ = _panels([run], run.photo_set, [listed[doubt.photo] for doubt in chosen])
    if not panels:
        return None
    about = {doubt.photo: doubt for doubt in chosen}
    told = [
        replace(
            panel,
            remarks=tuple(reason.text for reason in about[panel.name].reasons),
            command=shlex.join(["cti", "serve", str(run.path), "--photo", panel.name]),
        )
        for panel in panels
    ]
    note = f"{len(told)} of {len(doubts)} photos that are worth a look, the most doubtful first. Click to enlarge."
    return Panels(tuple(told), _colours(run.photo_set.classes, values), note, "most doubtful first")


def _panels(
    runs: Sequence[RunFolder], photo_set: PhotoSet, chosen: Sequence[tuple[str, Photo]]
) -> tuple[list[Panel], set[int], int]:
    """Panels of the chosen photos, as many as fit, the mask values that they show, and how many could not be read."""
    panels: list[Panel] = []
    values: set[int] = set()
    used, failed = 0, 0
    for list_name, photo in chosen:
        try:
            panel, shown = _panel(runs, photo_set, photo, list_name)
        except (OSError, ValueError) as error:
            logger.warning("Photo %s is not shown: %s", photo.id, error)
            failed += 1
            continue
        used += sum(len(picture.url) for _, pictures in panel.strips for picture in pictures)
        if used > MAX_BYTES:
            break
        panels.append(panel)
        values |= shown
    return panels, values, failed


def choose_photos(candidates: Mapping[str, Sequence[Photo]], num_classes: int, count: int) -> list[tuple[str, Photo]]:
    """Draw photos class by class, the same on every call; `train` only if the other lists have none.

    Args:
        candidates: List name -> its photos.
        num_classes: C.
        count: Photos to draw, shared evenly among the lists.
    """
    lists = {name: photos for name, photos in candidates.items() if photos}
    if len(lists) > 1:
        lists.pop("train", None)
    chosen: dict[str, tuple[str, Photo]] = {}
    for index, (name, photos) in enumerate(lists.items()):
        goal = count * (index + 1) // len(lists)
        fresh = [photo for photo in photos if photo.id not in chosen]
        random.Random(0).shuffle(fresh)
        # A photo's turn: how many photos of its first class come before it; classes then take turns.
        seen = [0] * (num_classes + 1)
        turns = []
        for photo in fresh:
            first = photo.tags[0] if photo.tags else num_classes
            turns.append((seen[first], first, photo.id, photo))
            seen[first] += 1
        for *_, photo in sorted(turns, key=lambda turn: turn[:3])[: goal - len(chosen)]:
            chosen[photo.id] = (name, photo)
    return list(chosen.values())


def thumbnail(image: Image.Image) -> str:
    """A `data:` URL of a small JPEG."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def photo_score(prediction: NDArray[np.uint8], truth: NDArray[np.uint8], num_classes: int) -> float:
    """mIoU of one photo over the classes that are true or predicted in it, ignored pixels as background."""
    matrix = ConfusionMatrix(num_classes + 1)
    matrix.update(np.where(prediction == IGNORE_INDEX, np.uint8(0), prediction), truth)
    return matrix.miou


def _has_result(run: RunFolder, photo: Photo) -> bool:
    return (run.path / "seeds" / f"{photo.id}.npz").is_file() or any(
        path.is_file() for path in _mask_paths(run, photo).values()
    )


def _mask_paths(run: RunFolder, photo: Photo) -> dict[str, Path]:
    folders = {"pseudo-mask": run.path / "masks" / "pseudo", "segmentation": run.segmentation_folder}
    if "segment" in run.manifests:  # before, the pseudo-masks are the masks
        folders["mask"] = run.path / "masks"
    return {name: folder / f"{photo.id}.png" for name, folder in folders.items()}


def _panel(
    runs: Sequence[RunFolder], photo_set: PhotoSet, photo: Photo, list_name: str
) -> tuple[Panel, frozenset[int]]:
    image = load_image(photo.image, reading=photo.reading)
    truth = None if photo.mask is None else photo.mask.load()
    strips: list[tuple[str, tuple[Picture, ...]]] = []
    scores: dict[str, float] = {}
    values: frozenset[int] = frozenset()
    for run in runs:
        row, masks = _row(run, image, photo, photo_set.classes, truth)
        values |= row.values
        suffix = f", {run.name}" if len(runs) > 1 else ""
        pictures = {
            name: Picture(cell.caption, f"{cell.caption}{suffix}, {photo.id}", thumbnail(cell.image))
            for name, cell in row.cells.items()
        }
        run_scores = {} if truth is None else _scores(masks, truth, len(photo_set.classes))
        scores |= {f"{name}{suffix}": score for name, score in run_scores.items()}
        if len(runs) == 1:
            strips.append(("", tuple(pictures.values())))
            continue
        if not strips:
            strips.append(("", tuple(pictures[name] for name in ("photo", "truth") if name in pictures)))
        title = ", ".join(f"{name} {100 * score:.0f}" for name, score in run_scores.items())
        rest = tuple(picture for name, picture in pictures.items() if name not in ("photo", "truth"))
        strips.append((f"{run.name}: mIoU {title}" if title else run.name, rest))
    scores |= _gains(scores, [run.name for run in runs])
    tags = tuple(photo_set.classes[tag] for tag in photo.tags)
    return Panel(photo.id, list_name, tags, scores, tuple(strips)), values


def _scores(masks: Mapping[str, NDArray[np.uint8]], truth: NDArray[np.uint8], num_classes: int) -> dict[str, float]:
    scores = {name: photo_score(mask, truth, num_classes) for name, mask in masks.items()}
    return {name: score for name, score in scores.items() if not np.isnan(score)}


def _gains(scores: Mapping[str, float], runs: Sequence[str]) -> dict[str, float]:
    """Differences of each further run to the first, by what both have."""
    return {
        f"{name}, {run} - {runs[0]}": scores[f"{name}, {run}"] - scores[f"{name}, {runs[0]}"]
        for run in runs[1:]
        for name in MASKS
        if f"{name}, {run}" in scores and f"{name}, {runs[0]}" in scores
    }


def _row(
    run: RunFolder, image: Image.Image, photo: Photo, classes: Sequence[str], truth: NDArray[np.uint8] | None
) -> tuple[PanelRow, dict[str, NDArray[np.uint8]]]:
    """Pictures of one run's results, and its masks by name."""
    assert run.config is not None  # a run with photos has one
    masks: dict[str, NDArray[np.uint8]] = {}
    seed_path = run.path / "seeds" / f"{photo.id}.npz"
    seed = read_seed(seed_path) if seed_path.is_file() else None
    if seed is not None:
        cams = seed.cams()
        masks["seed"] = label_pixels(cams, seed.class_indices, run.config.evaluate.threshold)
    masks |= {name: load_mask(path) for name, path in _mask_paths(run, photo).items() if path.is_file()}
    if seed is None:
        return panel_row(image, classes, {"truth": truth, **masks}), masks
    row = panel_row(
        image, classes, {"truth": truth, **masks}, cams=cams, class_indices=seed.class_indices,
        background_cam=seed.background_cam(),
    )  # fmt: skip
    return row, masks


def _colours(classes: Sequence[str], values: set[int]) -> dict[str, str]:
    names = {IGNORE_INDEX: "ignored or unlabelled", **dict(enumerate(classes, 1))}
    return {names[value]: hex_colour(value) for value in sorted(values) if value in names}


def hex_colour(value: int) -> str:
    """The colour of a mask value as #rrggbb."""
    red, green, blue = display_palette()[value]
    return f"#{red:02x}{green:02x}{blue:02x}"
