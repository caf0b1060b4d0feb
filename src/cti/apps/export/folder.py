"""Folders that appear when they are complete."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(path: Path | str, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` when the block succeeds, and vanishes when it fails.

    Args:
        path: The folder to make.
        overwrite: Replace what is there.

    Raises:
        ValueError: if there is something at `path`, and it is not to be replaced.
    """
    target = Path(path)
    if not overwrite and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is there already; remove it, give --overwrite, or choose another --out.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        folder = Path(scratch) / "new"
        folder.mkdir()
        yield folder
        if target.is_file():
            target.unlink()
        elif target.exists():
            target.rename(Path(scratch) / "old")  # goes with the scratch folder
        folder.rename(target)
