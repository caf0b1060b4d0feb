"""Where a photo's bytes come from: a file, an address, or a member of a tar archive.

HTTP is read with the standard library, object stores through fsspec and the package that it names for each. Whatever is
not a file is fetched whole, bounded in size and time, and tried again where the reason may pass; nothing is unpacked.
"""

import hashlib
import logging
import re
import time
import urllib.error
import urllib.request
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, IncompleteRead, InvalidURL
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from cti.data.images import SUFFIXES
from cti.data.mask_records import file_digest
from cti.data.photo_folder import photo_id

T = TypeVar("T")
logger = logging.getLogger(__name__)

MAX_BYTES = 100_000_000  # of a photo that is no file: it is held in memory
PATIENCE = 30.0  # seconds without a byte
_LONGEST = 120.0  # seconds that a photo may take
_WAITS = (1.0, 4.0)  # seconds before it is tried again
_STORES = {  # with what reads them
    "s3": "cti[remote]", "s3a": "cti[remote]", "gs": "cti[remote]", "gcs": "cti[remote]", "az": "fsspec[abfs]",
    "abfs": "fsspec[abfs]", "hf": "huggingface_hub", "memory": "fsspec",
}  # fmt: skip
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNSAFE = re.compile(r'[\\:*?"<>|]')  # in names of files, on one system or another


class Elsewhere(ABC):
    """A photo that is no file of its own; `str` says where it is."""

    @abstractmethod
    def content(self) -> bytes:
        """The bytes of the photo's file.

        Raises:
            ValueError: if they cannot be had; the message says why.
            ModuleNotFoundError: if a package is missing that reads such addresses.
        """


@dataclass(frozen=True)
class Address(Elsewhere):
    """A photo behind an address, such as `https://...` or `s3://...`."""

    url: str

    def content(self) -> bytes:
        """See `Elsewhere`."""
        content = fetch(self.url)
        if len(content) > MAX_BYTES:
            raise ValueError(_too_large(self.url))
        return content

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class Member(Elsewhere):
    """A photo within an uncompressed tar archive.

    Args:
        archive: The archive, a file or an address.
        name: The member's, as the archive has it.
        start: Where its bytes begin.
        size: How many they are.
    """

    archive: Path | Address
    name: str
    start: int
    size: int

    def content(self) -> bytes:
        """See `Elsewhere`."""
        if self.size > MAX_BYTES:
            raise ValueError(_too_large(str(self)))
        if isinstance(self.archive, Address):
            content = fetch(self.archive.url, self.start, self.size)
        else:
            try:
                with self.archive.open("rb") as handle:
                    handle.seek(self.start)
                    content = handle.read(self.size)
            except OSError as error:
                raise ValueError(f"{self} cannot be read ({error}); restore the archive.") from error
        if len(content) != self.size:
            raise ValueError(f"{self} is cut short: {len(content)} of its {self.size} bytes are there; copy it again.")
        return content

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


@dataclass(frozen=True)
class Unreadable(Elsewhere):
    """It stands for the photos of an archive that could not be listed.

    Args:
        name: Of the archive.
        reason: A sentence.
    """

    name: str
    reason: str

    def content(self) -> bytes:
        """Raise the reason."""
        raise ValueError(self.reason)

    def __str__(self) -> str:
        return self.name


Place = Path | Elsewhere


def is_address(name: object) -> bool:
    """Whether a text is an address; a Windows path is none."""
    return isinstance(name, str) and _ADDRESS.match(name) is not None


def is_elsewhere(place: str) -> bool:
    """Whether a place, as a text, is no file: an address, or a member of an archive."""
    return is_address(place) or any(parent.suffix == ".tar" for parent in Path(place).parents)


def place_of(address: str) -> Path | Address:
    """The place that an address names; `file://` is a path, percent-encoded as `Path.as_uri` makes it."""
    scheme, _, rest = address.partition("://")
    return Path(unquote(rest)) if scheme.lower() == "file" else Address(address)


def place_id(name: str) -> str:
    """The id of a photo given its path or address: see `photo_id`; of an address without scheme and user.

    The query of an HTTP address is left out if its path ends as a photo does, for it may be a signature that changes;
    else eight digits stand for it.
    """
    if not is_address(name):
        return photo_id(name)
    scheme, _, rest = name.partition("://")
    if scheme.lower() not in ("http", "https"):
        return safe_id(rest)
    rest, _, query = rest.partition("#")[0].partition("?")
    host, slash, path = rest.partition("/")
    mark = f"-{zlib.crc32(query.encode()):08x}" if query and PurePosixPath(path).suffix.lower() not in SUFFIXES else ""
    return safe_id(host.rpartition("@")[2] + slash + path) + mark


def safe_id(path: str) -> str:
    """`photo_id`, with `_` for what no name of a file may have."""
    return _UNSAFE.sub("_", photo_id("/".join(part for part in plain(path).split("/") if part not in ("", "."))))


def plain(name: str) -> str:
    """A name as it can be shown and written: `_` for control characters, a mark for what is no Unicode."""
    return _CONTROL.sub("_", name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


def digest(content: bytes) -> str:
    """SHA-256 of a photo's bytes, as `file_digest` gives it of a file."""
    return hashlib.sha256(content).hexdigest()


def is_same(place: Place, photo: str, known: str) -> bool:
    """Whether a photo is the one that was labelled: by its bytes or, where they are far away, by its address.

    Args:
        place: Where it is now.
        photo: Where it was.
        known: Digest of its bytes then.
    """
    if isinstance(place, Path):
        return known == file_digest(place)
    if isinstance(place, Address) or (isinstance(place, Member) and isinstance(place.archive, Address)):
        return str(place) == photo
    try:
        return known == digest(place.content())
    except ValueError:
        return False


def fetch(url: str, start: int = 0, size: int | None = None) -> bytes:
    """What lies behind an address; of more than `MAX_BYTES` so much that it can be seen.

    Args:
        url: HTTP, or an object store.
        start: Where to begin.
        size: Bytes to read; None = all.

    Raises:
        ValueError: if it cannot be had.
        ModuleNotFoundError: if a package is missing.
    """
    most = MAX_BYTES + 1 if size is None else size
    if not most:
        return b""
    if is_http(url):
        return tried(url, lambda: _over_http(url, start, most, part=size is not None))
    system = open_store(url)
    # The time-out is one of `fsspec.asyn.sync`, through which all calls of these go; others have their own.
    more = {"timeout": _LONGEST} if system.async_impl else {}
    return tried(url, lambda: bytes(system.cat_file(url, start=start, end=start + most, **more)))


def tried(url: str, work: Callable[[], T]) -> T:
    """What `work` returns, which asks for an address; it is tried three times unless the reason will not pass.

    Raises:
        ValueError: with the last reason.
    """
    for wait in (*_WAITS, None):
        try:
            return work()
        except Exception as error:
            if wait is None or not _may_pass(error):
                why = " ".join(str(error).split()) or type(error).__name__
                raise ValueError(f"{url} could not be had ({why}); check the address and the connection.") from error
            logger.info("%s: %s; trying again.", url, error)
        time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def is_http(url: str) -> bool:
    """Whether an address is one of the web."""
    return url.lower().startswith(("http://", "https://"))


def open_http(url: str, headers: dict[str, str] | None = None) -> HTTPResponse:
    """Ask for an address of the web; spaces and letters that it may not have are encoded."""
    request = urllib.request.Request(
        quote(url, safe="%/:=&?~#+!$,;'@()*[]"), headers={"User-Agent": "cti"} | (headers or {})
    )
    answer: HTTPResponse = urllib.request.urlopen(request, timeout=PATIENCE)
    return answer


def open_store(url: str) -> Any:
    """The file system of fsspec that an address is in.

    Its settings and passwords are where fsspec and the package for the store look for them.

    Raises:
        ModuleNotFoundError: if the package for the store is missing.
        ValueError: if there is no such store, or it cannot be opened.
    """
    scheme = url.partition("://")[0].lower()
    if scheme not in _STORES or "::" in url:  # `::` would chain file systems, some of which do more than read
        raise ValueError(f"{url} cannot be read: cti knows http, https, file and {', '.join(_STORES)}.")
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(url)[0]
    except ImportError as error:
        message = f'Reading {scheme}:// needs a package: pip install "{_STORES[scheme]}" ({error}).'
        raise ModuleNotFoundError(message) from error
    except Exception as error:
        raise ValueError(f"{url} cannot be opened ({error}); check the address and the settings of fsspec.") from error


def _over_http(url: str, start: int, most: int, part: bool) -> bytes:
    end = time.monotonic() + _LONGEST
    headers = {"Range": f"bytes={start}-{start + most - 1}"} if part else {}
    content = bytearray()
    with open_http(url, headers) as answer:
        if part and answer.status != 206:
            raise ValueError("its server hands out no parts of files; download the archive")
        expected = answer.length
        while len(content) < most and (piece := answer.read1(1 << 20)):
            content += piece
            if time.monotonic() > end:
                raise TimeoutError(f"timed out after {_LONGEST:.0f} s")
    if expected is not None and len(content) < min(expected, most):
        raise IncompleteRead(bytes(content), expected - len(content))
    return bytes(content[:most])


def _may_pass(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code in (408, 429) or error.code >= 500
    final = (FileNotFoundError, PermissionError, IsADirectoryError, InvalidURL)
    return isinstance(error, (OSError, HTTPException)) and not isinstance(error, final)


def _too_large(place: str) -> str:
    return f"{place} is larger than {MAX_BYTES // 1_000_000} MB; download it and give its path."
