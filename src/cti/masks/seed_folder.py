"""The seeds of a finished seeds stage, checked against the class list at hand."""

from collections.abc import Sequence
from pathlib import Path

from cti.data.photos import Photo
from cti.data.seed_file import Seed, read_seed
from cti.files import read_manifest


class SeedFolder:
    """Reads the seeds of `<folder>/<photo id>.npz`.

    Args:
        folder: A finished seeds stage; its manifest's result holds the `classes`.
        classes: The class list the seeds must be of.
        kind: Kind of map; empty = the one that was written first.

    Raises:
        FileNotFoundError: if the stage has not finished.
        ValueError: if its class list is another one; both are shown.
    """

    def __init__(self, folder: Path | str, classes: Sequence[str], kind: str = "") -> None:
        self.folder = Path(folder)
        self.classes = tuple(classes)
        self.kind = kind
        manifest = read_manifest(self.folder)
        if manifest is None:
            raise FileNotFoundError(
                f"{self.folder} is not a finished seeds folder; run `cti seeds` for this run first."
            )
        theirs = tuple(manifest["result"].get("classes", ()))
        if theirs != self.classes:
            raise ValueError(
                f"The seeds in {self.folder} are of the classes [{', '.join(theirs)}], but this run's are "
                f"[{', '.join(self.classes)}]; use the same list in the same order, or extract the seeds again."
            )
        self.identity = str(manifest.get("finished", ""))
        """When the stage finished: changes when seeds are extracted again."""

    def __call__(self, photo_id: str) -> Seed:
        """One photo's seed; errors as in `cti.data.seed_file.read_seed`."""
        return read_seed(self.folder / f"{photo_id}.npz", self.kind)

    def missing(self, photos: Sequence[Photo]) -> tuple[str, ...]:
        """Ids of the photos without a seed file."""
        return tuple(photo.id for photo in photos if not (self.folder / f"{photo.id}.npz").is_file())
