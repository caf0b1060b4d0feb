"""What one process does with photos that are to be labelled; `cti label` keeps the books, whatever engine runs it."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from cti.data.depth import Reading
from cti.data.images import image_size, load_image, save_mask
from cti.data.mask_records import PhotoRecord, file_digest
from cti.files import JsonObject, atomic_path
from cti.predict.ahead import Behind, ahead
from cti.predict.analyser import Analyser
from cti.predict.annotations import mask_annotations
from cti.predict.batches import in_batches
from cti.predict.places import Elsewhere, Place, digest
from cti.predict.prediction import Analysis, Prediction, Threshold

OVERLAYS = "overlays"
_READERS = 8  # photos that are fetched at a time, where they are no files
_AHEAD = 32  # photos that are fetched at most before they are sorted into batches
Tags = tuple[str, ...] | None  # of one photo; None = the network decides


@dataclass(frozen=True)
class Photo:
    """A photo that is to be labelled.

    Args:
        name: Its id, by which its files are called.
        place: Where it is.
        given: Tags that somebody gave; None = the network decides.
    """

    name: str
    place: Place
    given: Tags


@dataclass(frozen=True)
class Labelled:
    """What is known of a photo that has a mask.

    Args:
        record: All but the mask.
        masks: The mask as COCO annotations of run-length codes, one per class; empty where it is a file.
    """

    record: PhotoRecord
    masks: tuple[JsonObject, ...] = ()


Outcome = Labelled | str
"""A photo that has a mask, or why it has none."""
Report = Callable[[Photo, Outcome], None]


@dataclass(frozen=True)
class Labeller:
    """A network, and how its masks are written.

    Args:
        analyser: The network.
        reading: See `Predictor`.
        folder: Gets `<name>.png` and, with `overlays`, `overlays/<name>.png`; None = masks are reported as run-length
            codes, and no file is written.
        threshold: See `Predictor`.
        overlays: Write the pictures too.
        max_pixels: Larger photos get no mask.
    """

    analyser: Analyser
    reading: Reading
    folder: Path | None
    threshold: Threshold | None
    overlays: bool
    max_pixels: int

    def label(self, photos: Sequence[Photo], report: Report) -> None:
        """Write the masks of photos; the next are read, and the last written, while the network works.

        Args:
            photos: They come in another order, batch by batch.
            report: Called once for each photo, from one other thread, when its files are there.

        Raises:
            OSError: if a mask cannot be written, for example to a full disk.
        """
        fetched = (photo.result() for _, photo in ahead(_fetched, photos, _READERS, _AHEAD))
        batches = in_batches(fetched, self._size, self.analyser.seen_as, lambda photo: len(photo.content or b""))
        with Behind(depth=1) as writer:  # a batch is written while the next is in the network and one more is read
            for _, loaded in ahead(self._load, batches, depth=2):
                read, failed = loaded.result()
                images, sources = [photo.image for photo in read], [str(photo.photo.place) for photo in read]
                found = self.analyser.analyse(images, sources) if read else []
                writer.do(partial(self._write, list(zip(read, found, strict=True)), failed, report))

    def _size(self, fetched: "_Fetched") -> tuple[int, int]:
        try:
            return image_size(fetched.path, self.max_pixels, fetched.content)
        except (ValueError, OSError):
            return 1, 1  # what is wrong is said when it is decoded

    def _load(self, photos: Sequence["_Fetched"]) -> tuple[list["_Decoded"], list[tuple[Photo, str]]]:
        """The photos of a batch, and why others cannot be read."""
        decoded, failed = [], []
        for fetched in photos:
            if fetched.reason:
                failed.append((fetched.photo, fetched.reason))
                continue
            try:
                image = load_image(fetched.path, self.max_pixels, content=fetched.content, reading=self.reading)
                decoded.append(_Decoded(fetched.photo, image, fetched.digest()))
            except (ValueError, OSError) as error:
                failed.append((fetched.photo, str(error)))
        return decoded, failed

    def _write(
        self, labelled: Sequence[tuple["_Decoded", Analysis]], failed: Sequence[tuple[Photo, str]], report: Report
    ) -> None:
        for photo, reason in failed:
            report(photo, reason)
        for decoded, analysis in labelled:
            prediction = analysis.predict(decoded.photo.given, self.threshold)
            report(decoded.photo, self._outcome(decoded, prediction))

    def _outcome(self, decoded: "_Decoded", prediction: Prediction) -> Outcome:
        """What is known of one photo, whose files are written before."""
        if self.folder is None:
            return Labelled(_record(prediction, decoded), tuple(mask_annotations(prediction.mask, "rle")))
        name = decoded.photo.name
        try:
            save_mask(self.folder / f"{name}.png", prediction.mask)
            if self.overlays:
                with atomic_path(self.folder / OVERLAYS / f"{name}.png") as temporary:
                    prediction.overlay().save(temporary)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return f"The name of {decoded.photo.place} is too long for the files of its mask; shorten it."
        return Labelled(_record(prediction, decoded))


@dataclass(frozen=True)
class _Fetched:
    """A photo that can be opened: a file, or one whose bytes are here; or the reason why it cannot."""

    photo: Photo
    content: bytes | None = None
    reason: str = ""

    @property
    def path(self) -> Path | str:
        """As `load_image` takes it."""
        return self.photo.place if isinstance(self.photo.place, Path) else str(self.photo.place)

    def digest(self) -> str:
        """Of the bytes of its file."""
        return file_digest(Path(self.path)) if self.content is None else digest(self.content)


def _fetched(photo: Photo) -> _Fetched:
    if not isinstance(photo.place, Elsewhere):
        return _Fetched(photo)
    try:
        return _Fetched(photo, photo.place.content())
    except (ValueError, ModuleNotFoundError) as error:
        return _Fetched(photo, reason=str(error))


@dataclass(frozen=True)
class _Decoded:
    """A photo that was read, and the digest of its file."""

    photo: Photo
    image: Image.Image
    digest: str


def _record(prediction: Prediction, decoded: _Decoded) -> PhotoRecord:
    given = decoded.photo.given
    return PhotoRecord(
        photo=str(decoded.photo.place),
        digest=decoded.digest,
        size=prediction.size,
        given=given,
        tags=prediction.tags,
        scores=prediction.scores,
        shares=prediction.shares(),
        empty=not prediction.mask.any(),
        confidence=prediction.confidence,
        certainty=prediction.certainty,
        cannot_tell=prediction.analysis.cannot_tell if given is None else None,
    )
