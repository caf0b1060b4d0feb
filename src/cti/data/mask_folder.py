"""The masks that lie in a folder, and which photo each belongs to."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from cti.data.images import SUFFIXES
from cti.data.names import name_key

# Lossless ones first; a JPEG is found too, so that the check can say what is wrong with it.
_ORDER = (".png", ".tif", ".tiff", ".bmp", ".gif", ".pgm", ".ppm", ".webp", ".jpg", ".jpeg")
_AFFIX = re.compile(r"^(mask|label|seg|gt)[_\-. ]|[_\-. ](masks?|labels?|labelids|seg|segmentation|gt|annotation)$")


class MaskFolder:
    """All mask files below a folder.

    A photo's mask has the photo's path or id, in any case and form of accents, with any suffix of an image, and
    perhaps with `_mask` (or `_label`, `_seg`, `_gt`) after it.

    Args:
        root: The folder; it may be missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[str, list[Path]] = defaultdict(list)
        for parent, _, names in os.walk(root):
            for name in sorted(names):
                path = Path(parent) / name
                if path.suffix.lower() in SUFFIXES:
                    self._files[_key(path.relative_to(root).as_posix())].append(path)
        for key in list(self._files):
            folder, _, name = key.rpartition("/")
            bare = _AFFIX.sub("", name)
            if bare != name:
                self._files[f"{folder}/{bare}" if folder else bare] += self._files[key]

    def find(self, *names: str) -> Path | None:
        """The mask of a photo, given the names it may go by, with or without suffix; None without one."""
        for name in names:
            files = self._files.get(_key(name), ())
            if files:
                return min(files, key=lambda path: (_key(path.name) != _key(PurePosixPath(name).name), _rank(path)))
        return None

    def named_after(self, mask: Path, tags: Collection[str]) -> str:
        """The class that a mask's sub-folder is named after, if it is its photo's only one; else empty."""
        folder = mask.relative_to(self.root).parent.name
        return next((tag for tag in tags if len(tags) == 1 and name_key(tag) == name_key(folder)), "")

    def ownerless_note(self, used: Iterable[Path]) -> tuple[str, ...]:
        """Masks that belong to no photo, counted; at most one sentence."""
        others = {path for files in self._files.values() for path in files} - set(used)
        if not others:
            return ()
        return (f"{len(others)} masks in {self.root} belong to no tagged photo, e.g. {min(others).name}.",)


def _rank(path: Path) -> int:
    return _ORDER.index(path.suffix.lower())


def _key(path: str) -> str:
    pure = PurePosixPath(unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold()))
    return str(pure.with_suffix("") if pure.suffix in SUFFIXES else pure)
