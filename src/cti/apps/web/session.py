"""What one visitor does: hands in photos, corrects tags, reviews, takes files away. Nothing here knows the page."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from cti.apps.web.cards import Card, Desk
from cti.apps.web.downloads import write_downloads
from cti.apps.web.guards import Limits, read_photo
from cti.apps.web.painting import paint
from cti.apps.web.review import ALL, Listing, ReviewList
from cti.data.review import Verdict
from cti.predict.prediction import Threshold


@dataclass
class Session:
    """One visitor's photos. Cards are replaced whole, never changed, so a visitor's own requests may overlap.

    Args:
        cards: Photos handed in, by name.
        chosen: Name of the one that is looked at.
        reviewed: The photo of the review list that is looked at.
        reviewing: Whether `reviewed` is shown, not `chosen`.
        downloads: Folder of the files made last.
        listing: What of the review list is shown.
    """

    cards: dict[str, Card] = field(default_factory=dict)
    chosen: str | None = None
    reviewed: Card | None = None
    reviewing: bool = False
    downloads: Path | None = None
    listing: Listing = ALL

    @property
    def card(self) -> Card | None:
        """The photo that is shown."""
        if self.reviewing:
            return self.reviewed
        return self.cards.get(self.chosen) if self.chosen else None

    def show(self, name: str | None) -> Card | None:
        """Show one of the photos handed in."""
        self.reviewing, self.chosen = False, name
        return self.card

    def edit(self, tags: Sequence[str] | None, threshold: Threshold | None) -> Card | None:
        """Choose tags and threshold of the photo that is shown (None = the network's own); the network is not run.

        Returns:
            The new card; None if another photo has come to be shown meanwhile, or none is.

        Raises:
            ValueError: for an unknown tag or threshold.
        """
        return self._replace(lambda card: card.choose(tags, threshold))

    def switch(self, layer: str) -> Card | None:
        """Show another mask of the photo that is shown; returns as `edit` does."""
        return self._replace(lambda card: card.show(layer))

    def paint(self, layer: Image.Image) -> Card | None:
        """Take over a mask that was painted on the photo that is shown; returns as `edit` does."""
        return self._replace(lambda card: paint(card, layer))

    def _replace(self, change: Callable[[Card], Card]) -> Card | None:
        old = self.card
        if old is None:
            return None
        new = change(old)
        if self.cards.get(old.name) is old:
            self.cards[old.name] = new
        if self.reviewed is old:
            self.reviewed = new
        return new if self.card is new else None

    def drop_downloads(self) -> None:
        """Remove the files made last."""
        if self.downloads is not None:
            shutil.rmtree(self.downloads, ignore_errors=True)

    def free_name(self, name: str) -> str:
        """`name`, with a number if there is a photo of that name already."""
        stem, suffix, number, free = Path(name).stem, Path(name).suffix, 1, name
        while free in self.cards:
            number += 1
            free = f"{stem} ({number}){suffix}"
        return free


def add_photos(session: Session, desk: Desk, files: Sequence[str | Path], limits: Limits) -> Iterator[str]:
    """Take in the files of an upload, one after the other, and show each when it is done.

    Yields:
        After each file a sentence on what has happened so far, refused files included.
    """
    refused: list[str] = []
    for number, file in enumerate(map(Path, files), 1):
        if len(session.cards) >= limits.max_photos:
            refused.append(f"{file.name} was left out: this page keeps {limits.max_photos} photos; reload it to start")
        else:
            try:
                name = session.free_name(file.name)
                session.cards[name] = desk.card(read_photo(file, file.name, limits), name)
                session.show(name)
            except ValueError as error:
                refused.append(str(error))
        yield " ".join([f"{number} of {len(files)} files done.", *refused])


def open_reviewed(session: Session, desk: Desk, review: ReviewList, name: str, limits: Limits) -> Card:
    """Show a photo of the review list, with the tags and threshold under which it was judged, if it was.

    Raises:
        ValueError: if it is not on the list or cannot be read.
    """
    session.reviewing, session.reviewed = True, None  # whatever happens, nobody judges the photo before
    entry = review[name]
    card = desk.card(review.read(name, limits), name, review.tags(name), review.layers(name))
    if entry.threshold is not None and not card.layers:
        card = card.choose(card.tags, entry.threshold)
    session.reviewed = card
    following = review.step(name, "open", listing=session.listing)
    if card.layers and following not in (None, name):  # nobody waits for the photo after this one
        desk.prepare(following, lambda: review.read(following, limits))
    return session.reviewed


def judge(session: Session, review: ReviewList, name: str | None, verdict: Verdict) -> str | None:
    """Keep a verdict on the photo under review.

    Args:
        session: Shows the photo.
        review: The list.
        name: The photo that the visitor judged.
        verdict: What was said.

    Returns:
        The next photo without a verdict; None if all have one.

    Raises:
        ValueError: if that photo is not (or no longer) the one that is shown.
    """
    card = session.reviewed
    if card is None or card.name != name or not session.reviewing:
        raise ValueError("No mask is under review; choose a photo of the review list first.")
    review.decide(card, verdict)
    return review.step(name, "open", listing=session.listing)


def nothing_here(session: Session, review: ReviewList, name: str | None) -> str | None:
    """Keep that the photo under review holds none of the classes; otherwise as `judge`."""
    card = session.reviewed
    if card is not None and card.name == name:
        session.reviewed = card.painted(np.zeros(card.size, np.uint8), ())
    return judge(session, review, name, "accepted")


def make_downloads(session: Session, desk: Desk, review: ReviewList | None, root: Path) -> list[Path]:
    """Write masks and COCO JSON, in place of what was written for this visitor before.

    Args:
        session: Its photos are written; during a review, the accepted masks of the list.
        desk: Knows the classes.
        review: The list.
        root: Gets a folder of the session's own.

    Raises:
        ValueError: if there is no mask.
        FileNotFoundError: if an accepted mask was taken away.
        ModuleNotFoundError: without pycocotools.
    """
    if session.reviewing and review is not None:
        if not review.names("accepted"):
            raise ValueError("No mask of the review list is accepted yet; accept one first.")
        masks = review.accepted()
    else:
        if not session.cards:
            raise ValueError("There is no mask to download yet; add a photo first.")
        masks = ((card.name, card.full_mask()) for card in list(session.cards.values()))
    session.drop_downloads()
    session.downloads = Path(tempfile.mkdtemp(dir=root))
    return write_downloads(masks, desk.classes, session.downloads)
