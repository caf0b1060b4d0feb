"""The files in a stage's folder that say what it was made from, and what is moved and removed when that changes."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cti.config import DataConfig
from cti.data.fingerprint import DataRecord
from cti.data.mask_records import RECORDS
from cti.data.splits import EarlierSplit
from cti.files import (
    MANIFEST,
    file_digest,
    from_json,
    read_manifest,
    read_object,
    rewrite_manifest,
    to_json,
    write_json,
    write_text,
)
from cti.run.changes import Action, Change, History, Made
from cti.settings import CONFIG_FILE

SETTINGS = "stage.json"
PHOTOS = "photos.json"
HISTORY = "history.json"
LISTS = "lists"
PREDICTIONS = "predictions"
START = "start"
"""The network that a training goes on from."""
BEFORE = "before"
"""Predictions of the segmenter from which the last one went on."""
NETWORK = ("config.json", "model.safetensors")
LOCK = ".lock"
_UNSEALED = (MANIFEST, HISTORY, START, BEFORE)
_BEGUN = {CONFIG_FILE, SETTINGS, PHOTOS, HISTORY, LISTS}
"""What lies in the folder of a stage in which nothing was made yet."""


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the lock of a run's folder, which is made, and removed if nothing came into it.

    Raises:
        ValueError: if another process holds it.
    """
    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"Another process works in {run}; wait for it, or choose another --out.") from error
    try:
        yield
    finally:
        lock.release()
        if not any(path.name != LOCK for path in run.iterdir()):
            shutil.rmtree(run, ignore_errors=True)


def sweep(run: Path, stages: Iterable[str]) -> None:
    """Remove what a killed process was writing; the caller holds the lock, so nobody is writing there now."""
    for leftover in (*run.glob(".*.tmp*"), *(path for stage in stages for path in (run / stage).rglob(".*.tmp*"))):
        leftover.unlink(missing_ok=True)


def read_made(folder: Path) -> Made | None:
    """What the stage in a folder was made from, or None if nothing was begun there.

    Raises:
        ValueError: if its files are damaged; the message names them.
    """
    if not (folder / SETTINGS).is_file():
        return None
    if not (folder / PHOTOS).is_file():
        raise ValueError(
            f"{folder} was made by another version of cti (no {PHOTOS}); delete it, or give another --out."
        )
    photos = from_json(DataRecord, read_object(folder / PHOTOS), folder / PHOTOS)
    return Made(read_object(folder / SETTINGS), photos)


def read_split(folder: Path, data: DataConfig) -> EarlierSplit | None:
    """The split written down in the folder of `train`, or None if there is none that was drawn as `data` says."""
    lists = [folder / LISTS / f"{name}.txt" for name in ("train", "val")]
    if not all(path.is_file() for path in lists):
        return None
    if (folder / SETTINGS).is_file():
        then = read_object(folder / SETTINGS).get("data", {})
        if (then.get("val_fraction"), then.get("split_seed")) != (data.val_fraction, data.split_seed):
            return None
    train, val = (frozenset(path.read_text(encoding="utf-8").splitlines()) for path in lists)
    return EarlierSplit(train, val)


def write_made(folder: Path, made: Made) -> None:
    """Write what a stage is made from; the settings last, for they say that the stage was begun."""
    write_text(folder / PHOTOS, json.dumps(to_json(made.photos), ensure_ascii=False))
    write_json(folder / SETTINGS, made.settings)


def read_history(folder: Path) -> History:
    """How the stage in a folder came about."""
    path = folder / HISTORY
    return from_json(History, read_object(path), path) if path.is_file() else History()


def make_way(folder: Path, action: Action, change: Change) -> None:
    """Remove from a stage's folder what no longer fits, the manifest first; lists that were drawn stay."""
    finished = (folder / MANIFEST).is_file()
    if action == "from weights" and finished:
        shutil.rmtree(folder / START, ignore_errors=True)
        link_files([folder / name for name in NETWORK], folder, folder / START)
    (folder / MANIFEST).unlink(missing_ok=True)
    if action == "by photo":
        gone = {*change.photos.remade, *change.photos.removed}
        _remove(path for path in folder.rglob("*") if path.stem in gone and path.suffix in (".npz", ".png"))
    elif action == "more epochs":
        shutil.rmtree(folder / PREDICTIONS, ignore_errors=True)
    elif action == "from weights":
        if finished and (folder / PREDICTIONS).is_dir():
            shutil.rmtree(folder / BEFORE, ignore_errors=True)
            (folder / PREDICTIONS).rename(folder / BEFORE)
        _remove(path for path in folder.iterdir() if path.name not in (LISTS, START, BEFORE, SETTINGS, PHOTOS))
    else:
        _remove(path for path in folder.iterdir() if path.name not in (LISTS, SETTINGS))
        (folder / SETTINGS).unlink(missing_ok=True)  # last: as long as it is there, the rest is known to be of before


def keep_records(masks: Path, predictions: Path) -> None:
    """Keep what is known of masks with the predictions of then, to be compared with what is made in their place."""
    records, kept = masks / RECORDS, predictions / RECORDS
    if records.is_file() and not kept.is_file():
        write_text(kept, records.read_text(encoding="utf-8"))


def take_over(source: Path, target: Path, run: Path) -> None:
    """Take a finished stage from another run, as hard links (copies where there are none), all of it or nothing.

    Args:
        source: Its folder there.
        target: Its folder here; what is there already stays.
        run: The other run, to be named.
    """
    if target.exists() or read_manifest(source) is None:
        return
    history = History(str(run), "", (*read_history(source).changes, f"taken from {run}"))
    files = [path for path in source.rglob("*") if path.is_file() and not path.name.startswith(".")]
    link_files(files, source, target, history)


def seal(folder: Path) -> None:
    """Take files that were added to a finished stage, or changed in it, into its manifest."""
    manifest = read_manifest(folder)
    if manifest is not None:
        known = manifest.get("files", {})
        files = known | digests(folder, known, (folder / MANIFEST).stat().st_mtime_ns)
        if files != known:
            rewrite_manifest(folder, {**manifest, "files": files})


def remove_folders(stage: Path, folders: Sequence[Path]) -> None:
    """Remove folders below a stage's, and from its manifest if it has finished."""
    manifest = read_manifest(stage)
    if manifest is not None and folders:
        gone = tuple(f"{folder.relative_to(stage).as_posix()}/" for folder in folders)
        kept = {name: digest for name, digest in manifest["files"].items() if not name.startswith(gone)}
        rewrite_manifest(stage, {**manifest, "files": kept})
    _remove(folders)


def digests(folder: Path, known: Mapping[str, str] | None = None, since: int = 0) -> dict[str, str]:
    """Start of the SHA-256 (hex) of every file in a stage's folder that its result consists of, by relative path.

    Args:
        folder: The folder.
        known: Digests of before; they stay for files that are older than `since`.
        since: A time in nanoseconds.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.name.startswith(".") and name.split("/")[0] not in _UNSEALED:
            old = (known or {}).get(name) if path.stat().st_mtime_ns < since else None
            found[name] = old or file_digest(path)[:16]
    return found


def damaged_files(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Names of the files in a stage's folder that are gone, or differ from their digests."""
    return [
        name
        for name, digest in files.items()
        if not (folder / name).is_file() or file_digest(folder / name)[:16] != digest
    ]


def clear_failed_start(folder: Path, fresh: bool, new_run: bool) -> None:
    """Remove a stage in which nothing was made yet, and its run if that holds nothing of its own.

    Args:
        folder: The stage's folder.
        fresh: Whether it was not there before.
        new_run: Whether its run was not there either.
    """
    run = folder.parent
    if {path.name for path in folder.iterdir() if not path.name.startswith(".")} <= _BEGUN:
        if new_run:
            _remove(path for path in run.iterdir() if path.name != LOCK)
            return
        if fresh:
            shutil.rmtree(folder)
        else:  # lists that were drawn for the stage of before stay
            _remove(folder / name for name in _BEGUN - {LISTS} if (folder / name).exists())
    rest = [path for path in run.iterdir() if path.name not in (CONFIG_FILE, LOCK)]
    if all(read_history(path).taken_from for path in rest):
        _remove([*rest, run / CONFIG_FILE])


def link_files(files: Iterable[Path], source: Path, target: Path, history: History | None = None) -> None:
    """Give files below `source` second names below `target`, which appears when all are there."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".taking.") as temporary:
        for path in files:
            name = Path(temporary) / target.name / path.relative_to(source)
            name.parent.mkdir(parents=True, exist_ok=True)
            if not (path.suffix != ".jsonl" and _hard_link(path, name)):  # lines are added to them in place
                shutil.copy2(path, name)
        if history:
            write_json(Path(temporary) / target.name / HISTORY, to_json(history))
        (Path(temporary) / target.name).rename(target)


def _hard_link(path: Path, name: Path) -> bool:
    try:
        name.hardlink_to(path.resolve())
    except OSError:  # another file system, or one without hard links
        return False
    return True


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
