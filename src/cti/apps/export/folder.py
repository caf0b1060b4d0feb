"""Folders that appear when they are complete, and the photos and lists that go into them."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cti.data.bands import has_bands
from cti.data.depth import AS_IT_IS, Reading
from cti.data.images import open_image, orientation, to_rgb
from cti.files import atomic_path

_QUALITY = 95  # of photos that are written anew


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
    refuse_existing(target, overwrite)
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


def refuse_existing(path: Path, overwrite: bool = False) -> None:
    """Nothing, if there is nothing at `path`, or an empty folder, or what is there is to be replaced.

    Raises:
        ValueError: otherwise.
    """
    if not overwrite and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} is there already; remove it, give --overwrite, or choose another --out.")


def copy_photo(photo: Path, folder: Path, name: str, suffix: str = "", reading: Reading = AS_IT_IS) -> Path:
    """Copy a photo so that its pixels lie as its mask's do: readers of data sets seldom obey EXIF.

    Args:
        photo: The file.
        folder: Made if absent.
        name: Of the copy, without suffix.
        suffix: `.jpg` = as a JPEG, whatever the photo is; empty = as it is.
        reading: How its values become colours, where it is written anew.

    Returns:
        The copy; written anew only if the photo lies on its side, is no JPEG where one is asked for, or has more bands
        than colours: then as a PNG, where nothing is asked for.
    """
    with open_image(photo) as image:
        banded = has_bands(image, reading)
        copy = folder / f"{name}{suffix or ('.png' if banded else photo.suffix.lower())}"
        as_it_is = orientation(image) == 1 and not banded
        with atomic_path(copy) as temporary:
            if as_it_is and (not suffix or image.format in ("JPEG", "MPO")):
                shutil.copyfile(photo, temporary)
            else:
                to_rgb(image, reading).save(temporary, quality=_QUALITY)
    return copy


def split_lists(photos: Mapping[str, Path], lists: Mapping[str, Sequence[str]] | None) -> dict[str, list[str]]:
    """The ids among `photos` that a run trained on (`train`) and held out (`val`); all as `train` if it has neither."""
    found = {name: [photo for photo in (lists or {}).get(name, ()) if photo in photos] for name in ("train", "val")}
    return {name: names for name, names in found.items() if names} or {"train": sorted(photos)}
