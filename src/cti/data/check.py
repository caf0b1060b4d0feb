"""Decode everything once and say what is wrong, before training rather than hours into it."""

import hashlib
import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from cti.classes import IGNORE_INDEX
from cti.config import DataConfig
from cti.data.check_report import CheckReport
from cti.data.depth import Reading
from cti.data.images import MAX_PIXELS, MaskFile, deep_ends, is_passing, open_image, oriented_size, to_rgb
from cti.data.mask_tags import MaskView, compare_masks
from cti.data.names import likely_slips
from cti.data.photos import MaskSource, Photo, PhotoSet
from cti.data.read import read_photos
from cti.data.readers.coco_mask import CocoMask
from cti.files import file_digest, from_json, read_json, to_json, write_json

_log = logging.getLogger(__name__)
_JUST_NOW = 2_000_000_000  # ns; a file changed so lately may change again without another time or size
_VERSION = 4  # raise it when the facts kept in the cache change


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
    facts = {key: known[key] for key, job in jobs.items() if key in known and known[key].file == _stamp(job.path)}
    todo = [key for key in jobs if key not in facts]
    if todo:
        started = time.time_ns()
        found = _look(todo, jobs, progress)
        facts |= found
        lasting = {key: fact for key, fact in found.items() if _lasts(fact, started)}
        try:
            write_json(cache, {"version": _VERSION, "facts": to_json(known | lasting)})
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
    bands = f" {list(photo.reading.bands)}" if photo.reading.bands else ""
    return f"photo {max_pixels}{bands} {photo.image.absolute()}"


def _mask_key(mask: MaskSource) -> str:
    if isinstance(mask, MaskFile):
        return f"mask {mask.num_classes} {mask.folder_class} {mask.max_pixels} {mask.path.absolute()}"
    if isinstance(mask, CocoMask):
        return f"drawn {mask.image_ids} {mask.size} {mask.max_pixels} {mask.annotations.absolute()}"
    return ""


@dataclass(frozen=True)
class _Fact:
    """What was found in a file.

    Args:
        file: What it holds for: the file's size in bytes and time of change in ns; None = there was no file.
        size: Width and height in pixels.
        hash: SHA-256 of a photo's or mask's file, or of the pixels of a drawn mask.
        ends: Of a photo of more than 8 bits: its lowest and highest level.
        values: Of a mask: the values that it holds.
        error: Why it cannot be used; empty if it can.
        passing: Whether what is wrong does not lie in the file (no memory, no permission).
    """

    file: tuple[int, int] | None = None
    size: tuple[int, int] = (0, 0)
    hash: str = ""
    ends: tuple[float, float] | None = None
    values: tuple[int, ...] = ()
    error: str = ""
    passing: bool = False


@dataclass(frozen=True)
class _Job:
    """A file, and how to look at it."""

    path: Path
    look: Callable[[], _Fact]


def _jobs(photos: Iterable[Photo], max_pixels: int) -> dict[str, _Job]:
    """Key in the cache -> what is to be done."""
    jobs: dict[str, _Job] = {}
    for photo in photos:
        look = partial(_photo_facts, max_pixels, photo.image, photo.reading)
        jobs[_photo_key(photo, max_pixels)] = _Job(photo.image, look)
        if isinstance(photo.mask, MaskFile):
            jobs[_mask_key(photo.mask)] = _Job(photo.mask.path, partial(_mask_facts, photo.mask))
        elif isinstance(photo.mask, CocoMask):
            jobs[_mask_key(photo.mask)] = _Job(photo.mask.annotations, partial(_drawn_facts, photo.mask))
    return jobs


def _look(todo: list[str], jobs: dict[str, _Job], progress: bool) -> dict[str, _Fact]:
    def look(key: str) -> _Fact:
        job = jobs[key]
        stamp = _stamp(job.path)
        try:
            return replace(job.look(), file=stamp)
        except MemoryError:
            return _Fact(stamp, error=f"{job.path} does not fit into memory; shrink it.", passing=True)
        except (ValueError, OSError) as error:
            return _Fact(stamp, error=str(error), passing=is_passing(error))

    # Threads do: Pillow decodes and hashlib hashes without holding Python's lock.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        found = pool.map(look, todo)
        console = Console(stderr=True)
        shown = track(found, "Checking photos", total=len(todo), console=console, disable=not progress, transient=True)
        return dict(zip(todo, shown, strict=True))


def _lasts(fact: _Fact, started: int) -> bool:
    """Whether a fact may be kept: the file was not changed just now, and what was wrong with it lies in it."""
    return not fact.passing and fact.file is not None and abs(started - fact.file[1]) > _JUST_NOW


def _photo_facts(max_pixels: int, path: Path, reading: Reading) -> _Fact:
    with open_image(path, max_pixels) as image:
        size = oriented_size(image)
        ends = deep_ends(image, reading)
        to_rgb(image, reading)
    return _Fact(size=size, hash=file_digest(path), ends=ends)


def _mask_facts(mask: MaskFile) -> _Fact:
    return _mask_fact(mask.read(), file_digest(mask.path))


def _drawn_facts(mask: CocoMask) -> _Fact:
    values = mask.draw()
    return _mask_fact(values, hashlib.sha256(values.tobytes()).hexdigest())


def _mask_fact(mask: NDArray[np.uint8], digest: str) -> _Fact:
    height, width = mask.shape
    values = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist()
    return _Fact(size=(width, height), hash=digest, values=tuple(values))


def _report(photo_set: PhotoSet, facts: dict[str, _Fact], max_broken: float, max_pixels: int) -> CheckReport:
    photos = photo_set.photos()
    broken: dict[str, str] = {}
    bad_masks: dict[str, str] = {}
    same: dict[str, list[str]] = defaultdict(list)
    views: list[MaskView] = []
    mask_digests: dict[str, str] = {}
    deep: list[tuple[float, float]] = []
    for photo in photos:
        image = facts[_photo_key(photo, max_pixels)]
        if image.error:
            broken[photo.id] = image.error
            continue
        same[image.hash].append(photo.id)
        if image.ends and not photo.reading.levels:
            deep.append(image.ends)
        mask = facts[_mask_key(photo.mask)] if photo.mask and _mask_key(photo.mask) else None
        if mask is None:
            continue
        reason = _mask_error(photo, image.size, mask)
        if reason:
            bad_masks[photo.id] = reason
        else:
            mask_digests[photo.id] = mask.hash
            views.append(_view(photo, mask.values))
    contradictions, doubts = compare_masks(views, photo_set.classes)
    duplicates = tuple(tuple(ids) for ids in same.values() if len(ids) > 1)
    train, val = ({photo.id for photo in photo_set.lists.get(name, ())} for name in ("train", "val"))
    listed_twice = tuple((photo,) for photo in sorted(train & val))
    counts = Counter(photo_set.classes[tag] for photo in photos for tag in photo.tags)
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
        num_positive=sum(bool(photo.tags) and photo.id not in broken for photo in photo_set.lists.get("train", ())),
        contradictions=contradictions,
        doubts=(*photo_set.problems, *_depths(deep), *doubts),
        suggestions=likely_slips({name: counts[name] for name in photo_set.classes}),
        digests={photo: digest for digest, ids in same.items() for photo in ids},
        mask_digests=mask_digests,
    )


def _depths(ends: Sequence[tuple[float, float]]) -> list[str]:
    """A sentence about photos of more than 8 bits, by the ends (low, high) of each; nothing if there are none."""
    if not ends:
        return []
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    if low >= high:
        return []
    return [
        f"{len(ends)} photos have more than 8 bits, and each is brought to 8 by a range of its own; with "
        f"data.levels=[{low:g},{high:g}], the range of them all, they and new photos are read alike."
    ]


def _view(photo: Photo, values: Sequence[int]) -> MaskView:
    assert isinstance(photo.mask, MaskFile | CocoMask)
    shown = {photo.mask.table[value] for value in values}
    classes = frozenset(value - 1 for value in shown - {0, IGNORE_INDEX})
    return MaskView(photo.id, frozenset(photo.tags), classes, IGNORE_INDEX in shown)


def _mask_error(photo: Photo, size: tuple[int, int], fact: _Fact) -> str:
    """Why a photo's mask cannot be used; empty if it can."""
    if fact.error or fact.size == size:
        return fact.error
    mask = photo.mask
    name = f"of {photo.id} in {mask.annotations}" if isinstance(mask, CocoMask) else getattr(mask, "path", photo.id)
    width, height = fact.size
    return f"The mask {name} is {width} x {height}, its photo {size[0]} x {size[1]} pixels; make them the same size."


def _read_cache(path: Path) -> dict[str, _Fact]:
    """Facts per file; empty where the cache is absent, damaged or of another version: it can always be made anew."""
    try:
        content = read_json(path)
        sound = isinstance(content, dict) and content.get("version") == _VERSION
        return from_json(dict[str, _Fact], content["facts"], path) if sound else {}
    except (OSError, ValueError, KeyError):
        return {}


def _stamp(path: Path) -> tuple[int, int] | None:
    """What a file's facts hold for: its size and time of change; None for a missing file."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns
