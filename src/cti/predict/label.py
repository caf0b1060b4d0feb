"""Masks for new photos: `cti label`. It goes on where it stopped, and a photo that cannot be read stops nothing."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from cti.data.images import MAX_PIXELS, SUFFIXES, load_image, save_mask
from cti.data.source import photo_id
from cti.files import atomic_path, read_json, read_manifest, write_json, write_manifest, write_text
from cti.predict.prediction import Threshold, class_indices
from cti.predict.predictor import Predictor, Use

logger = logging.getLogger(__name__)

SETTINGS = "label.json"
OVERLAYS = "overlays"


def label(
    photos: Sequence[Path | str],
    run: Path | str,
    out: Path | str,
    tags: Sequence[str] | None = None,
    use: Use | None = None,
    threshold: Threshold | None = None,
    overlays: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> dict[str, Any]:
    """Write a mask, and a picture of it, for every photo that has none yet in `out`.

    Args:
        photos: Photos, and folders that are searched for photos, sub-folders included.
        run: What `Predictor.from_pretrained` takes.
        out: Gets `<photo id>.png`, `overlays/<photo id>.png`, `classes.txt`, and, at the end, `manifest.json`.
        tags: Classes that are in every one of the photos; None = the network decides.
        use: `cti` or `segmenter`; None = CTI if there are tags or the run has no finished segmenter, else that.
        threshold: See `Predictor`.
        overlays: Write the pictures too.
        max_pixels: Larger photos are skipped.

    Returns:
        How many photos were `labelled` now and `kept` from before; `skipped`, path -> reason; `photos`, id -> path of
        each that has a mask; `classes`, `use`, `out`.

    Raises:
        FileNotFoundError: if a named photo or folder does not exist.
        ValueError: if there is no photo, two share an id, a tag is unknown, `out` holds masks made in another way, or
            the network cannot be had.
    """
    target = Path(out)
    found = find_photos(photos, leave_out=target)
    use = use or _best_use(Path(run), tags)
    predictor = Predictor.from_pretrained(run, use)
    if tags is not None:
        class_indices(tags, predictor.classes)
    _claim(
        target,
        {
            "network": _digest(predictor.analyser.network),
            "tags": tags if tags is None else sorted(set(tags)),
            "threshold": threshold,
        },
    )
    write_text(target / "classes.txt", "".join(f"{name}\n" for name in predictor.classes))
    for leftover in target.rglob(".*.tmp.png"):
        leftover.unlink()  # a killed run's unfinished file
    missing = {name: path for name, path in found.items() if not (target / f"{name}.png").is_file()}
    skipped: dict[str, str] = {}
    for name, path in track(missing.items(), "labelling", console=Console(stderr=True), disable=not missing):
        try:
            image = load_image(path, max_pixels)
        except (ValueError, OSError) as error:
            logger.warning("Skipped: %s", error)
            skipped[str(path)] = str(error)
            continue
        prediction = predictor(image, tags, threshold)
        if overlays:
            with atomic_path(target / OVERLAYS / f"{name}.png") as temporary:
                prediction.overlay().save(temporary)
        save_mask(target / f"{name}.png", prediction.mask)  # last: its being there says that the photo is done
    labelled, kept = len(missing) - len(skipped), len(found) - len(missing)
    logger.info("%d photos labelled, %d kept, %d skipped: %s", labelled, kept, len(skipped), target)
    result = {
        "labelled": labelled,
        "kept": kept,
        "skipped": skipped,
        "photos": {name: str(path.resolve()) for name, path in found.items() if str(path) not in skipped},
        "classes": predictor.classes,
        "use": use,
        "out": str(target),
    }
    write_manifest(target, result)
    return result


def find_photos(places: Sequence[Path | str], leave_out: Path | None = None) -> dict[str, Path]:
    """Photos by id: the files named, and those of the folders named, sorted, sub-folders included.

    Args:
        places: Files and folders.
        leave_out: A folder whose files are not photos.

    Raises:
        FileNotFoundError: if something named does not exist.
        ValueError: if nothing is found or two photos share an id.
    """
    avoided = leave_out.resolve() if leave_out else None
    found: dict[str, Path] = {}
    for place in places:
        for name, path in _photos_of(Path(place)):
            if avoided and path.resolve().is_relative_to(avoided):
                continue
            other = found.setdefault(name, path)
            if other.resolve() != path.resolve():
                raise ValueError(f"The photos {other} and {path} would both be written as {name}.png; rename one.")
    if not found:
        raise ValueError(
            f"There is no photo in {', '.join(map(str, places)) or 'an empty list'}; name photos or folders."
        )
    return found


def _photos_of(place: Path) -> Iterator[tuple[str, Path]]:
    if place.is_dir():
        for path in sorted(place.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield photo_id(path.relative_to(place).as_posix()), path
    elif place.exists():
        yield photo_id(place.name), place
    else:
        raise FileNotFoundError(f"There is no photo or folder {place}; check the name.")


def _best_use(run: Path, tags: Sequence[str] | None) -> Use | None:
    """The network to take from a run; None lets `Predictor` look, which is right for anything that is no run."""
    if not (run / "train").is_dir() and not (run / "segment").is_dir():
        return None
    return "segmenter" if tags is None and read_manifest(run / "segment") is not None else "cti"


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Say in the folder how its masks are made, or refuse one whose masks were made otherwise."""
    path = folder / SETTINGS
    known = read_json(path) if path.is_file() else settings
    changed = [
        f"{name} {known.get(name)!r}, now {settings[name]!r}" for name in settings if known.get(name) != settings[name]
    ]
    if changed:
        raise ValueError(
            f"{folder} holds masks that were made otherwise ({'; '.join(changed)}); choose another folder."
        )
    write_json(path, settings)


def _digest(network: torch.nn.Module) -> str:
    """A name for these very weights: a path may come to hold others."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
