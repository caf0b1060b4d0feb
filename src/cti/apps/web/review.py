"""The review list: a verdict for each photo of a folder, kept beside the masks that were accepted."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cti.apps.web.cards import Card
from cti.apps.web.guards import Limits, find_photos, is_inside, read_photo
from cti.data.images import load_mask, save_mask
from cti.files import read_json, write_json
from cti.predict.prediction import Threshold

Verdict = Literal["open", "accepted", "rejected"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
REVIEW = "review.json"


@dataclass(frozen=True)
class Entry:
    """What was said about one photo.

    Args:
        verdict: `open` until somebody accepts or rejects the mask.
        tags: The tags under which it was said.
        threshold: The threshold under which it was said.
    """

    verdict: Verdict = "open"
    tags: tuple[str, ...] | None = None
    threshold: Threshold | None = None


class Review:
    """Verdicts on the masks of a folder of photos.

    `out/review.json` has every verdict, `out/<photo id>.png` the masks that are accepted.

    Args:
        folder: The photos, sub-folders included; nothing outside it is read, nothing in it is written.
        out: Made with the first verdict; what it holds from an earlier review is taken up again.

    Raises:
        FileNotFoundError: if there is no folder of photos.
        ValueError: if it has no photo, or `out` lies in it or belongs to another folder.
    """

    def __init__(self, folder: Path, out: Path) -> None:
        if is_inside(folder, out):
            raise ValueError(f"{out} lies in {folder}, where masks would be taken for photos; choose another folder.")
        self.folder, self.out = folder, out
        self.photos = find_photos(folder)
        self._lock = Lock()
        self._entries = self._read()

    def __getitem__(self, name: str) -> Entry:
        """What was said about a photo so far."""
        self._check(name)
        return self._entries.get(name, Entry())

    def names(self, verdict: Verdict | None = None) -> list[str]:
        """Ids of the photos with a verdict, or of all, in order."""
        return [name for name in self.photos if verdict is None or self[name].verdict == verdict]

    def counts(self) -> dict[Verdict, int]:
        """How many photos have each verdict."""
        return {verdict: len(self.names(verdict)) for verdict in VERDICTS}

    def file_name(self, name: str) -> str:
        """Path of a photo relative to the folder."""
        self._check(name)
        return self.photos[name].relative_to(self.folder).as_posix()

    def accepted(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """File name and mask (H, W) of every photo whose mask is accepted.

        Raises:
            FileNotFoundError: if a mask was taken away since.
        """
        for name in self.names("accepted"):
            yield self.file_name(name), load_mask(self.out / f"{name}.png")

    def read(self, name: str, limits: Limits) -> Image.Image:
        """Read a photo of the list.

        Raises:
            ValueError: if it is not on the list, has come to lead out of the folder, or cannot be read.
        """
        self._check(name)
        path = self.photos[name]
        if not is_inside(self.folder, path):  # a link may have been put in its place since the list was made
            raise ValueError(f"{name} lies outside the folder under review; it is not read.")
        return read_photo(path, self.file_name(name), limits)

    def decide(self, card: Card, verdict: Verdict) -> None:
        """Keep a verdict on a card of the list; an accepted mask is written, any other is taken away.

        Raises:
            ValueError: if the card is not of a photo on the list.
        """
        self._check(card.name)
        mask = card.full_mask() if verdict == "accepted" else None
        path = self.out / f"{card.name}.png"
        with self._lock:
            if mask is not None:
                save_mask(path, mask)
            entries = self._entries | {card.name: Entry(verdict, card.tags, card.threshold)}
            self._write(entries)
            if mask is None:
                path.unlink(missing_ok=True)
            self._entries = entries

    def step(self, name: str | None, verdict: Verdict | None = None, by: int = 1) -> str | None:
        """The photo `by` places after (before, if negative) `name` among those with a verdict; round at the ends.

        Returns:
            An id; None if no photo has the verdict.
        """
        wanted, order = set(self.names(verdict)), list(self.photos)
        if not wanted:
            return None
        place = order.index(name) if name in self.photos else (-1 if by > 0 else 0)
        return next(
            order[(place + by * far) % len(order)]
            for far in range(1, len(order) + 1)
            if order[(place + by * far) % len(order)] in wanted
        )

    def around(self, name: str | None, verdict: Verdict | None = None, length: int = 20) -> list[str]:
        """At most `length` photos with a verdict, among them `name` itself whatever its verdict, near the middle."""
        wanted = {*self.names(verdict), *([name] if name in self.photos else [])}
        order = [other for other in self.photos if other in wanted]
        place = order.index(name) if name in wanted else 0
        start = max(0, min(place - length // 2, len(order) - length))
        return order[start : start + length]

    def _check(self, name: str) -> None:
        if name not in self.photos:
            raise ValueError(f"'{name}' is not on the review list; choose a photo of the list.")

    def _read(self) -> dict[str, Entry]:
        path = self.out / REVIEW
        if not path.is_file():
            return {}
        content = read_json(path)
        try:
            folder = Path(content["folder"])
            said = {name: Entry(**fields) for name, fields in content["photos"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not a review list ({error!r}); restore it or move it away.") from error
        if folder != self.folder.resolve():
            raise ValueError(f"{path} is the review of {folder}, not of {self.folder}; move it away to start anew.")
        unknown = {entry.verdict for entry in said.values()} - set(VERDICTS)
        if unknown:
            raise ValueError(f"{path} has the unknown verdict {unknown.pop()!r}; use {', '.join(VERDICTS)}.")
        return {name: replace(entry, tags=tuple(entry.tags or ())) for name, entry in said.items()}

    def _write(self, entries: dict[str, Entry]) -> None:
        said = {name: asdict(entry) for name, entry in sorted(entries.items())}
        write_json(self.out / REVIEW, {"folder": str(self.folder.resolve()), "photos": said})
