"""Masks as rows of Parquet files instead of files of their own: for so many photos that a folder cannot hold them.

Each row is a photo: its record, with a column for each of its entries, and its mask as COCO run-length codes.
"""

import logging
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from cti.files import JsonObject, atomic_path
from cti.predict.annotations import run_length_codes
from cti.predict.labeller import Labelled, Photo
from cti.predict.places import is_same

logger = logging.getLogger(__name__)

FOLDER = "photos"
_MOST_ROWS = 4096  # of a file
_LONGEST = 60.0  # seconds of work that a kill may cost


class ParquetBooks:
    """`photos/part-<n>.parquet`, which together are one table.

    A photo has one row. Rows of photos that this call does not name stay; those of photos that were replaced, or have
    other tags now, are taken out before they are labelled again.

    Args:
        folder: Gets the folder `photos`.
        photos: All that are to be labelled.
        classes: The C class names.

    Raises:
        ModuleNotFoundError: without pyarrow or pycocotools.
    """

    def __init__(self, folder: Path, photos: Mapping[str, Photo], classes: tuple[str, ...]) -> None:
        self._arrow, self._parquet = load_pyarrow()
        self._folder, self._photos, self._classes = folder / FOLDER, photos, classes
        self._schema = self._columns()
        self._waiting: list[JsonObject] = []
        self._since = time.monotonic()
        self._numbers = count(max((int(path.stem.removeprefix("part-")) for path in self._parts()), default=-1) + 1)

    def done(self) -> set[str]:
        """See `Books`; rows that no longer hold, and files that cannot be read, are taken out."""
        done: set[str] = set()
        for path in self._parts():
            try:
                table = self._parquet.read_table(path, schema=self._schema, partitioning=None)
            except (self._arrow.ArrowException, OSError) as error:
                logger.warning("%s cannot be read (%s); its photos are labelled again.", path, error)
                path.unlink()
                continue
            rows = table.select(["id", "photo", "digest", "given"]).to_pylist()
            holds = [self._holds(row) and row["id"] not in done for row in rows]
            if not all(holds):
                self._rewrite(path, table.filter(self._arrow.array(holds)))
            done |= {row["id"] for row, well in zip(rows, holds, strict=True) if well}
        return done & set(self._photos)

    def add(self, name: str, labelled: Labelled) -> None:
        """See `Books`; a part is written when it is full, or a minute has passed."""
        entries = asdict(labelled.record)
        height, width = entries.pop("size")
        masks = [
            {
                "category_id": mask["category_id"],
                "category": self._classes[mask["category_id"] - 1],
                "area": mask["area"],
                "bbox": mask["bbox"],
                **mask["segmentation"],
            }
            for mask in labelled.masks
        ]
        certainty = entries.pop("certainty") or None
        self._waiting.append(
            {"id": name, "height": height, "width": width, "certainty": certainty, "masks": masks, **entries}
        )
        if len(self._waiting) >= _MOST_ROWS or time.monotonic() - self._since > _LONGEST:
            self.flush()

    def flush(self) -> None:
        """See `Books`."""
        if self._waiting:
            path = self._folder / f"part-{next(self._numbers):05}.parquet"
            self._rewrite(path, self._arrow.Table.from_pylist(self._waiting, schema=self._schema))
        self._waiting, self._since = [], time.monotonic()

    def finish(self, unmade: Collection[str]) -> int:
        """See `Books`; photos `unmade` have no row already, for their files are not what they were."""
        parts = [self._parquet.read_table(path, columns=["cannot_tell"]) for path in self._parts()]
        return sum(part["cannot_tell"].to_pylist().count(True) for part in parts)

    def _parts(self) -> Iterator[Path]:
        return iter(sorted(self._folder.glob("part-[0-9]*.parquet")))

    def _holds(self, row: JsonObject) -> bool:
        photo = self._photos.get(row["id"])
        given = None if row["given"] is None else tuple(row["given"])
        return photo is None or (given == photo.given and is_same(photo.place, row["photo"], row["digest"]))

    def _rewrite(self, path: Path, table: Any) -> None:
        if table.num_rows:
            with atomic_path(path) as temporary:
                self._parquet.write_table(table, temporary, compression="zstd")
        else:
            path.unlink(missing_ok=True)

    def _columns(self) -> Any:
        """The schema: numbers per class are one column with a field for each class."""
        arrow = self._arrow
        text, real = arrow.string(), arrow.float64()
        of_classes = arrow.struct([(name, real) for name in self._classes])
        mask = arrow.struct(
            {
                "category_id": arrow.int32(),
                "category": text,
                "area": arrow.int64(),
                "bbox": arrow.list_(real),
                "size": arrow.list_(arrow.int32()),
                "counts": text,
            }
        )
        return arrow.schema(
            {
                "id": text,
                "photo": text,
                "digest": text,
                "height": arrow.int32(),
                "width": arrow.int32(),
                "given": arrow.list_(text),
                "tags": arrow.list_(text),
                "scores": of_classes,
                "shares": arrow.struct([("background", real), *((name, real) for name in self._classes)]),
                "empty": arrow.bool_(),
                "confidence": real,
                "certainty": of_classes,
                "cannot_tell": arrow.bool_(),
                "masks": arrow.list_(mask),
            }
        )


def load_pyarrow() -> tuple[Any, Any]:
    """pyarrow and its module for Parquet, once it is clear that run-length codes can be made too.

    Raises:
        ModuleNotFoundError: without pyarrow or pycocotools.
    """
    try:
        import pyarrow
        from pyarrow import parquet

        run_length_codes()
    except ModuleNotFoundError as error:
        message = 'Masks in Parquet need pyarrow and pycocotools: pip install "cti[parquet,coco]".'
        raise ModuleNotFoundError(message) from error
    return pyarrow, parquet
