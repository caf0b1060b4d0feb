"""Writing files so that a killed run never leaves half of one behind, and stage manifests."""

import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it becomes `path` when the block succeeds and vanishes when it fails.

    The temporary name keeps the suffix, so that libraries which choose a format by it still do.
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
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically, indented; NaN is refused because JSON has no such number."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: if the file is not JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); delete it or restore it.") from error


def file_digest(path: Path | str) -> str:
    """SHA-256 (hex) of a file's content."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_manifest(folder: Path | str, result: dict[str, Any], **facts: Any) -> None:
    """Mark a stage folder as finished: versions, machine and `facts` beside the stage's `result`.

    A folder without a manifest is an unfinished stage, whatever else lies in it.
    """
    manifest = {
        "result": result,
        **facts,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {name: version(name) for name in ("cti", "torch", "timm", "numpy")},
        "machine": {"python": platform.python_version(), "system": platform.system(), "cpus": os.cpu_count()},
    }
    write_json(Path(folder) / MANIFEST, manifest)


def read_manifest(folder: Path | str) -> dict[str, Any] | None:
    """The manifest of a finished stage, or None if the stage has not finished."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return None
    manifest = read_json(path)
    assert isinstance(manifest, dict)
    return manifest


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
