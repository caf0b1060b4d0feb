"""One random change to a file: as bad disks, cut transfers, careless edits or ill will make them."""

import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

HOSTILE: tuple[Any, ...] = (
    None, True, False, -1, 0, 1.5, 2**31, 10**30, 1e308, -1e308, float("nan"), float("inf"), "", " ", "x" * 300, "0",
    "NaN", "nan", "yes", "../../up.png", "/etc/hostname", "C:\\a.png", "a\nb", "\x00", "\ud800", "猫", "[", "*a",
    [], {}, [[]], [None], {"a": {"b": {}}}, [1e308] * 6, [10**30] * 2,
)  # fmt: skip
"""Values that stand where others are expected."""

Change = Callable[[bytes, random.Random], bytes]


def mutate(content: bytes, suffix: str, rng: random.Random) -> bytes:
    """A changed copy; half of the changes know the format, the other half are of bytes."""
    knowing = [*_KNOWING.get(suffix, ()), *(_TEXTS if suffix in _TEXT_SUFFIXES else ())]
    for _ in range(20):
        change = rng.choice(knowing if knowing and rng.random() < 0.6 else _BYTES)
        try:
            changed = change(content, rng)
        except (ValueError, IndexError, KeyError, struct.error, RecursionError):
            continue  # what is too small, or not of its format, is changed in another way
        if changed != content:
            return changed
    return content + b"\0"


# Of bytes.


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 4, 32))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _emptied(content: bytes, rng: random.Random) -> bytes:
    return b""


def _zeroed(content: bytes, rng: random.Random) -> bytes:
    """The end was never written, as after a power cut."""
    kept = rng.choice((0, rng.randrange(len(content))))
    return content[:kept] + bytes(len(content) - kept)


def _noise(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + rng.randbytes(rng.randint(1, 64)) + content[start + rng.randint(0, 64) :]


def _moved(content: bytes, rng: random.Random) -> bytes:
    start, end, place = sorted(rng.randrange(len(content)) for _ in range(3))
    return content[:start] + content[end:place] + content[start:end] + content[place:]


def _doubled(content: bytes, rng: random.Random) -> bytes:
    return content + content


def _huge_numbers(content: bytes, rng: random.Random) -> bytes:
    changed, place = bytearray(content), rng.randrange(max(1, len(content) - 4))
    changed[place : place + 4] = struct.pack(rng.choice("<>") + "I", rng.choice((0, 2**31 - 1, 2**31, 2**32 - 1)))
    return bytes(changed)


_BYTES: tuple[Change, ...] = (_flip, _flip, _cut, _emptied, _zeroed, _noise, _moved, _doubled, _huge_numbers)


# Of text.


def _lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.decode().splitlines(keepends=True)
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            del lines[first]
        case 1:
            lines.insert(first, lines[second])
        case 2:
            lines[first], lines[second] = lines[second], lines[first]
        case _:
            lines[first] = lines[first][: rng.randrange(len(lines[first]))] + lines[second]
    return "".join(lines).encode()


def _word(content: bytes, rng: random.Random) -> bytes:
    text = content.decode()
    words = [word for word in text.replace(",", " ").replace('"', " ").replace(":", " ").split() if len(word) < 40]
    new = rng.choice((str(rng.choice(HOSTILE)), rng.choice(words), '"', ",", ";", "\t", "'", "\u0085", "&a;", "<"))
    old = rng.choice(words)
    return text.replace(old, new, rng.choice((1, -1))).encode("utf-8", "replace")


def _encoded(content: bytes, rng: random.Random) -> bytes:
    name = rng.choice(("utf-16", "utf-16-le", "utf-8-sig", "utf-32", "cp037"))
    return content.decode().encode(name)


def _long(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + rng.choice((b"[", b"{", b"9", b'"', b"<a>", b"a.", b"- ")) * 200_000 + content[place:]


_TEXT_SUFFIXES = (".csv", ".txt", ".json", ".jsonl", ".yaml", ".xml")
_TEXTS: tuple[Change, ...] = (_lines, _word, _word, _encoded, _long)


# Of JSON.


def _json(content: bytes, rng: random.Random) -> bytes:
    return json.dumps(_changed(json.loads(content), rng)).encode("utf-8", "surrogatepass")


def _json_line(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines()
    number = rng.randrange(len(lines))
    lines[number] = _json(lines[number], rng)
    return b"\n".join(lines) + b"\n"


def _changed(value: Any, rng: random.Random) -> Any:
    """JSON in which something is another value, gone, twice there, or of another name."""
    places = list(_places(value))
    if not places:
        return rng.choice(HOSTILE)
    holder, key = rng.choice(places)
    match rng.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.append(holder[key])
        case 1 | 2 if isinstance(holder, dict):
            holder[f"{key}x" if rng.random() < 0.5 else key.upper()] = holder.pop(key)
        case _:
            holder[key] = rng.choice(HOSTILE)
    return value


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


# Of images, archives of arrays, and weights.


def _png_header(content: bytes, rng: random.Random) -> bytes:
    """Another size, depth or colour mode, with the right checksum."""
    header = bytearray(content[12:29])
    if header[:4] != b"IHDR":
        raise ValueError
    if rng.random() < 0.5:
        header[4:12] = struct.pack(">II", *(rng.choice((0, 1, 7, 9000, 60000, 2**31 - 1)) for _ in range(2)))
    else:
        header[rng.randrange(12, 17)] = rng.randrange(20)
    return content[:12] + bytes(header) + struct.pack(">I", zlib.crc32(bytes(header))) + content[33:]


def _array_header(content: bytes, rng: random.Random) -> bytes:
    """A shape or type in the header of a NumPy array that is not what follows; checksums no longer hold."""
    old = rng.choice([b"'<f2'", b"'<f4'", b"'<i8'", b"(2,)", b"(3,", b"False"])
    new = {b"(": b"(999999999,)", b"'": b"'|O'"}.get(old[:1], b"True ")[: len(old)].ljust(len(old))
    return content.replace(old, new)


def _weights_header(content: bytes, rng: random.Random) -> bytes:
    size = struct.unpack("<Q", content[:8])[0]
    header = _json(content[8 : 8 + size], rng)
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


_KNOWING: dict[str, tuple[Change, ...]] = {
    ".json": (_json,) * 6,
    ".jsonl": (_json_line,) * 6,
    ".png": (_png_header,),
    ".npz": (_array_header,),
    ".safetensors": (_weights_header,),
}
