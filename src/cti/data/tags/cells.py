"""From the cells of a column of tags to names: whatever separates them, and names of several words."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from cti.data.names import tidy
from cti.files import parse_json

_SEPARATORS = re.compile(r"[;,|\t\n]")
_SOFT = re.compile(r"[/+&]")  # these separate only what are names without them, too
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_NOTHING = frozenset({"", "n/a", "<na>", "-", "[]", "{}", "()"})  # `nan`, `none` and `null` are names like others
_SHOWN = 3


def split_cells(
    cells: Sequence[Any], known: Iterable[str] = (), one_name: bool = False
) -> tuple[list[tuple[str, ...]], str, tuple[str, ...]]:
    """Split every cell of a column into names.

    `;`, `,`, `|` and line breaks separate, in lists of JSON or Python too. Spaces separate as well, but a name of
    several words stays whole where it is known, or stands between separators in another cell. In a column of one name
    per photo, and at `/`, `+` and `&`, a cell is split only where each part is a cell of its own elsewhere.

    Args:
        cells: Text, or what JSON holds: lists, numbers, `{"choices": [...]}`, `{"cat": 1, "dog": 0}`.
        known: Names that are known already.
        one_name: The column's heading speaks of one name (`label`, not `labels`).

    Returns:
        (names of each cell, what separates them, problems worth saying).
    """
    parts = [_parts(cell) for cell in cells]
    whole = {name for name in map(tidy, known) if name}
    whole |= {part for listed, found in parts if listed for part in found if " " in part}
    alone = {found[0] for listed, found in parts if len(found) == 1 and (listed or " " not in found[0])} | whole
    alone |= {part for listed, found in parts if listed for part in found}
    longest = sorted((name for name in whole if " " in name), key=len, reverse=True)
    names: list[tuple[str, ...]] = []
    spaced: list[tuple[str, ...]] = []
    for listed, found in parts:
        pieces: list[str] = []
        for part in found:
            soft = [tidy(piece) for piece in _SOFT.split(part)]
            if part not in whole and len(soft) > 1 and all(piece in alone for piece in soft):
                pieces += soft
            elif listed or part in whole:
                pieces.append(part)
            else:
                words = _words(part, longest)
                split = not one_name or all(word in alone for word in words)
                pieces += words if split else [part]
                if split and len(words) > 1:
                    spaced.append(tuple(words))
        names.append(tuple(dict.fromkeys(pieces)))
    softly = len([name for found in names for name in found]) > sum(len(found) for _, found in parts) and not spaced
    return names, _how(cells, parts, spaced, softly), _never_apart(spaced, names)


def _parts(cell: Any) -> tuple[bool, list[str]]:
    """(whether something other than spaces separates, the parts)."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return False, []
    if isinstance(cell, str):
        return _parts_of_text(cell.strip())
    if isinstance(cell, bool):
        return True, [str(cell).lower()]
    if isinstance(cell, int | float):
        return True, [f"{cell:g}" if isinstance(cell, float) else str(cell)]
    if isinstance(cell, dict):
        if isinstance(cell.get("choices"), list | str):
            return True, _parts(cell["choices"])[1]
        for key in ("name", "label", "class", "tag", "category"):
            if isinstance(cell.get(key), str | int):
                return True, [tidy(str(cell[key]))]
        if cell and all(value in (0, 1) for value in cell.values() if not isinstance(value, list | dict)):
            return True, [tidy(str(key)) for key, value in cell.items() if value in (0, 1) and value]
        return True, []
    if isinstance(cell, list | tuple):
        texts = [part for item in cell for part in ([tidy(item)] if isinstance(item, str) else _parts(item)[1])]
        return True, [text for text in texts if text]
    return False, []


def _parts_of_text(text: str) -> tuple[bool, list[str]]:
    if text.lower() in _NOTHING:
        return False, []
    inner = text[1:-1]
    if (text[0], text[-1]) in (("[", "]"), ("{", "}"), ("(", ")")):
        try:
            value = parse_json(text)
        except ValueError:
            value = None
        if isinstance(value, list | dict):
            return _parts(value)
        quoted = [tidy(first or second) for first, second in _QUOTED.findall(inner)]
        if quoted and not _QUOTED.sub("", inner).strip(" ,;\n"):
            return True, [name for name in quoted if name]
        if _SEPARATORS.search(inner) and not re.search(r"[\[\](){}]", inner):
            text = inner
        elif re.fullmatch(r"-?\d+", inner.strip()):
            return True, [inner.strip()]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in inner:
        return True, [tidy(inner)] if inner.strip() and not _SEPARATORS.search(inner) else _parts_of_text(inner)[1]
    if _SEPARATORS.search(text):
        return True, [name for part in _SEPARATORS.split(text) if (name := tidy(part.strip(" \"'")))]
    return False, [tidy(text)]


def _words(text: str, longest: Sequence[str]) -> list[str]:
    found: list[str] = []
    words, start = text.split(), 0
    most = max((len(name.split()) for name in longest), default=1)
    while start < len(words):
        rest = " ".join(words[start : start + most])
        name = next((name for name in longest if rest == name or rest.startswith(f"{name} ")), words[start])
        found.append(name)
        start += len(name.split())
    return found


def _how(cells: Sequence[Any], parts: Sequence[tuple[bool, list[str]]], spaced: Sequence[object], softly: bool) -> str:
    several = [cell for cell, (listed, found) in zip(cells, parts, strict=True) if listed and len(found) > 1]
    text = [cell for cell in several if isinstance(cell, str) and cell.strip()[:1] not in ("[", "{")]
    used = [f"'{mark}'" for mark in ";,|" if any(mark in cell for cell in text)]
    if any("\n" in cell for cell in text):
        used.append("line breaks")
    if spaced:
        used.append("spaces")
    if softly:
        used.append("'/'")
    texts = (part for cell in cells for part in (cell if isinstance(cell, list) else [cell]) if isinstance(part, str))
    accents = [] if all(unicodedata.is_normalized("NFC", text) for text in texts) else ["accents composed"]
    lists = ["lists"] if len(text) < len(several) else []
    return ", ".join([*(["split at " + ", ".join(used)] if used else []), *lists, *accents])


def _never_apart(spaced: Iterable[tuple[str, ...]], names: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Words that are always side by side are perhaps one name: `golden retriever`."""
    pairs = Counter(pair for words in spaced for pair in pairwise(words))
    counts = Counter(name for found in names for name in found)
    return tuple(
        f"'{first}' and '{second}' are on the same {count} photos, always side by side; if they are one class, write "
        f"'{first} {second}' into classes.txt or data.classes, or separate the tags by ';' ('{first} {second};')."
        for (first, second), count in pairs.items()
        if count > 1 and counts[first] == counts[second] == count
    )[:_SHOWN]
