"""Tags in JSON: one object per photo, a name with its tags, or one object per line."""

from pathlib import Path
from typing import Any

from cti.data.tags.table import Cells
from cti.data.text import read_lines
from cti.files import parse_json

_FORMS = 'write [{"image": "a.jpg", "tags": ["cat"]}, ...], {"a.jpg": ["cat"], ...}, or one object per line (.jsonl)'


def read_json_lines(path: Path) -> Cells:
    """Read one JSON object per line, Hugging Face's `metadata.jsonl` for one.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line is no JSON object; the message names it.
    """
    records: list[tuple[str, dict[str, Any]]] = []
    for number, line in read_lines(path):
        place = f"{path}, line {number}"
        try:
            value = parse_json(line)
        except ValueError as error:
            raise ValueError(f"{place}: not valid JSON ({error}); write one object per line.") from error
        if not isinstance(value, dict):
            raise ValueError(f"{place}: not a JSON object; {_FORMS}.")
        records.append((place, value))
    return to_cells(records)


def json_cells(path: Path, content: Any) -> Cells:
    """A table of what a JSON file holds: a list of objects, a name with its tags, or either inside one more object.

    Raises:
        ValueError: if it has another form.
    """
    if isinstance(content, dict):
        inner = [value for value in content.values() if _is_records(value)]
        if len(inner) == 1:
            content = inner[0]
        elif len(content) == 1 and isinstance(next(iter(content.values())), dict):
            content = next(iter(content.values()))
    if isinstance(content, dict) and content and all(_is_tags(value) for value in content.values()):
        records = [(f"{path}, entry '{name}'", {"image": name, "tags": tags}) for name, tags in content.items()]
    elif _is_records(content):
        records = [(f"{path}, entry {number}", value) for number, value in enumerate(content, 1)]
    else:
        raise ValueError(f"{path} holds no tags in a form that is known; {_FORMS}.")
    if all(isinstance(record.get("tags"), dict) and "image" in record for _, record in records):
        records = [(place, _flat(record)) for place, record in records]
    return to_cells(records)


def to_cells(records: list[tuple[str, dict[str, Any]]]) -> Cells:
    """Objects as a table: a column for each key that any of them has."""
    header = tuple(dict.fromkeys(key for _, record in records for key in record))
    rows = tuple((place, tuple(record.get(key) for key in header)) for place, record in records)
    return Cells(header, rows)


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """`{"a.jpg": {"tags": ["cat"], "width": 9}}`: what is beside the tags does not matter."""
    found = record["tags"]
    named = next((key for key in ("tags", "labels", "label", "classes") if key in found), None)
    return {**record, "tags": found[named]} if named else record


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _is_tags(value: Any) -> bool:
    return value is None or isinstance(value, str | list | dict | int)
