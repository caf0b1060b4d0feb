"""Text files as people have them: UTF-8 with or without a mark, UTF-16, or what Windows wrote."""

import codecs
import json
from pathlib import Path
from typing import Any

from cti.files import parse_json

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_text(path: Path) -> str:
    """A text file: UTF-8, or by its byte-order mark UTF-16, or else Windows' western encoding (cp1252).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no text in any of these.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; restore it or name another one.")
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "")
    if not encoding and b"\0" in content[:200]:  # UTF-16 without a mark: every second byte of western text is 0
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    last: UnicodeDecodeError | None = None
    for name in (encoding,) if encoding else ("utf-8", "cp1252"):
        try:
            text = content.decode(name)
        except UnicodeDecodeError as error:
            last = error
            continue
        if "\0" in text:
            break
        return text
    reason = last.reason if last else "it holds bytes of value 0"
    raise ValueError(f"{path} is not UTF-8 text ({reason}); save it as UTF-8.")


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The non-empty lines of a text file, stripped, with their numbers. Errors as for `read_text`."""
    return [(number, line.strip()) for number, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]


def read_foreign_json(path: Path) -> Any:
    """A JSON file that somebody else wrote, in any encoding of `read_text`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not JSON; the message names it and the line.
    """
    try:
        return parse_json(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}); export it again.") from error
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}; export it again.") from error
