"""Writing files so that a killed run never leaves half of one behind, and stage manifests."""

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

JsonObject = dict[str, Any]
"""A JSON object where it is read or written; what the code works with is made of it as a type (`from_json`)."""
MANIFEST = "manifest.json"
_NO_ROOM = 2**16  # bytes
_DEEP = 50  # levels of YAML: nothing of ours has a tenth of them, and the time they take grows with their square
_OPEN = (
    yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken, yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken,
)  # fmt: skip
_CLOSE = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
_HALF = re.compile(r"\\ud[89a-f]", re.IGNORECASE)
"""The first or second half of a character, as JSON may have it; a half alone can be neither shown nor written."""


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it becomes `path` when the block succeeds and vanishes when it fails.

    The temporary name keeps the suffix, so that libraries which choose a format by it still do.

    Raises:
        OSError: if the disk is full, whatever the block made of that.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}.", suffix=f".tmp{target.suffix}")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files; these are ordinary ones
        temporary.replace(target)
    except Exception as error:  # torch and safetensors have errors of their own for it
        if shutil.disk_usage(target.parent).free < _NO_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def link(source: Path | str, path: Path | str) -> None:
    """Give a file a second name, atomically; where the file system has no hard links it is copied."""
    with atomic_path(path) as temporary:
        temporary.unlink()
        try:
            temporary.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, temporary)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically, indented; NaN is refused because JSON has no such number."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def parse_json(text: str) -> Any:
    """Make a value of JSON; unlike `json.loads`, one error says whatever is wrong with it.

    Raises:
        ValueError: if it is not JSON (then a `JSONDecodeError`), is nested without end, has numbers of thousands of
            digits, or half a character.
    """
    try:
        value = json.loads(text)
        if _HALF.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("it holds half a character, such as \\ud800") from error
    return value


def parse_yaml(text: str, loader: Any = yaml.SafeLoader) -> Any:
    """Make a value of YAML that somebody else may have written, in little time and memory.

    Args:
        text: The YAML.
        loader: `yaml.BaseLoader` keeps all as text.

    Raises:
        ValueError: if it is not YAML, or refers to a part of itself, which can fill all memory, or is nested deeply.
    """
    depth = 0
    try:
        for token in yaml.scan(text):
            if isinstance(token, yaml.AliasToken):
                raise ValueError("it refers to a part of itself (*name); write the values out")
            depth += isinstance(token, _OPEN) - isinstance(token, _CLOSE)
            if depth > _DEEP:
                raise ValueError("it is nested too deeply")
        return yaml.load(text, loader)
    except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:  # the latter: values that fit no tag
        raise ValueError(" ".join(str(error).split())) from error


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: if the file is not JSON; the message names it.
    """
    try:
        return parse_json(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, no UTF-8
        raise ValueError(f"{path} is not valid JSON ({error}); delete it or restore it.") from error


def read_object(path: Path | str) -> JsonObject:
    """Read a JSON file that holds an object.

    Raises:
        ValueError: if it holds anything else; the message names it.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object; restore it, or make its folder again.")
    return content


def file_digest(path: Path | str) -> str:
    """SHA-256 (hex) of a file's content."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def to_json(value: Any) -> Any:
    """A dataclass, or anything made of them, as what JSON can hold; `from_json` makes an equal one of it again."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def from_json(kind: type[T], value: Any, source: Path | str) -> T:
    """Make a dataclass of what was read from a JSON file.

    Args:
        kind: The dataclass.
        value: What the file held.
        source: The file, for the error.

    Raises:
        ValueError: if the value does not fit; the message names the file and the first entry that is wrong.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(
            f"{source} was not written by this version of cti ({place}: {first['msg']}); make it again."
        ) from error


def versions_and_machine() -> dict[str, JsonObject]:
    """What a result was made with, for its manifest."""
    return {
        "versions": {name: version(name) for name in ("cti", "torch", "timm", "numpy")},
        "machine": {"python": platform.python_version(), "system": platform.system(), "cpus": os.cpu_count()},
    }


def write_manifest(folder: Path | str, result: Any, **more: Any) -> None:
    """Mark a folder as finished: the `result`, versions, machine and whatever else is given.

    A folder without a manifest is unfinished, whatever else lies in it.
    """
    finished = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    rewrite_manifest(folder, {"result": to_json(result), **more, "finished": finished, **versions_and_machine()})


def rewrite_manifest(folder: Path | str, manifest: JsonObject) -> None:
    """Write a manifest that was changed, with its own digest."""
    write_json(Path(folder) / MANIFEST, {**manifest, "digest": manifest_digest(manifest)})


def manifest_digest(manifest: JsonObject) -> str:
    """Start of the SHA-256 (hex) of what a manifest holds besides its own digest."""
    content = {name: value for name, value in manifest.items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def read_manifest(folder: Path | str) -> JsonObject | None:
    """The manifest of a finished folder, or None if it has not finished.

    Raises:
        ValueError: if the manifest is damaged.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return None
    manifest = read_json(path)
    if not (isinstance(manifest, dict) and "result" in manifest and isinstance(manifest.get("files", {}), dict)):
        raise ValueError(f"{path} is not a manifest; delete the folder and make it again.")
    return manifest


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
