"""Which masks an export takes, and the photos they belong to."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cti.config import Config, DataConfig
from cti.data import Photo, PhotoSet, read_photos
from cti.data.depth import AS_IT_IS, Reading
from cti.data.images import SUFFIXES
from cti.data.mask_records import SETTINGS as LABEL_FILE
from cti.data.read import data_root
from cti.data.readers.voc import find_voc
from cti.data.source import photo_id, read_lines
from cti.device import default_device
from cti.files import read_manifest, read_object
from cti.predict.places import is_elsewhere
from cti.run.stage_folder import read_split
from cti.segment.checkpoint import load_segmenter
from cti.segment.predict import predict_folder
from cti.settings import CONFIG_FILE, load_config
from cti.tables import some

logger = logging.getLogger(__name__)

MaskStage = Literal["masks", "pseudo", "segment"]
_MADE_BY: dict[MaskStage, tuple[str, ...]] = {
    "masks": ("masks", "segment"),
    "pseudo": ("masks",),
    "segment": ("segment",),
}
"""The stages of which one must have finished."""


@dataclass(frozen=True)
class Labelled:
    """Masks and their photos.

    Args:
        masks: Folder of `<id>.png`.
        photos: Id -> photo.
        classes: The C class names behind the masks' values.
        lists: Name -> ids of the run's lists.
        reading: How values of photos become colours.
    """

    masks: Path
    photos: dict[str, Path]
    classes: tuple[str, ...]
    lists: dict[str, list[str]] = field(default_factory=dict)
    reading: Reading = AS_IT_IS


def labelled_photos(folder: Path, stage: MaskStage | None = None, listed: str = "") -> Labelled:
    """The masks of a run, or of a folder that `cti label` wrote.

    Args:
        folder: Run folder, or folder of labels.
        stage: Which masks of a run: `masks`, its result, also if None; `pseudo`, what its segmenter learned from; or
            `segment`, what that predicts without the photos' tags (by its first variant).
        listed: Name of a list of the run, or a file of photo ids, one a line; empty = every photo that has a mask.

    Raises:
        ValueError: if there are no finished masks, or the list is unknown or names strangers.
        FileNotFoundError: if the photos are gone.
    """
    if (folder / LABEL_FILE).is_file():
        found = _labels(folder)
        return found if not listed else Labelled(found.masks, _chosen(found.photos, listed, {}), found.classes)
    config = run_config(folder)
    stage = stage or "masks"
    made = [maker for maker in _MADE_BY[stage] if read_manifest(folder / maker) is not None]
    if not made:
        maker = _MADE_BY[stage][0]
        raise ValueError(f"{folder} has no finished stage {maker} to export; run `cti {maker}` first.")
    if stage == "masks" and "segment" not in made:
        logger.info("The segmenter of %s has not finished: its masks are the pseudo-masks.", folder)
    photo_set = read_photos(config.data, read_split(folder / "train", config.data))
    masks = predictions_folder(folder, config) if stage == "segment" else folder / "masks"
    if stage == "pseudo":
        masks = masks / "pseudo"
    photos = {photo.id: photo.image for photo in photo_set.photos()}
    lists = _lists(photo_set)
    if listed:
        return Labelled(masks, _chosen(photos, listed, lists), photo_set.classes, lists, Reading.of(config.data))
    having = {name: path for name, path in photos.items() if (masks / f"{name}.png").is_file()}
    if len(having) < len(photos):
        logger.info(
            "%d of %d photos have no mask in %s and are left out.", len(photos) - len(having), len(photos), masks
        )
    return Labelled(masks, having, photo_set.classes, lists, Reading.of(config.data))


def submitted_photos(folder: Path, listed: str, images: Path | None = None) -> Labelled:
    """The segmenter's masks of the photos on a list, which need not be among those of the run; missing ones are made.

    Args:
        folder: Run folder.
        listed: Name of a list of the run, or a file of photo ids, one a line.
        images: Folder of the photos that are not the run's; None = where the run's own are.

    Raises:
        ValueError: if the run has no finished segmenter, or there is no list.
        FileNotFoundError: if photos of the list are not there; the message names some.
    """
    if not listed:
        raise ValueError(
            "A submission needs the server's list of photos; name it with --list, e.g. ImageSets/Segmentation/test.txt."
        )
    config = run_config(folder)
    if read_manifest(folder / "segment") is None:
        raise ValueError(f"{folder} has no finished segmenter, whose masks are submitted; run `cti segment` first.")
    photo_set = read_photos(config.data, read_split(folder / "train", config.data))
    known = {photo.id: photo.image for photo in photo_set.photos()}
    place = images or _image_folder(config.data)
    photos = _chosen(known | _files(place), listed, _lists(photo_set), place)
    masks = predictions_folder(folder, config)
    missing = {name: path for name, path in photos.items() if not (masks / f"{name}.png").is_file()}
    if missing:
        _predict(folder, missing, masks, config)
    return Labelled(masks, photos, photo_set.classes)


def run_config(folder: Path) -> Config:
    """The configuration of a run.

    Raises:
        ValueError: if the folder is no run.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise ValueError(f"{folder} is neither a run (it has no {CONFIG_FILE}) nor a folder that `cti label` wrote.")
    return load_config(folder)


def predictions_folder(folder: Path, config: Config) -> Path:
    """Where the segmenter's predictions by its first variant, its result, are."""
    return folder / "segment" / "predictions" / config.predict.variants[0]


def _labels(folder: Path) -> Labelled:
    manifest = read_manifest(folder)
    if manifest is None:
        raise ValueError(f"`cti label` has not finished in {folder}; call it again, it goes on where it stopped.")
    if read_object(folder / LABEL_FILE).get("format") == "parquet":
        raise ValueError(f"{folder} holds its masks in Parquet tables; label with --format png what is to be exported.")
    result = manifest["result"]
    photos = {name: Path(path) for name, path in result["photos"].items()}
    for path in result["photos"].values():
        if is_elsewhere(path):
            raise ValueError(
                f"{folder} holds masks of photos that are no files, such as {path}; an export needs them beside the "
                "masks: download or unpack them, and label the files."
            )
    return Labelled(folder, photos, tuple(result["classes"]))


def _lists(photo_set: PhotoSet) -> dict[str, list[str]]:
    return {name: [photo.id for photo in photos] for name, photos in photo_set.lists.items()}


def _chosen(
    photos: Mapping[str, Path], listed: str, lists: Mapping[str, Iterable[str]], place: Path | None = None
) -> dict[str, Path]:
    """The photos on a list, in its order."""
    path = Path(listed)
    if path.is_file():
        names = [photo_id(line) for _, line in read_lines(path)]
    elif listed in lists:
        names = list(lists[listed])
    else:
        known = f", or one of the lists {', '.join(lists)}" if lists else ""
        raise ValueError(f"There is no list '{listed}'; give a file of photo ids, one a line{known}.")
    if not names:
        raise ValueError(f"The list '{listed}' is empty; there is nothing to export.")
    strangers = [name for name in names if name not in photos]
    if strangers:
        where = f" and no photo in {place}; name their folder with --photos" if place else ""
        raise ValueError(
            f"{len(strangers)} of {len(names)} ids of {listed} are no photo of the run{where}: {some(strangers)}."
        )
    return {name: photos[name] for name in names}


def _image_folder(config: DataConfig) -> Path:
    root = data_root(config)
    voc = find_voc(root)
    usual = (voc or root) / (config.images or ("JPEGImages" if voc else "images"))
    return usual if usual.is_dir() else root


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder of photos {folder}; name it with --photos.")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}


def _predict(folder: Path, photos: Mapping[str, Path], masks: Path, config: Config) -> None:
    """Predict as the stage `segment` does."""
    trained = load_segmenter(folder / "segment")
    network = trained.network.to(default_device())
    wanted = [Photo(name, path, (), reading=Reading.of(config.data)) for name, path in photos.items()]
    predict_folder(network, wanted, masks, trained.inference(), config.data.max_pixels)
