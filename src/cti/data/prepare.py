"""From the official archives of PASCAL VOC 2012 and COCO 2014 to folders the readers understand."""

import logging
import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track
from torchvision.datasets import SBDataset
from torchvision.datasets.utils import check_integrity, download_url
from torchvision.datasets.voc import DATASET_YEAR_DICT

from cti.config import DataConfig
from cti.data.images import save_mask
from cti.data.readers.coco import read_coco
from cti.data.readers.coco_mask import CocoMask
from cti.data.text import read_lines
from cti.files import atomic_path, write_text

_log = logging.getLogger(__name__)
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Archive:
    """An official archive.

    Args:
        url: Where it is published.
        name: Its file name.
        md5: Its checksum; empty where none is published.
        proof: A path that exists once it is unpacked, relative to the root.
    """

    url: str
    name: str
    md5: str
    proof: str


# What unpacking raises on archives that are cut, changed or encrypted.
_DAMAGED = (
    shutil.ReadError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
)  # fmt: skip
_VOC = DATASET_YEAR_DICT["2012"]
_COCO = "http://images.cocodataset.org"
ARCHIVES: dict[str, tuple[Archive, ...]] = {
    "voc12": (
        Archive(_VOC["url"], _VOC["filename"], _VOC["md5"], "VOCdevkit/VOC2012/SegmentationClass"),
        Archive(SBDataset.url, SBDataset.filename, SBDataset.md5, "benchmark_RELEASE/dataset/cls"),
    ),
    "coco14": (
        Archive(f"{_COCO}/zips/train2014.zip", "train2014.zip", "", "train2014"),
        Archive(f"{_COCO}/zips/val2014.zip", "val2014.zip", "", "val2014"),
        Archive(
            f"{_COCO}/annotations/annotations_trainval2014.zip",
            "annotations_trainval2014.zip",
            "",
            "annotations/instances_train2014.json",
        ),
    ),
}


def prepare(name: Literal["voc12", "coco14"], root: Path | str) -> Path:
    """Download, unpack and convert a benchmark; what is done already is not done again.

    `voc12` gets the list `train_aug` (10,582 photos: VOC's `train` and all of SBD, without VOC's `val`) and
    `SegmentationClassAug`. `coco14` gets ready-made masks for `val2014` and `train2014` in `masks/`.

    Args:
        name: `voc12` or `coco14`.
        root: Folder that holds, or will hold, the archives and what they unpack to.

    Returns:
        The folder to give as `data.root`.

    Raises:
        FileNotFoundError: if archives are neither there nor to be had; one sentence for each says where to put it.
        ValueError: for another name, or a damaged archive.
    """
    if name not in ARCHIVES:
        raise ValueError(f"There is no recipe to prepare '{name}'; choose one of {', '.join(ARCHIVES)}.")
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    needed = [archive for archive in ARCHIVES[name] if not (root / archive.proof).exists()]
    missing = [sentence for archive in needed if (sentence := _fetch(archive, root))]
    if missing:
        raise FileNotFoundError("\n".join(missing))
    for archive in needed:
        _unpack(root / archive.name, root)
    if name == "voc12":
        return add_sbd(root / "VOCdevkit" / "VOC2012", root / "benchmark_RELEASE" / "dataset")
    write_coco_masks(root)
    return root


def add_sbd(voc: Path, sbd: Path) -> Path:
    """Add SBD's outlines to VOC 2012: `SegmentationClassAug` and `ImageSets/Segmentation/train_aug.txt`.

    VOC's own masks are kept where there are any: SBD's are coarser and have no unlabelled border.

    Returns:
        `voc`.
    """
    from scipy.io import loadmat

    lists = voc / "ImageSets" / "Segmentation"
    val = _names(lists / "val.txt")
    sbd_names = [name for part in ("train.txt", "val.txt") for name in _names(sbd / part)]
    train_aug = sorted({*_names(lists / "train.txt"), *sbd_names} - set(val))
    for photo in _progress([*train_aug, *val], "Writing masks"):
        target = voc / "SegmentationClassAug" / f"{photo}.png"
        own = voc / "SegmentationClass" / f"{photo}.png"
        if target.is_file():
            continue
        if own.is_file():
            with atomic_path(target) as unfinished:
                shutil.copyfile(own, unfinished)
        else:
            outlines = loadmat(sbd / "cls" / f"{photo}.mat")["GTcls"][0]["Segmentation"][0]
            save_mask(target, np.asarray(outlines, dtype=np.uint8))
    write_text(lists / "train_aug.txt", "".join(f"{photo}\n" for photo in train_aug))
    return voc


def write_coco_masks(root: Path, lists: Sequence[str] = ("val2014", "train2014")) -> None:
    """Draw COCO's masks once, as `masks/<list>/<photo>.png`, so that scoring need not."""
    identity = bytes(range(256))
    for name in lists:
        source = read_coco(root, DataConfig(train=name, score=name, val=name))
        for entry in _progress([source.entries[photo] for photo in source.lists[name]], f"Drawing masks of {name}"):
            mask = entry.mask(identity) if entry.mask else None
            if isinstance(mask, CocoMask):  # else it has been drawn already
                save_mask(root / "masks" / name / f"{entry.id}.png", mask.load())


def _fetch(archive: Archive, root: Path) -> str:
    """Make sure an archive is there; empty, or the sentence that says where to put it."""
    path = root / archive.name
    if not path.is_file():
        try:
            download_url(archive.url, root, archive.name, archive.md5 or None)
        except (OSError, RuntimeError) as error:
            _log.info("download of %s failed: %s", archive.url, error)
            path.unlink(missing_ok=True)
            return f"{archive.name} could not be downloaded; put the file from {archive.url} into {root} and run again."
    elif archive.md5 and not check_integrity(path, archive.md5):
        raise ValueError(f"{path} is damaged or incomplete (its MD5 is not {archive.md5}); delete it and run again.")
    return ""


def _unpack(archive: Path, target: Path) -> None:
    """Unpack beside the target first, so that a killed run leaves no half-unpacked folder that looks whole."""
    _log.info("unpacking %s", archive)
    with tempfile.TemporaryDirectory(dir=target, prefix=".unpack.") as scratch:
        try:
            if archive.suffix == ".zip":
                shutil.unpack_archive(archive, scratch)
            else:
                shutil.unpack_archive(archive, scratch, filter="data")
        except _DAMAGED as error:
            raise ValueError(f"{archive} cannot be unpacked ({error}); delete it and run again.") from error
        for item in Path(scratch).iterdir():
            _merge(item, target / item.name)


def _merge(source: Path, target: Path) -> None:
    if target.is_dir() and source.is_dir():
        for item in source.iterdir():
            _merge(item, target / item.name)
    else:
        source.replace(target)


def _names(path: Path) -> list[str]:
    return [line for _, line in read_lines(path)]


def _progress(items: Sequence[_Item], what: str) -> Iterable[_Item]:
    return track(items, what, console=Console(stderr=True), transient=True)
