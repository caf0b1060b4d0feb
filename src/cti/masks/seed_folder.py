"""The seeds of a finished seeds stage, checked against the class list at hand."""

from collections.abc import Sequence
from pathlib import Path

from cti.data.seed_file import Seed, read_seed
from cti.files import read_manifest
from cti.run import check_classes_agree


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
        check_classes_agree(manifest["result"].get("classes", ()), self.classes, f"The stage {self.folder}")
        self.identity = str(manifest.get("finished", ""))
        """When the stage finished: changes when seeds are extracted again."""

    def __call__(self, photo_id: str) -> Seed:
        """One photo's seed; errors as in `cti.data.seed_file.read_seed`."""
        return read_seed(self.folder / f"{photo_id}.npz", self.kind)
