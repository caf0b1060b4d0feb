"""The photos that lie in a folder, and how a name in a list, a table or an export finds its photo."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from cti.data.images import NAMED_SUFFIXES, photos_among

# What belongs to a data set besides its photos; it is not counted as passed over.
_COMPANIONS = frozenset({".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".parquet"})
_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")  # Label Studio puts this before a file's name


def photo_id(path: str) -> str:
    """The id of a photo given its path relative to the photo folder, with or without extension: `a/b.jpg` -> `a__b`.

    Accents are composed, so that a name typed on a Mac and one typed elsewhere are one id.
    """
    pure = PurePosixPath(unicodedata.normalize("NFC", path))
    return str(pure.with_suffix("") if pure.suffix.lower() in NAMED_SUFFIXES else pure).replace("/", "__")


class PhotoFolder:
    """All photos below a folder, by their path relative to it.

    Args:
        root: The folder.
        leave_out: Folders whose files are no photos (masks).
    """

    def __init__(self, root: Path, leave_out: Iterable[Path] = ()) -> None:
        self.root = root
        excluded = {path.absolute() for path in leave_out}
        found: list[str] = []
        for parent, folders, files in os.walk(root):
            here = Path(parent)
            folders[:] = sorted(
                name for name in folders if not name.startswith(".") and (here / name).absolute() not in excluded
            )
            found += [(here / name).relative_to(root).as_posix() for name in sorted(files) if not name.startswith(".")]
        photos = photos_among(found)
        suffixes = (PurePosixPath(name).suffix.lower() for name in set(found).difference(photos))
        self.passed_over = Counter(suffix or "no suffix" for suffix in suffixes if suffix not in _COMPANIONS)
        self.photos = tuple(photos)
        self._exact = frozenset(photos)
        self._by_path: dict[str, list[str]] = defaultdict(list)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for photo in photos:
            pure = PurePosixPath(photo)
            for key in (_key(photo), _key(str(pure.with_suffix("")))):
                self._by_path[key].append(photo)
            for key in (_key(pure.name), _key(pure.stem)):
                self._by_name[key].append(photo)

    def find(self, name: str, where: str = "") -> str | None:
        """The photo that a name means, or None.

        Case and form of accents may differ from the file's, the suffix may be left out, and a space may be written
        `%20`. A path may have folders before it that are not below this one; a bare name may lie in any folder below.

        Args:
            name: Path relative to the folder, with or without suffix, or a bare name.
            where: Place to name in errors.

        Raises:
            ValueError: if it may mean several photos.
        """
        name = clean_path(name)
        if name in self._exact:
            return name
        parts = PurePosixPath(name).parts
        tails = ["/".join(parts[start:]) for start in range(len(parts))]
        bare = tails[-1] if tails else ""
        uploaded = _UPLOAD.sub("", bare)
        for index, names in (
            (self._by_path, tails),
            (self._by_name, tails if len(parts) == 1 else []),
            (self._by_path, [uploaded] if uploaded != bare else []),
            (self._by_name, [uploaded] if uploaded != bare else []),
        ):
            for key in map(_key, names):
                found = sorted(set(index.get(key, ())))
                if len(found) > 1:
                    raise ValueError(
                        f"{where + ': ' if where else ''}'{name}' may be {' or '.join(found[:3])} in {self.root}; give "
                        "the path and the suffix, or rename one of them."
                    )
                if found:
                    return found[0]
        return self.find(unquote(name), where) if unquote(name) != name else None  # as in an address

    def has(self, name: str) -> bool:
        """Whether a name finds a photo, or several."""
        try:
            return self.find(name) is not None
        except ValueError:
            return True

    def passed_over_note(self) -> tuple[str, ...]:
        """What lies in the folder and is no photo, counted by kind; at most one sentence."""
        if not self.passed_over:
            return ()
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(self.passed_over.items()))
        return (f"Passed over in {self.root}, because they are no photos that can be read: {kinds}.",)


def clean_path(name: str) -> str:
    """A path as people write it, with `/`, without `./` and without what a URL or an export puts round it."""
    name = name.strip().replace("\\", "/")
    if "?d=" in name:  # Label Studio's local files
        name = unquote(name.partition("?d=")[2])
    while name.startswith("./"):
        name = name[2:]
    return name


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
