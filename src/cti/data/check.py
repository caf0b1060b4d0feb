"""Decode everything once and say what is wrong, before training rather than hours into it."""

import hashlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from cti.config import DataConfig
from cti.data.check_report import CheckReport
from cti.data.images import MAX_PIXELS, MaskFile, load_mask, open_image, oriented_size, to_rgb
from cti.data.photos import Photo, PhotoSet
from cti.data.read import read_photos
from cti.data.readers.coco import CocoMask
from cti.files import read_json, write_json

_log = logging.getLogger(__name__)
_VERSION = 1  # raise it when the facts kept in the cache change


def check_data(
    data: PhotoSet | DataConfig,
    cache: Path | str | None = None,
    max_broken: float = 0.01,
    max_pixels: int = MAX_PIXELS,
    progress: bool = True,
) -> CheckReport:
    """Decode every photo and mask once and report.

    Args:
        data: The photos, or the configuration to read them by (which then says `max_broken` and `max_pixels`).
        cache: JSON file that keeps what was found per file; a file of the same path, size and time is not decoded
            again. None: `check_cache(data)`.
        max_broken: Share of broken photos above which training stops.
        max_pixels: Larger photos count as broken.
        progress: Show a progress bar on stderr.

    Raises:
        FileNotFoundError: see `read_photos`; broken photos raise nothing, they are reported.
        ValueError: likewise.
    """
    if isinstance(data, DataConfig):
        max_broken, max_pixels = data.max_broken, data.max_pixels
    photo_set = read_photos(data) if isinstance(data, DataConfig) else data
    photos = photo_set.photos()
    cache = Path(cache) if cache is not None else check_cache(photo_set)
    known = _read_cache(cache)

    jobs = _jobs(photos, max_pixels)
    facts = {key: known[key] for key, (path, _) in jobs.items() if key in known and known[key]["file"] == _stamp(path)}
    todo = [key for key in jobs if key not in facts]
    if todo:
        facts |= _look(todo, jobs, progress)
        try:
            write_json(cache, {"version": _VERSION, "facts": known | facts})
        except OSError as error:
            _log.warning("The data check could not be kept in %s (%s); it will run again next time.", cache, error)
    return _report(photo_set, facts, max_broken, max_pixels)


def usable(photo_set: PhotoSet, report: CheckReport, max_broken: float | None = None) -> PhotoSet:
    """The set without broken photos, and without masks that do not fit theirs; both are named in its notes.

    Raises:
        ValueError: if training should stop: more than `max_broken` (default: the report's) of the photos or masks are
            broken, or no photo is left to train on. The message lists them all.
    """
    if max_broken is not None:
        report = replace(report, max_broken=max_broken)
    if report.stops_training:
        reasons = [*report.broken.values(), *report.bad_masks.values()]
        raise ValueError("\n".join([*report.errors, *(f"- {reason}" for reason in reasons)]))

    def keep(photos: Iterable[Photo]) -> tuple[Photo, ...]:
        sound = (photo for photo in photos if photo.id not in report.broken)
        return tuple(replace(photo, mask=None) if photo.id in report.bad_masks else photo for photo in sound)

    lists = {name: keep(photos) for name, photos in photo_set.lists.items()}
    notes = list(photo_set.notes)
    for what, found in (("unreadable photos", report.broken), ("unusable masks", report.bad_masks)):
        if found:
            notes.append(f"{len(found)} {what} were left out: {', '.join(found)}.")
    has_masks = any(photo.mask is not None for name in ("score", "val") for photo in lists.get(name, ()))
    return replace(photo_set, lists=lists, notes=tuple(notes), has_masks=has_masks)


def check_cache(photo_set: PhotoSet) -> Path:
    """Where the check of a data set is kept: in the user's cache folder, as data folders may be read-only."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folders = sorted({str(photo.image.resolve().parent) for photo in photo_set.photos()})
    return base / "cti" / f"check-{hashlib.sha256(chr(10).join(folders).encode()).hexdigest()[:16]}.json"


def _photo_key(photo: Photo, max_pixels: int) -> str:
    return f"photo {max_pixels} {photo.image.absolute()}"


def _mask_key(mask: MaskFile) -> str:
    return f"mask {mask.num_classes} {mask.path.absolute()}"


def _jobs(photos: Iterable[Photo], max_pixels: int) -> dict[str, tuple[Path, Callable[[Path], dict[str, Any]]]]:
    """Key in the cache -> file, and how to look at it."""
    jobs: dict[str, tuple[Path, Callable[[Path], dict[str, Any]]]] = {}
    for photo in photos:
        jobs[_photo_key(photo, max_pixels)] = photo.image, partial(_photo_facts, max_pixels)
        if isinstance(photo.mask, MaskFile):
            jobs[_mask_key(photo.mask)] = photo.mask.path, partial(_mask_facts, photo.mask.num_classes)
    return jobs


def _look(
    todo: list[str], jobs: dict[str, tuple[Path, Callable[[Path], dict[str, Any]]]], progress: bool
) -> dict[str, Any]:
    def look(key: str) -> dict[str, Any]:
        path, facts = jobs[key]
        try:
            return {"file": _stamp(path), **facts(path)}
        except (ValueError, OSError) as error:
            return {"file": _stamp(path), "error": str(error)}

    # Threads do: Pillow decodes and hashlib hashes without holding Python's lock.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        found = pool.map(look, todo)
        console = Console(stderr=True)
        shown = track(found, "Checking photos", total=len(todo), console=console, disable=not progress, transient=True)
        return dict(zip(todo, shown, strict=True))


def _photo_facts(max_pixels: int, path: Path) -> dict[str, Any]:
    with open_image(path, max_pixels) as image:
        size = oriented_size(image)
        to_rgb(image)
    with path.open("rb") as handle:
        return {"size": list(size), "hash": hashlib.file_digest(handle, "sha256").hexdigest()}


def _mask_facts(num_classes: int, path: Path) -> dict[str, Any]:
    height, width = load_mask(path, num_classes).shape
    return {"size": [width, height]}


def _report(photo_set: PhotoSet, facts: dict[str, Any], max_broken: float, max_pixels: int) -> CheckReport:
    photos = photo_set.photos()
    broken: dict[str, str] = {}
    bad_masks: dict[str, str] = {}
    same: dict[str, list[str]] = defaultdict(list)
    for photo in photos:
        image = facts[_photo_key(photo, max_pixels)]
        if "error" in image:
            broken[photo.id] = image["error"]
            continue
        same[image["hash"]].append(photo.id)
        reason = _mask_error(photo, image["size"], facts)
        if reason:
            bad_masks[photo.id] = reason
    duplicates = tuple(tuple(ids) for ids in same.values() if len(ids) > 1)
    train, val = ({photo.id for photo in photo_set.lists.get(name, ())} for name in ("train", "val"))
    listed_twice = tuple((photo,) for photo in sorted(train & val))
    return CheckReport(
        lists={name: len(listed) for name, listed in photo_set.lists.items()},
        classes={name: photo_set.count_tags(name) for name in photo_set.lists},
        tags_per_image=dict(sorted(Counter(len(photo.tags) for photo in photos).items())),
        broken=broken,
        bad_masks=bad_masks,
        duplicates=duplicates,
        leaks=(*listed_twice, *(ids for ids in duplicates if train & set(ids) and val & set(ids))),
        dropped_tags=photo_set.dropped_tags,
        notes=photo_set.notes,
        num_photos=len(photos),
        num_masks=sum(photo.mask is not None for photo in photos),
        num_trainable=len(train - broken.keys()),
        max_broken=max_broken,
    )


def _mask_error(photo: Photo, size: list[int], facts: dict[str, Any]) -> str:
    """Why a photo's mask cannot be used; empty if it can."""
    if isinstance(photo.mask, MaskFile):
        fact, name = facts[_mask_key(photo.mask)], str(photo.mask.path)
    elif isinstance(photo.mask, CocoMask):
        fact, name = {"size": list(photo.mask.size[::-1])}, f"of {photo.id} in {photo.mask.annotations}"
    else:
        return ""
    if "error" in fact:
        return str(fact["error"])
    if fact["size"] == size:
        return ""
    width, height = fact["size"]
    return f"The mask {name} is {width} x {height}, its photo {size[0]} x {size[1]} pixels; make them the same size."


def _read_cache(path: Path) -> dict[str, Any]:
    """Facts per file; empty where the cache is absent, damaged or of another version: it can always be made anew."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    fits = isinstance(content, dict) and content.get("version") == _VERSION
    return dict(content["facts"]) if fits else {}


def _stamp(path: Path) -> list[int] | None:
    """What a file's facts hold for: its size and time of change; None for a missing file."""
    try:
        state = path.stat()
    except OSError:
        return None
    return [state.st_size, state.st_mtime_ns]
