"""Names of classes: one spelling for each, what is meant by a misspelt one, and which names mean "nothing here"."""

import difflib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

_ALIKE = 0.6  # as difflib counts: "cta" and "cat" are alike by 0.67
_NEARLY_THE_SAME = 0.88


def name_key(name: str) -> str:
    """What two spellings of one name share: accents composed, case and repeated spaces left out."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).split())


def tidy(name: str) -> str:
    """A name as it is kept: accents composed, no spaces around it, single ones within."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def one_spelling(names: Mapping[str, int], known: Iterable[str] = ()) -> dict[str, str]:
    """Which spelling stands for each name: `Cat` and `cat` are one class.

    Args:
        names: Name as written -> how often.
        known: Names that were chosen or listed by the user; their spelling is kept.

    Returns:
        Name as written -> the spelling to use: the known one, else the most frequent one, of equals the one in small
        letters.
    """
    chosen = {name_key(name): name for name in known}
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for name, count in names.items():
        spellings[name_key(name)][tidy(name)] += count
    for key, counts in spellings.items():
        chosen.setdefault(key, min(counts, key=lambda name: (-counts[name], name != name.lower(), name)))
    return {name: chosen[name_key(name)] for name in names}


def likely_slips(counts: Mapping[str, int]) -> dict[str, str]:
    """Names that look like a misspelling of another one: rare, and nearly the same as a frequent name.

    Args:
        counts: Class -> photos that have it.

    Returns:
        Doubtful name -> the name that is probably meant.
    """
    slips: dict[str, str] = {}
    for name, count in counts.items():
        for other in difflib.get_close_matches(name, [other for other in counts if other != name], 3, _ALIKE):
            likeness = difflib.SequenceMatcher(None, name, other).ratio()
            rare = count <= 2 and counts[other] > 2 * count and abs(len(name) - len(other)) <= 2
            tie = counts[other] > count or (counts[other] == count and other < name)
            if (
                count
                and ((rare and len(name) > 2) or (likeness >= _NEARLY_THE_SAME and tie))
                and not _numbered(name, other)
            ):
                slips[name] = other
                break
    return {name: other for name, other in slips.items() if other not in slips}


def means_nothing(name: str, normal: Iterable[str]) -> bool:
    """Whether a tag or folder says that none of the classes is there: `good`, `No-Defect`, ..."""
    return _letters(name) in {_letters(other) for other in normal}


def _letters(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name_key(name))


def _numbered(name: str, other: str) -> bool:
    """`type 1` and `type 2` differ on purpose."""
    return re.sub(r"\d+", "", name) == re.sub(r"\d+", "", other)
