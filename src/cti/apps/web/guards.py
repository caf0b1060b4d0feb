"""What the page refuses to read: files too large, files that are no photos, files outside the folder it was given."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cti.data.depth import AS_IT_IS, Reading
from cti.data.images import SUFFIXES, load_image
from cti.data.source import photo_id

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """How much one visitor may hand in.

    Args:
        max_upload_mb: Size of one file in megabytes.
        max_pixels: Pixels of one photo.
        max_photos: Photos that one visit keeps; each needs a few megabytes of memory.
        reading: How values of photos become colours: the network's.
    """

    max_upload_mb: float = 20
    max_pixels: int = 25_000_000
    max_photos: int = 100
    reading: Reading = AS_IT_IS

    def __post_init__(self) -> None:
        for name in ("max_upload_mb", "max_pixels", "max_photos"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0.")

    @property
    def max_bytes(self) -> int:
        """Size of one file in bytes."""
        return round(self.max_upload_mb * MEGABYTE)


def read_photo(path: Path, name: str, limits: Limits) -> Image.Image:
    """Read a photo within the limits, upright, RGB.

    Args:
        path: The file.
        name: What to call it; messages never tell where it lies.
        limits: Checked before pixels are decoded.

    Raises:
        ValueError: if it is too large, damaged or no photo.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ValueError(f"{name} cannot be read ({error.strerror}).") from error
    if size > limits.max_bytes:
        raise ValueError(
            f"{name} has {size / MEGABYTE:.1f} MB, more than the {limits.max_upload_mb:g} MB allowed; shrink it."
        )
    try:
        return load_image(path, limits.max_pixels, reading=limits.reading)
    except (ValueError, OSError) as error:
        raise ValueError(str(error).replace(str(path), name)) from error


def find_photos(folder: Path) -> dict[str, Path]:
    """The photos of a folder and its sub-folders by id, sorted; links that lead out of the folder are left out.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no photo, or two photos share an id.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; name the folder of photos to review.")
    photos: dict[str, Path] = {}
    for path in sorted(_photo_files(folder)):
        name = photo_id(path.relative_to(folder).as_posix())
        if name in photos:
            raise ValueError(f"The photos {photos[name]} and {path} would share the id '{name}'; rename one of them.")
        photos[name] = path
    if not photos:
        raise ValueError(f"{folder} holds no photo ({', '.join(sorted(SUFFIXES))}); name another folder.")
    return photos


def is_inside(folder: Path, path: Path) -> bool:
    """Whether a path, its links followed, lies in a folder."""
    return path.resolve().is_relative_to(folder.resolve())


def _photo_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file() and is_inside(folder, path):
            yield path
