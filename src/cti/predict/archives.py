"""Photos in tar archives, such as the shards of a WebDataset: what is in them, without unpacking anything.

Only the headers are read, by Python's tarfile: a photo is read where it lies once it is wanted, by whichever process
labels it. The library `webdataset` hands out samples in a stream, which can neither be shared out by photo nor be gone
on with after a kill.
"""

import logging
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from cti.predict.places import Address, Member, Place, Unreadable, is_http, open_http, open_store, plain, safe_id, tried

logger = logging.getLogger(__name__)

# What may be a photo, the likelier one first: beside a JPEG a PNG of the same key is most often its mask.
_SUFFIXES = (".jpg", ".jpeg", ".webp", ".png", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm")
_ARCHIVE = re.compile(r"\.(tar|tgz|tar\.(gz|bz2|xz|zst))$", re.IGNORECASE)
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_END = bytes(tarfile.BLOCKSIZE)
_PIECE = 1 << 20  # bytes that are passed over at a time
# What tarfile raises on damaged archives besides its own.
_DAMAGE = (tarfile.TarError, OSError, ValueError, EOFError, OverflowError, RecursionError)


def is_archive(name: str) -> bool:
    """Whether a path or address is that of a tar archive, by its suffix."""
    path = name.partition("?")[0] if is_http(name) else name
    return _ARCHIVE.search(path) is not None


def expanded(name: str) -> list[str]:
    """`a-{00..02}.tar` -> `a-00.tar`, `a-01.tar`, `a-02.tar`; what has no such braces is handed back."""
    braces = _BRACES.search(name)
    if braces is None:
        return [name]
    first, last = braces[1], braces[2]
    numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return [whole for number in numbers for whole in expanded(name[: braces.start()] + number + name[braces.end() :])]


def photos_in(archive: Path | Address) -> Iterator[tuple[str, Place]]:
    """Photos of an archive by id, `<archive>__<key>`: a key is a member's path up to the first dot of its name.

    A member is a photo if what follows the key is the suffix of one; of several with one key the JPEG is. What cannot
    be read of an archive comes as one `Unreadable`, called as the archive, after the photos before the damage.
    """
    name = re.split(r"[/\\]", str(archive).partition("?")[0] if is_http(str(archive)) else str(archive))[-1]
    members: dict[str, tuple[int, Member]] = {}
    try:
        if isinstance(archive, Path):
            with archive.open("rb") as handle:
                reason = _collect(archive, handle, members)
        else:
            reason = _listed(archive, members)
    except OSError as error:
        reason = f"The archive {archive} cannot be opened ({error}); see to that, or leave it out."
    stem = _ARCHIVE.sub("", name)
    yield from ((safe_id(f"{stem}/{key}"), member) for key, (_, member) in members.items())
    if reason or not members:
        none = f"The archive {archive} holds no photo; one is a member called as 0001.jpg is."
        yield safe_id(name), Unreadable(str(archive), reason or none)


def _listed(archive: Address, members: dict[str, tuple[int, Member]]) -> str:
    """`_collect` for an archive that is read from afar, some times if need be."""
    store = None if is_http(archive.url) else open_store(archive.url)

    def collect() -> None:
        with open_http(archive.url) if store is None else store.open(archive.url, "rb") as handle:
            if reason := _collect(archive, handle, members):
                raise OSError(reason)  # perhaps the connection broke off

    logger.info("Listing %s.", archive)
    try:
        tried(archive.url, collect)
    except ValueError as error:
        return str(error)
    return ""


def _collect(archive: Path | Address, handle: IO[bytes], members: dict[str, tuple[int, Member]]) -> str:
    """Put the photos among the members into `members`; returns what is wrong with the archive, or nothing."""
    source, last = _Forwards(handle), -1
    try:
        with tarfile.open(fileobj=cast(IO[bytes], source), mode="r:") as tar:
            for entry in tar:
                if entry.offset_data <= last or entry.size < 0:  # it would be read in circles
                    return f"The archive {archive} is damaged after {plain(entry.name)}; copy it again."
                last = entry.offset_data
                tar.members = []  # type: ignore[attr-defined] # it keeps them, and there may be many
                folder, _, file = entry.name.rpartition("/")
                stem, dot, rest = file.partition(".")
                if entry.isreg() and not entry.issparse() and stem and dot + rest.lower() in _SUFFIXES:
                    rank, key = _SUFFIXES.index(dot + rest.lower()), f"{folder}/{stem}"
                    if rank <= members.get(key, (len(_SUFFIXES),))[0]:  # of two of one name the later one is meant
                        members[key] = rank, Member(archive, plain(entry.name), entry.offset_data, entry.size)
    except _DAMAGE as error:
        return f"The archive {archive} is cut short, compressed or damaged ({error}); copy it again, or unpack it."
    return "" if source.last == _END else f"The archive {archive} is cut short or damaged: its end is missing."


class _Forwards:
    """A file as tarfile needs it, which may be a stream; `last` is what was read last."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle, self._place, self._can_seek = handle, 0, handle.seekable()
        self.last = b""

    def tell(self) -> int:
        return self._place

    def seek(self, place: int) -> int:
        if self._can_seek:
            self._handle.seek(place)
            self._place = place
        while self._place < place and self.read(min(_PIECE, place - self._place)):
            pass
        return self._place

    def read(self, size: int) -> bytes:
        if size > _PIECE:
            raise ValueError(f"a header of {size} bytes")
        pieces: list[bytes] = []
        while size > 0 and (piece := self._handle.read(size)):
            pieces.append(piece)
            size -= len(piece)
            self._place += len(piece)
        self.last = b"".join(pieces)
        return self.last
