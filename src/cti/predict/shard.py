"""A part of the photos, for one of several processes or machines that label at the same time."""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count` parts.

    A photo's id alone says which part it belongs to, so that photos that come or go meanwhile move no other.

    Args:
        index: From 0 to count - 1, as array jobs count.
        count: How many parts there are.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `i/n`.

        Raises:
            ValueError: if it is not that, or i is not below n.
        """
        if not re.fullmatch(r"\d{1,9}/\d{1,9}", text) or int(text.split("/")[0]) >= int(text.split("/")[1]):
            raise ValueError(f"The shard '{text}' is none; count from 0, as in 0/4, 1/4, 2/4 and 3/4.")
        return cls(*map(int, text.split("/")))

    def of(self, photos: Mapping[str, T]) -> dict[str, T]:
        """The photos, by id, that belong to this part; every photo belongs to exactly one."""
        return {name: place for name, place in photos.items() if zlib.crc32(name.encode()) % self.count == self.index}

    def folder(self, out: Path) -> Path:
        """The folder below `out` that this part writes, `<index>-of-<count>`.

        Raises:
            ValueError: if another number of parts was begun there, whose photos would be labelled twice.
        """
        begun = [found for path in out.glob("*-of-*") if (found := re.fullmatch(r"\d+-of-(\d+)", path.name))]
        others = sorted(found[0] for found in begun if int(found[1]) != self.count)
        if others:
            raise ValueError(
                f"{out} holds {others[0]}, of another number of shards; keep to it or choose another folder."
            )
        return out / f"{self.index}-of-{self.count}"
