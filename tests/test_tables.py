"""One table, printed on the terminal and as Markdown; tests/apps/report looks at the page."""

import io

from rich.console import Console

from cti.tables import Cell, Table, bar, percent, row, to_markdown, to_rich

TABLE = Table(
    "mIoU of [bold] things",
    ("what", "mIoU", "threshold-free"),
    (row("seed [x]", Cell("57.5", note="55.0 to 59.0"), "a|b"), row("mean", bar(0.5), bar(None))),
    footer=1,
    note="A sentence.",
)


def printed(table: Table, width: int = 100) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(to_rich(table))
    return console.export_text()


def test_the_terminal_shows_texts_and_notes_as_they_are() -> None:
    text = printed(TABLE)
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == "mIoU of [bold] things"
    assert lines[-1] == "A sentence."
    cells = [" ".join(line.split()) for line in lines]
    assert "│ seed [x] │ 57.5 55.0 to 59.0 │ a|b │" in cells
    assert "│ mean │ 50.0 │ - │" in cells
    assert lines.index(next(line for line in lines if "mean" in line)) == len(lines) - 3
    assert lines[-4].startswith("├")  # the mean is set apart


def test_a_narrow_terminal_leaves_words_of_the_header_whole() -> None:
    assert "threshold-free" in printed(TABLE, width=46)


def test_a_table_without_heads_prints_none() -> None:
    assert len(printed(Table("", ("", ""), (row("a", "1"),))).strip().splitlines()) == 3


def test_markdown() -> None:
    assert to_markdown(TABLE) == (
        "mIoU of [bold] things\n\n"
        "| what | mIoU | threshold-free |\n"
        "|---|---|---|\n"
        "| seed [x] | 57.5 55.0 to 59.0 | a\\|b |\n"
        "| mean | 50.0 | - |\n\n"
        "A sentence."
    )
    assert to_markdown(Table("", ("a",), ())) == "| a |\n|---|"


def test_percent_of_what_is_undefined_is_a_dash() -> None:
    assert [percent(0.5678), percent(0.0005, 2), percent(None)] == ["56.8", "0.05", "-"]
    assert (bar(None).share, bar(0.25).share) == (None, 0.25)
