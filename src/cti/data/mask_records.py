"""A folder of masks: how they were made, and what is known of each photo; a run's `masks/`, or what `cti label` writes.

`photos.jsonl` has a line for each photo as soon as its mask is there, `photos.csv` is the same as a table once all are
done. In a folder of labels `label.json` says how the masks are made.
"""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import filelock

from cti.data.images import load_mask
from cti.files import JsonObject, parse_json, read_object, write_json, write_text

SETTINGS = "label.json"
RECORDS = "photos.jsonl"
MADE_WITH = "final.json"  # how the masks of the segmenter were made
TABLE = "photos.csv"
_LOCK = ".lock"


@dataclass(frozen=True)
class PhotoRecord:
    """What is known of one labelled photo.

    Args:
        photo: Its path when it was labelled.
        digest: SHA-256 of its file.
        size: (H, W) in pixels.
        given: Tags that were given; None = the network chose.
        tags: Classes that were looked for.
        scores: Class -> probability to be in the photo.
        shares: Class, and `background` -> share of the pixels; classes without a pixel are left out.
        empty: Whether every pixel is background.
        confidence: See `Prediction.confidence`.
        certainty: Class -> how sure the segmenter is that it is there, or is not, whatever the tags say; see
            `certainties`. Empty where a mask is CTI's.
        cannot_tell: Whether it is less sure of its least sure class than of nearly all photos that were held out; None
            where that is not known, or tags were given.
    """

    photo: str
    digest: str
    size: tuple[int, int]
    given: tuple[str, ...] | None
    tags: tuple[str, ...]
    scores: dict[str, float]
    shares: dict[str, float]
    empty: bool
    confidence: float
    certainty: dict[str, float] = field(default_factory=dict)
    cannot_tell: bool | None = None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second run out of a folder; a crash leaves nothing locked.

    Raises:
        ValueError: if another run works in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise ValueError(f"Another run is writing to {folder}; wait for it, or choose another folder.") from error
    try:
        yield
    finally:
        lock.release()


def claim(folder: Path, settings: JsonObject) -> None:
    """Say in the folder how its masks are made.

    Raises:
        ValueError: if its masks were made otherwise.
    """
    path = folder / SETTINGS
    known = read_object(path) if path.is_file() else settings
    changed = [
        f"{name} {known.get(name)!r}, now {settings[name]!r}" for name in settings if known.get(name) != settings[name]
    ]
    if changed:
        raise ValueError(
            f"{folder} holds masks that were made otherwise ({'; '.join(changed)}); choose another folder."
        )
    write_json(path, settings)


def read_records(folder: Path) -> dict[str, PhotoRecord]:
    """Id -> record; of several lines on a photo the last one counts, and a line that was cut short does not."""
    path = folder / RECORDS
    records: dict[str, PhotoRecord] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            fields = parse_json(line)
            name = fields.pop("id")
            given = fields["given"]
            records[name] = PhotoRecord(
                **fields
                | {
                    "size": tuple(fields["size"]),
                    "given": None if given is None else tuple(given),
                    "tags": tuple(fields["tags"]),
                }
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # a killed run's last line; its photo is labelled again
    return records


def add_record(folder: Path, name: str, record: PhotoRecord) -> None:
    """Append a photo; call it when its mask is written."""
    with (folder / RECORDS).open("a", encoding="utf-8") as handle:
        handle.write(_line(name, record))


def write_records(folder: Path, records: Mapping[str, PhotoRecord], classes: Sequence[str]) -> None:
    """Write all records anew, one line each, and the same as a table."""
    write_text(folder / RECORDS, "".join(_line(name, record) for name, record in records.items()))
    shares = ("background", *classes)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(
        ["id", "photo", "tags", "empty", "confidence", "cannot tell"]
        + [f"score {name}" for name in classes]
        + [f"share {name}" for name in shares]
        + [f"certainty {name}" for name in classes]
    )
    for name, record in sorted(records.items()):
        writer.writerow(
            [name, record.photo, ";".join(record.tags), int(record.empty), f"{record.confidence:.4f}"]
            + ["" if record.cannot_tell is None else int(record.cannot_tell)]
            + [f"{record.scores[name]:.4f}" for name in classes]
            + [f"{record.shares.get(name, 0.0):.4f}" for name in shares]
            + [f"{record.certainty[name]:.4f}" if name in record.certainty else "" for name in classes]
        )
    write_text(folder / TABLE, table.getvalue())


def absent_sentences(records: Mapping[str, PhotoRecord], classes: Sequence[str]) -> tuple[str, ...]:
    """A sentence about each class that somebody said is in photos, and that is in no mask."""
    tagged = Counter(name for record in records.values() for name in record.given or ())
    seen = {name for record in records.values() for name in record.shares}
    return tuple(
        f"{name} is tagged on {tagged[name]} photos and is in no mask; look at its seeds (`cti report`), check these "
        "tags, give it more photos, or lower masks.threshold."
        for name in classes
        if tagged[name] and name not in seen
    )


def is_whole(folder: Path, name: str, record: PhotoRecord) -> bool:
    """Whether a photo's mask is there and whole."""
    try:
        most = record.size[0] * record.size[1]
        return load_mask(folder / f"{name}.png", len(record.scores), most).shape == record.size
    except (ValueError, FileNotFoundError):
        return False


def file_digest(path: Path) -> str:
    """SHA-256 of a file; empty if it cannot be read."""
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError:
        return ""


def _line(name: str, record: PhotoRecord) -> str:
    return json.dumps({"id": name, **asdict(record)}, ensure_ascii=False, allow_nan=False) + "\n"
