"""The review list: a verdict for each photo, kept beside the masks that were accepted."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cti.apps.web.cards import Card, Layers
from cti.apps.web.guards import Limits, find_photos, is_inside, read_photo
from cti.data.images import load_mask, save_mask
from cti.data.review import VERDICTS, Entry, Verdict
from cti.files import read_json, write_json

REVIEW = "review.json"


Order = Literal["gain", "doubt", "name"]
"""What comes first: what the segmenter learns most from, what looks most wrong, or the name."""


@dataclass(frozen=True)
class Listing:
    """What of a list is shown.

    Args:
        tag: Only photos that carry it; empty = all.
        order: How it is sorted.
    """

    tag: str = ""
    order: Order = "gain"


ALL = Listing()


class ReviewList(ABC):
    """Photos, what is said about them, and the masks that are accepted.

    Args:
        photos: Files by photo id, in the order in which they are to be looked at.
        out: Made with the first verdict; what it holds from an earlier review is taken up again.
    """

    def __init__(self, photos: dict[str, Path], out: Path) -> None:
        self.photos, self.out = photos, out
        self.first: str | None = None
        self._lock = Lock()
        self._entries = self._read()

    def __getitem__(self, name: str) -> Entry:
        """What was said about a photo so far."""
        self._check(name)
        return self._entries.get(name, Entry())

    @abstractmethod
    def file_name(self, name: str) -> str:
        """What a photo's file is called."""

    @abstractmethod
    def read(self, name: str, limits: Limits) -> Image.Image:
        """Read a photo of the list.

        Raises:
            ValueError: if it is not on the list or cannot be read.
        """

    @abstractmethod
    def _read(self) -> dict[str, Entry]: ...

    @abstractmethod
    def _write(self, entries: dict[str, Entry]) -> None: ...

    def tags(self, name: str) -> tuple[str, ...] | None:
        """The tags of a photo, as far as they are known."""
        return self[name].tags

    def layers(self, name: str) -> Layers:
        """The masks of a photo that there are already, the one to show first."""
        return {}

    def remarks(self, name: str) -> str:
        """What is to be said about a photo."""
        return ""

    def in_order(self, order: Order) -> list[str]:
        """Ids of all photos; a list that knows no better keeps its own order unless names are asked for."""
        return sorted(self.photos) if order == "name" else list(self.photos)

    def names(self, verdict: Verdict | None = None, listing: Listing = ALL) -> list[str]:
        """Ids of the photos with a verdict, or of all, in order."""
        return [
            name
            for name in self.in_order(listing.order)
            if verdict in (None, self[name].verdict) and (not listing.tag or listing.tag in (self.tags(name) or ()))
        ]

    def counts(self, listing: Listing = ALL) -> dict[Verdict, int]:
        """How many photos have each verdict."""
        return {verdict: len(self.names(verdict, listing)) for verdict in VERDICTS}

    def accepted(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """File name and mask (H, W) of every photo whose mask is accepted.

        Raises:
            FileNotFoundError: if a mask was taken away since.
        """
        for name in self.names("accepted"):
            yield self.file_name(name), load_mask(self.out / f"{name}.png")

    def decide(self, card: Card, verdict: Verdict) -> None:
        """Keep a verdict on a card of the list; an accepted mask is written, any other is taken away.

        Raises:
            ValueError: if the card is not of a photo on the list.
        """
        self._check(card.name)
        mask = card.full_mask() if verdict == "accepted" else None
        threshold = None if card.layer else card.threshold
        path = self.out / f"{card.name}.png"
        with self._lock:
            if mask is not None:
                save_mask(path, mask)
            entries = self._entries | {card.name: Entry(verdict, card.tags, threshold)}
            self._write(entries)
            if mask is None:
                path.unlink(missing_ok=True)
            self._entries = entries

    def step(self, name: str | None, verdict: Verdict | None = None, by: int = 1, listing: Listing = ALL) -> str | None:
        """The photo `by` places after (before, if negative) `name` among those with a verdict; round at the ends.

        Returns:
            An id; None if no photo has the verdict.
        """
        wanted, order = set(self.names(verdict, listing)), self.in_order(listing.order)
        if not wanted:
            return None
        place = order.index(name) if name in self.photos else (-1 if by > 0 else 0)
        return next(
            order[(place + by * far) % len(order)]
            for far in range(1, len(order) + 1)
            if order[(place + by * far) % len(order)] in wanted
        )

    def around(
        self, name: str | None, verdict: Verdict | None = None, length: int = 20, listing: Listing = ALL
    ) -> list[str]:
        """At most `length` photos with a verdict, among them `name` itself whatever its verdict, near the middle."""
        wanted = {*self.names(verdict, listing), *([name] if name in self.photos else [])}
        order = [other for other in self.in_order(listing.order) if other in wanted]
        place = order.index(name) if name in wanted else 0
        start = max(0, min(place - length // 2, len(order) - length))
        return order[start : start + length]

    def _check(self, name: str) -> None:
        if name not in self.photos:
            raise ValueError(f"'{name}' is not on the review list; choose a photo of the list.")


class Review(ReviewList):
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
        self.folder = folder
        super().__init__(find_photos(folder), out)

    def file_name(self, name: str) -> str:
        """Path of a photo relative to the folder."""
        self._check(name)
        return self.photos[name].relative_to(self.folder).as_posix()

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
