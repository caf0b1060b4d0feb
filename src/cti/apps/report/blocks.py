"""What a report page is made of: sections of tables, charts, panels and text. The template draws each kind."""

from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from cti.tables import Table


@dataclass(frozen=True)
class Chart:
    """A picture in SVG that takes its colours from the page.

    Args:
        caption: What it shows.
        svg: The `<svg>` element.
        legend: Name and CSS colour of each series, and whether it is dashed.
        note: A sentence below.
    """

    kind: ClassVar[str] = "chart"
    caption: str
    svg: str
    legend: tuple[tuple[str, str, bool], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Row:
    """Charts that belong side by side.

    Args:
        charts: At least one.
    """

    kind: ClassVar[str] = "row"
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class Picture:
    """A small picture.

    Args:
        caption: The words under it.
        alt: What it shows, for those who do not see it.
        url: `data:` URL.
    """

    caption: str
    alt: str
    url: str


@dataclass(frozen=True)
class Panel:
    """A photo with everything that is known about it.

    Args:
        name: Name of the photo.
        list_name: The list it is from.
        tags: Names of its classes.
        scores: mIoU of this one photo by what was scored, and differences between runs: what to sort by.
        strips: Rows of pictures, each with a title (empty for a single run).
        remarks: What is to be said about it, one sentence each.
        command: What to type to go on with it.
    """

    name: str
    list_name: str
    tags: tuple[str, ...]
    scores: dict[str, float]
    strips: tuple[tuple[str, tuple[Picture, ...]], ...]
    remarks: tuple[str, ...] = ()
    command: str = ""


@dataclass(frozen=True)
class Panels:
    """Panels that can be sorted and filtered.

    Args:
        panels: At least one.
        colours: Class name and CSS colour, of the classes that are shown.
        note: A sentence above.
        order: What the order is in which they are given.
    """

    kind: ClassVar[str] = "panels"
    panels: tuple[Panel, ...]
    colours: dict[str, str]
    note: str = ""
    order: str = "as drawn"

    @property
    def lists(self) -> list[str]:
        """Lists the photos are from."""
        return list(dict.fromkeys(panel.list_name for panel in self.panels))

    @property
    def scored(self) -> list[str]:
        """What the photos can be sorted by."""
        return list(dict.fromkeys(name for panel in self.panels for name in panel.scores))


@dataclass(frozen=True)
class Words:
    """Sentences as a list, or code.

    Args:
        lines: What is said.
        code: Show as code, folded, under `caption`.
        caption: Title of the code.
    """

    kind: ClassVar[str] = "words"
    lines: tuple[str, ...]
    code: bool = False
    caption: str = ""


Block: TypeAlias = Table | Chart | Row | Panels | Words


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading; one without blocks is left out.

    Args:
        id: Anchor.
        title: Heading.
        blocks: What it holds, in order.
        intro: A sentence under the heading.
    """

    id: str
    title: str
    blocks: list[Block] = field(default_factory=list)
    intro: str = ""
