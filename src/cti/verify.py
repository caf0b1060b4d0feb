"""Compare the files of finished stages with the digests in their manifests, and make way for what is damaged.

The next call of a stage makes again what was removed here; what nobody needs any more is named only.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from cti.config import spoken
from cti.data.fingerprint import PhotoChange
from cti.data.mask_records import MADE_WITH, RECORDS, TABLE
from cti.files import MANIFEST, manifest_digest, read_manifest
from cti.run import FOLDERS, Run
from cti.run.changes import Change
from cti.run.stage_folder import PHOTOS, SETTINGS, damaged_files, locked, make_way
from cti.train.fit import METRICS, STATE

logger = logging.getLogger(__name__)

_BEST = "best/"


def verify(run: Run) -> tuple[str, ...]:
    """Check the files of every finished stage, and remove what is damaged so that it is made again.

    Returns:
        Paths of the damaged files, from the run's folder.
    """
    found: list[str] = []
    with locked(run.folder):
        for stage in FOLDERS:
            damaged = _damaged(run, stage)
            if damaged:
                consequence = _mend(run.stage_folder(stage), stage, damaged)
                for name in damaged:
                    logger.warning("%s is damaged or missing: %s", run.stage_folder(stage) / name, consequence)
            found += [f"{stage}/{name}" for name in damaged]
    if not found:
        logger.info("All files in %s are as they were made.", run.folder)
    return tuple(found)


def _damaged(run: Run, stage: str) -> list[str]:
    folder = run.stage_folder(stage)
    if not (folder / MANIFEST).is_file():
        later = FOLDERS[FOLDERS.index(stage) + 1 :]
        went_on = any((run.stage_folder(other) / MANIFEST).is_file() for other in later)
        return [MANIFEST] if went_on and (folder / SETTINGS).is_file() else []
    try:
        manifest = read_manifest(folder) or {}
    except ValueError:
        return [MANIFEST]
    if manifest.get("digest") != manifest_digest(manifest):
        return [MANIFEST]
    damaged = damaged_files(folder, manifest["files"])
    segmented = (run.stage_folder("segment") / MANIFEST).is_file()
    # Until the segmenter has finished it is putting its masks in the place of pseudo-masks.
    return [name for name in damaged if stage != "masks" or segmented or not _is_result(name)]


def _mend(folder: Path, stage: str, damaged: list[str]) -> str:
    """Remove what is damaged, as little as possible; says what becomes of it."""
    if stage in ("first_look", "evaluate") or {SETTINGS, PHOTOS} & set(damaged):
        make_way(folder, "again", Change())
        return f"{spoken(stage)} is made again"
    if stage in ("train", "segment"):
        predictions = [name for name in damaged if name.startswith("predictions/")]
        others = [name for name in damaged if name not in predictions]
        _unlink(folder, predictions)
        if not others:
            return "it is made again"
        if all(map(_only_for_going_on, others)):
            return f"the network is whole, but cannot be trained for more epochs; to make it anew, delete {folder}"
        if any(map(_only_for_going_on, others)):
            make_way(folder, "again", Change())
            return f"{spoken(stage)} is made again"
        _unlink(folder, [MANIFEST, *others])
        return "it is made again from the state of training"
    results = [name for name in damaged if stage == "masks" and _is_result(name)]
    if any(not name.endswith(".png") for name in results):
        results += [RECORDS, TABLE, MADE_WITH]
    _unlink(folder, results)
    if photos := {Path(name).stem for name in damaged if name not in results}:
        make_way(folder, "by photo", Change(photos=PhotoChange(replaced=tuple(sorted(photos)))))
        _unlink(folder, damaged)
    return "it is made again"


def _is_result(name: str) -> bool:
    """Whether a file in masks/ is made by the stage `segment`."""
    return "/" not in name and (name.endswith(".png") or name in (RECORDS, TABLE, MADE_WITH))


def _only_for_going_on(name: str) -> bool:
    """Whether a file in the folder of a training is of no use to who has its network."""
    return name in (STATE, METRICS) or name.startswith((_BEST, "events."))


def _unlink(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
