"""What a person said about the results of a run: plain files, which may also come from elsewhere.

review/photos.jsonl   a line per photo: {"photo": "a", "verdict": "accepted", "tags": ["cat"], "threshold": null}
review/<photo>.png    its mask as far as it is known: 0 background, class index + 1, 255 = don't know
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cti.classes import IGNORE_INDEX
from cti.data.images import load_mask
from cti.data.photos import Photo, PhotoSet
from cti.data.text import read_lines
from cti.files import file_digest, from_json, parse_json, write_text

Verdict = Literal["open", "accepted", "rejected"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
FILE = "photos.jsonl"


@dataclass(frozen=True)
class Entry:
    """What was said about one photo.

    Args:
        verdict: `open` until somebody accepts or rejects the mask.
        tags: Names of its classes, as they were seen to be; None = nothing was said.
        threshold: The threshold under which it was said, if the mask was the network's; `free` = the background's map.
    """

    verdict: Verdict = "open"
    tags: tuple[str, ...] | None = None
    threshold: float | Literal["free"] | None = None


@dataclass(frozen=True)
class _Line(Entry):
    photo: str = ""


def read_entries(folder: Path) -> dict[str, Entry]:
    """What was said, by photo id; empty if nothing was. Of several lines about one photo the last counts.

    Raises:
        ValueError: if a line is damaged; the message names it.
    """
    path = folder / FILE
    entries: dict[str, Entry] = {}
    for number, text in read_lines(path) if path.is_file() else ():
        place = f"{path}, line {number},"
        try:
            content = parse_json(text)
        except ValueError as error:
            raise ValueError(f"{place} is not valid JSON ({error}); restore it or remove it.") from error
        line = from_json(_Line, content, place)
        entries[line.photo] = Entry(line.verdict, line.tags, line.threshold)
    return entries


def write_entries(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Write what was said, a line per photo."""
    lines = (json.dumps({"photo": name, **asdict(entry)}, ensure_ascii=False) for name, entry in entries.items())
    write_text(folder / FILE, "".join(f"{line}\n" for line in lines))


def with_reviewed_tags(photo_set: PhotoSet, entries: Mapping[str, Entry]) -> PhotoSet:
    """The photos with the tags that a person corrected; names that are no class are passed over."""
    index = {name: number for number, name in enumerate(photo_set.classes)}

    def corrected(photo: Photo) -> Photo:
        entry = entries.get(photo.id, Entry())
        if entry.tags is None or entry.verdict == "open":
            return photo
        return replace(photo, tags=tuple(sorted(index[name] for name in entry.tags if name in index)))

    return replace(photo_set, lists={name: tuple(map(corrected, photos)) for name, photos in photo_set.lists.items()})


def rejected(folder: Path) -> frozenset[str]:
    """Ids of the photos whose results were rejected: they are not learned from."""
    return frozenset(name for name, entry in read_entries(folder).items() if entry.verdict == "rejected")


def review_marks(folder: Path) -> dict[str, str]:
    """Photo id -> what was said about its mask, as a short mark that differs if anything else is said.

    Corrected tags are not part of it: they count as the photo's own.
    """
    marks = {path.stem: file_digest(path)[:16] for path in folder.glob("*.png")}
    return dict(sorted((marks | {name: f"{marks.get(name, '')} rejected" for name in rejected(folder)}).items()))


def reviewed_pixels(folder: Path, photo: Photo) -> NDArray[np.bool_] | None:
    """The pixels (H, W) of a photo whose label a person gave; None if nobody drew its mask."""
    path = folder / f"{photo.id}.png"
    return load_mask(path) != IGNORE_INDEX if path.is_file() else None


def with_review(folder: Path, photo: Photo, mask: NDArray[np.uint8], num_classes: int) -> NDArray[np.uint8]:
    """A mask (H, W), overridden pixel by pixel by what a person knows about the photo.

    Args:
        folder: The review.
        photo: The photo.
        mask: Its mask, in mask values.
        num_classes: C.

    Raises:
        ValueError: if the reviewed mask is of another size, or holds a value that is no class.
    """
    path = folder / f"{photo.id}.png"
    if not path.is_file():
        return mask
    known = load_mask(path)
    if known.shape != mask.shape:
        (height, width), (rows, columns) = mask.shape, known.shape
        raise ValueError(f"{path} is {columns} x {rows} px, but the photo is {width} x {height}; draw it on the photo.")
    if (strange := known[(known > num_classes) & (known != IGNORE_INDEX)]).size:
        raise ValueError(
            f"{path} holds the value {strange[0]}, but there are {num_classes} classes; give 0 for background, 1 to "
            f"{num_classes}, and 255 where it is not known."
        )
    return np.where(known == IGNORE_INDEX, mask, known)
