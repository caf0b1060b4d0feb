"""A table, and how it is printed: on the terminal or as Markdown. In a report the page's template draws it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

MISSING = "-"
"""What a table says where there is no value."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Args:
        text: What it says.
        share: From 0 to 1, drawn as a bar or as a shade, in `heat` tables also from -1 to 0 in another colour; None
            where nothing is drawn.
        note: Small print behind the text.
    """

    text: str
    share: float | None = None
    note: str = ""


NamedCells: TypeAlias = tuple[str, tuple[Cell, ...]]


@dataclass(frozen=True)
class Table:
    """A table with a caption.

    Args:
        caption: What it shows.
        header: Column heads, the first for the names of the rows.
        rows: The name of each row and its cells.
        style: How a page draws shares: `plain` = not at all, `bars` = as bars, `heat` = as shades of small cells.
        footer: How many of the last rows are set apart: means, sums, baselines.
        folded: Whether it is a detail: on a page shown when its caption is opened, on the terminal with `--verbose`.
        note: Sentences below.
    """

    kind: ClassVar[str] = "table"
    caption: str
    header: tuple[str, ...]
    rows: tuple[NamedCells, ...]
    style: str = "plain"
    footer: int = 0
    folded: bool = False
    note: str = ""


def row(name: str, *cells: Cell | str) -> NamedCells:
    """A row of a table; cells that are only text may be given as such."""
    return name, tuple(Cell(cell) if isinstance(cell, str) else cell for cell in cells)


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few of a list of names, for a sentence."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as percent; a dash where it is undefined."""
    return MISSING if fraction is None else f"{100 * fraction:.{digits}f}"


def bar(fraction: float | None) -> Cell:
    """A fraction as percent and as a bar."""
    return Cell(percent(fraction), share=fraction)


def to_rich(table: Table) -> Group:
    """The table for the terminal; notes of cells are dimmed, shares are not drawn."""
    printed = RichTable(show_header=any(table.header))
    for index, name in enumerate(table.header):
        longest_word = max(map(len, name.split()), default=0)
        printed.add_column(Text(name), justify="left" if index == 0 else "right", min_width=longest_word)
    for index, (name, cells) in enumerate(table.rows):
        if 0 < index == len(table.rows) - table.footer:
            printed.add_section()
        printed.add_row(Text(name), *(_rich_cell(cell) for cell in cells))
    note = [Text(table.note)] if table.note else []
    return Group(Text(table.caption, style="italic"), printed, *note)


def to_markdown(table: Table) -> str:
    """The table as Markdown, with its caption, if it has one, above and its note below."""
    rows = [(name, *(f"{cell.text} {cell.note}".strip() for cell in cells)) for name, cells in table.rows]
    lines = [_markdown_row(table.header), "|---" * len(table.header) + "|", *map(_markdown_row, rows)]
    return "\n\n".join(part for part in (table.caption, "\n".join(lines), table.note) if part)


def _rich_cell(cell: Cell) -> Text:
    return Text.assemble(cell.text, (f" {cell.note}" if cell.note else "", "dim"))


def _markdown_row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"
