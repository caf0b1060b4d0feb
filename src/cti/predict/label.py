"""Masks for new photos: `cti label`. It goes on where it stopped, and a photo that cannot be read stops nothing."""

import csv
import hashlib
import io
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import torch
from rich.console import Console
from rich.progress import Progress

from cti.data.images import MAX_PIXELS
from cti.data.mask_records import claim, locked
from cti.data.tags import Hints, read_tags
from cti.files import write_manifest, write_text
from cti.predict.books import Books, FolderBooks
from cti.predict.labeller import Labeller, Outcome, Photo, Report, Tags
from cti.predict.parquet_books import ParquetBooks, load_pyarrow
from cti.predict.photos import find_photos, whole_place
from cti.predict.places import Place, Unreadable, place_id
from cti.predict.prediction import Threshold, class_indices
from cti.predict.predictor import Predictor, Use
from cti.predict.shard import Shard
from cti.tables import some
from cti.train.tagging import ENOUGH_HELD_OUT

logger = logging.getLogger(__name__)

ERRORS = "errors.csv"
Engine = Literal["local", "ray"]
Format = Literal["png", "parquet"]


@dataclass(frozen=True)
class LabelResult:
    """What `label` did.

    Args:
        labelled: Photos labelled now.
        kept: Photos whose masks were there already.
        skipped: Path -> why the photo has no mask.
        photos: Id -> path of each photo that has a mask. If none of several has one, the call has failed: exit code 1.
        classes: The C class names; mask value = index + 1.
        use: `cti` or `segmenter`, whichever made the masks.
        out: The folder.
    """

    labelled: int
    kept: int
    skipped: dict[str, str]
    photos: dict[str, str]
    classes: tuple[str, ...]
    use: Use
    out: str

    @property
    def exit_code(self) -> int:
        """Of `cti label`: 1 if no photo has a mask. A shard without photos is well."""
        return int(not self.photos and bool(self.skipped))


def label(
    photos: Sequence[Path | str],
    run: Path | str,
    out: Path | str,
    tags: Sequence[str] | None = None,
    labels: Path | str | None = None,
    use: Use | None = None,
    threshold: Threshold | None = None,
    overlays: bool = True,
    max_pixels: int = MAX_PIXELS,
    shard: Shard | None = None,
    false_alarms: float | None = None,
    engine: Engine = "local",
    format: Format = "png",
) -> LabelResult:
    """Write a mask, and a picture of it, for every photo that has none yet in `out`, or was replaced since.

    Args:
        photos: Photos, patterns, folders that are searched for photos, sub-folders included, tables of paths or
            addresses, tar archives, addresses: see `cti.predict.photos.find_photos`.
        run: What `Predictor.from_pretrained` takes.
        out: Gets `<photo id>.png`, `overlays/<photo id>.png`, `classes.txt`, what is known of each photo
            (`photos.jsonl`, `photos.csv`: see `PhotoRecord`) and, at the end, why others have no mask (`errors.csv`)
            and `manifest.json`.
        tags: Classes that are in every one of the photos; None = the network decides.
        labels: A file of tags per photo, as `cti.data.tags.read_tags` reads it; where it does not name a photo, the
            network decides.
        use: See `Predictor.from_pretrained`.
        threshold: See `Predictor`.
        overlays: Write the pictures too.
        max_pixels: Larger photos are skipped.
        shard: Only these photos are labelled, in a folder of their own below `out`: see `Shard`.
        false_alarms: See `Predictor.from_pretrained`.
        engine: `local` = this process; `ray` = see `cti.predict.ray_engine`.
        format: `parquet` = `out` gets no files of masks, no pictures and no `photos.jsonl` and `photos.csv`, but tables
            of all that: see `cti.predict.parquet_books`.

    Raises:
        ModuleNotFoundError: for the engine `ray` without Ray, or the format `parquet` without what writes it.
        FileNotFoundError: if a named photo, folder or file of tags does not exist.
        ValueError: if there is no photo, two share an id, a tag is unknown, `out` holds masks made in another way or is
            being written to, or the network cannot be had.
    """
    run_engine = _engine(engine)
    if format == "parquet":
        load_pyarrow()
    found = find_photos(photos, leave_out=Path(out))
    predictor = Predictor.from_pretrained(run, use, false_alarms=false_alarms)
    given = _given_tags(found, predictor.classes, tags, labels)
    target = shard.folder(Path(out)) if shard else Path(out)
    if shard:  # an archive that only one of the parts cannot list is missing from that part
        found = shard.of(found) | {name: place for name, place in found.items() if isinstance(place, Unreadable)}
    wanted = {name: Photo(name, place, given[name]) for name, place in found.items()}
    if any(photo.given is None for photo in wanted.values()):
        _say_unlimited(predictor)
    with locked(target):
        settings = {
            "network": _digest(predictor.analyser.network),
            "tags": "per photo" if labels is not None else tags if tags is None else sorted(set(tags)),
            "threshold": threshold,
            "tag_thresholds": predictor.analyser.tag_thresholds,
            "format": None if format == "png" else format,  # folders of before do not say it
        }
        claim(target, settings)
        write_text(target / "classes.txt", "".join(f"{name}\n" for name in predictor.classes))
        _remove_unfinished(target)  # files of a run that was killed
        books = _books(format, target, wanted, predictor.classes)
        done = books.done()
        missing = [photo for name, photo in wanted.items() if name not in done]
        skipped: dict[str, str] = {}
        files = None if format == "parquet" else target
        labeller = Labeller(predictor.analyser, predictor.reading, files, threshold, overlays, max_pixels)
        with Progress(console=Console(stderr=True), disable=not missing) as progress:
            bar = progress.add_task("labelling", total=len(missing))

            def report(photo: Photo, outcome: Outcome) -> None:
                if isinstance(outcome, str):
                    logger.warning("Skipped: %s", outcome)
                    skipped[str(photo.place)] = outcome
                else:
                    books.add(photo.name, outcome)
                progress.advance(bar)

            try:
                run_engine(labeller, missing, report)
            finally:
                books.flush()
        if engine != "local":
            _remove_unfinished(target)  # of a worker that died
        unmade = {name for name, place in found.items() if str(place) in skipped}
        doubtful = books.finish(unmade)
        write_text(target / ERRORS, _table(("photo", "reason"), sorted(skipped.items())))
        result = LabelResult(
            labelled=len(missing) - len(unmade),
            kept=len(done),
            skipped=skipped,
            photos={name: whole_place(place) for name, place in found.items() if name not in unmade},
            classes=predictor.classes,
            use=predictor.use,
            out=str(target),
        )
        if doubtful:
            logger.warning(
                "%d of %d photos are marked 'cannot tell': the network is less sure of them than of nearly all photos "
                "that were held out; look at them first.", doubtful, len(result.photos),
            )  # fmt: skip
        logger.info("%d photos labelled, %d kept, %d skipped: %s", result.labelled, len(done), len(skipped), target)
        write_manifest(target, asdict(result))
    return result


def _say_unlimited(predictor: Predictor) -> None:
    """Say of which classes the segmenter decides by pixels alone, because no threshold for their tags was found."""
    without = [name for name in predictor.classes if name not in predictor.analyser.tag_thresholds]
    if predictor.use == "segmenter" and without:
        logger.warning(
            "Too few photos were held out to find from which score on %s in a photo; every place where the segmenter "
            "sees %s is shown, so there are more false alarms. Give tags that you know (--tags, --labels), or run with "
            "%d photos held out or more (data.val_fraction).",
            "a class is" if len(without) == len(predictor.classes) else f"{some(without)} is",
            "one" if len(without) == len(predictor.classes) else "it",
            ENOUGH_HELD_OUT,
        )


def _engine(name: Engine) -> Callable[[Labeller, Sequence[Photo], Report], None]:
    """What labels the photos; that it is not installed is said before anything is read."""
    if name == "local":
        return Labeller.label
    from cti.predict import ray_engine

    ray_engine.load_ray()
    return ray_engine.label_on_ray


def _books(format: Format, folder: Path, photos: Mapping[str, Photo], classes: tuple[str, ...]) -> Books:
    return (ParquetBooks if format == "parquet" else FolderBooks)(folder, photos, classes)


def _given_tags(
    photos: Mapping[str, Place], classes: tuple[str, ...], tags: Sequence[str] | None, labels: Path | str | None
) -> dict[str, Tags]:
    """Id -> the tags that somebody gave, in the order of the classes."""
    if labels is None:
        return dict.fromkeys(photos, None if tags is None else _in_order(tags, classes))
    if tags is not None:
        raise ValueError("Both tags and a file of tags are given; leave one of them out.")
    table: dict[str, set[str]] = {}
    for row in read_tags(Path(labels), lambda name: place_id(name) in photos, Hints(known=classes)).rows:
        table.setdefault(place_id(row.image), set()).update(row.tags)
    strangers = sorted({name for names in table.values() for name in names} - set(classes))
    if strangers:
        raise ValueError(f"{labels}: unknown tag {', '.join(strangers)}; this network knows {', '.join(classes)}.")
    unnamed = [name for name in photos if name not in table]
    if len(unnamed) == len(photos):
        suffix = PurePosixPath(str(photos[unnamed[0]])).suffix
        raise ValueError(
            f"{labels} names none of the {len(photos)} photos; give paths relative to their folder, such as "
            f"{unnamed[0]}{suffix}."
        )
    if unnamed:
        logger.warning("%d photos are not in %s; the network decides on their tags.", len(unnamed), labels)
    return {name: _in_order(table[name], classes) if name in table else None for name in photos}


def _remove_unfinished(folder: Path) -> None:
    for path in folder.rglob(".*.tmp.*"):
        path.unlink(missing_ok=True)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def _in_order(tags: Iterable[str], classes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(classes[index] for index in class_indices(list(tags), classes))


def _digest(network: torch.nn.Module) -> str:
    """A name for these very weights: a path may come to hold others."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
