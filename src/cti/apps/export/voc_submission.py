"""The archive that the PASCAL VOC evaluation server takes for its segmentation challenge, and a check of it.

Source: VOC 2012 development kit (docs/method.md): a tar.gz of `results/VOC2012/Segmentation/comp6_test_cls/<id>.png`,
one 8-bit indexed PNG with the VOC palette per photo of the list, at the photo's size, with values 0 (background) to 20,
and nothing else.
"""

import gzip
import io
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cti.apps.export import Exported
from cti.apps.export.tally import Tally
from cti.classes import VOC_CLASSES, voc_palette
from cti.data.images import load_mask, open_image, oriented_size
from cti.files import atomic_path
from cti.tables import some

LAYOUT = "results/VOC2012/Segmentation/comp6_test_cls"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def write_voc_submission(
    masks: Path | str, photos: Mapping[str, Path], archive: Path | str, classes: Sequence[str] = VOC_CLASSES
) -> Exported:
    """Pack predicted masks as the server wants them; the finished archive has been checked.

    The same masks give the same bytes.

    Args:
        masks: Folder of `<id>.png`, values 0..C in the order of `classes`.
        photos: The server's list: id -> photo.
        archive: The .tar.gz to write.
        classes: Class names behind the masks' values; each must be a class of VOC.

    Returns:
        What was written, with the pixels of each VOC class.

    Raises:
        ValueError: if a class is not VOC's, or the masks break a rule; every broken rule is named, nothing is written.
    """
    table = _voc_values(classes)
    if not photos:
        raise ValueError("The list of photos to submit is empty; give the ids of VOC's test list.")
    missing = [name for name in photos if not (Path(masks) / f"{name}.png").is_file()]
    if missing:
        raise ValueError(f"{masks} lacks {_some(missing)} of {len(photos)}; predict them first (`cti segment`).")
    tally = Tally(VOC_CLASSES)
    with atomic_path(archive) as temporary:
        # No name and no time in the headers, so that equal masks make equal archives.
        with (
            temporary.open("wb") as raw,
            gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for name in sorted(photos):
                mask = table[load_mask(Path(masks) / f"{name}.png", len(classes))]
                tally.add(mask)
                content = _indexed_png(mask)
                member = tarfile.TarInfo(f"{LAYOUT}/{name}.png")
                member.size, member.mode = len(content), 0o644
                tar.addfile(member, io.BytesIO(content))
        problems = check_voc_submission(temporary, photos)
        if problems:
            raise ValueError(f"The server would refuse the masks of {masks}: {' '.join(problems)}")
    return tally.exported(archive)


def check_voc_submission(submission: Path | str, photos: Mapping[str, Path]) -> list[str]:
    """Everything that is wrong with a submission, one line per broken rule; empty when the server will take it.

    Args:
        submission: The .tar.gz, or the folder that holds `results`.
        photos: The server's list: id -> photo (for its size).

    Raises:
        FileNotFoundError: if there is no such archive or folder.
    """
    path = Path(submission)
    if not path.exists():
        raise FileNotFoundError(f"There is no submission {path}; give the .tar.gz or the folder that holds 'results'.")
    read = _folder_files if path.is_dir() else _archive_files
    broken: dict[str, list[str]] = {}
    seen: Counter[str] = Counter()
    try:
        for name, content in read(path):
            place = PurePosixPath(name)
            if str(place.parent) != LAYOUT or place.suffix != ".png":
                broken.setdefault(f"Not at {LAYOUT}/<id>.png", []).append(name)
            elif place.stem not in photos:
                broken.setdefault("Not on the list", []).append(place.stem)
            else:
                seen[place.stem] += 1
                for problem in _image_problems(content(), photos[place.stem]):
                    broken.setdefault(problem, []).append(place.stem)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        return [f"{path} is not a whole tar.gz archive ({error})."]
    broken["Missing"] = [name for name in photos if not seen[name]]
    broken["More than once in the archive"] = [name for name, count in seen.items() if count > 1]
    return [f"{problem}: {_some(names)}." for problem, names in broken.items() if names]


def _voc_values(classes: Sequence[str]) -> NDArray[np.uint8]:
    """Lookup table from mask values of `classes` to VOC's; 255 stays, for the check to find."""
    strangers = [name for name in classes if name not in VOC_CLASSES]
    if strangers:
        raise ValueError(f"{', '.join(strangers)} are not classes of VOC; its server takes {', '.join(VOC_CLASSES)}.")
    table = np.full(256, 255, dtype=np.uint8)
    table[0] = 0
    table[1 : len(classes) + 1] = [VOC_CLASSES.index(name) + 1 for name in classes]
    return table


def _indexed_png(mask: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(mask)
    image.putpalette(voc_palette().tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", bits=8)
    return buffer.getvalue()


def _image_problems(content: bytes, photo: Path) -> list[str]:
    """What is wrong with one PNG."""
    # A header says the kind of pixels: signature, length and name of IHDR, width, height, bit depth, colour type.
    if not content.startswith(_PNG_SIGNATURE) or len(content) < 26:
        return ["No PNG"]
    bit_depth, colour_type = content[24], content[25]
    if colour_type != 3:
        return ["Not an indexed (palette) PNG"]
    if bit_depth != 8:
        return ["Fewer than 8 bits a pixel"]
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            mask = np.array(image)
            palette = np.array(image.getpalette(), dtype=np.uint8).reshape(-1, 3)
    except (OSError, SyntaxError, ValueError) as error:
        return [f"A damaged PNG ({error})"]
    problems = []
    if not np.array_equal(palette, voc_palette()[: len(palette)]):
        problems.append("Not the VOC palette")
    with open_image(photo) as image:
        width, height = oriented_size(image)
    if mask.shape != (height, width):
        problems.append("Not of its photo's size")
    if mask.max() > len(VOC_CLASSES):
        unsure = " (255, unsure, must be decided)" if mask.max() == 255 else ""
        problems.append(f"Values above {len(VOC_CLASSES)}{unsure}")
    return problems


def _archive_files(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    with tarfile.open(path, mode="r:gz") as tar:
        for member in tar:
            if member.isdir():
                continue
            handle = tar.extractfile(member) if member.isfile() else None
            yield member.name, handle.read if handle else bytes


def _folder_files(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield file.relative_to(path).as_posix(), file.read_bytes


def _some(names: Sequence[str]) -> str:
    """Count and first names of a list: '3 files (a, b, c)'."""
    return f"{len(names)} file{'s' if len(names) > 1 else ''} ({some(names)})"
