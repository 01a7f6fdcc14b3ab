"""The few shapes that every report is made of: sections, indented lines, borderless tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from normexport.reports.words import broken
from normexport.text import one_line
from normexport.verdicts import Judgement, Verdict

_LEAST = 16  # columns that words need to be read


def show(console: Console, renderable: RenderableType) -> None:
    """Print without the blanks that rich fills lines with: they get in the way in files and pasted text."""
    for segments in console.render_lines(renderable, pad=False):
        line = Text.assemble(*((segment.text, segment.style or "") for segment in segments if not segment.control))
        line.rstrip()
        console.print(line, soft_wrap=True)


def section(console: Console, title: str, style: str = "bold") -> None:
    """A title behind an empty line."""
    console.print()
    show(console, Text(one_line(title), style=style))


def words_line(console: Console, words: str) -> None:
    """A paragraph, indented as a whole."""
    show(console, Padding(Text(one_line(words)), (0, 0, 0, 2)))


def show_title(console: Console, title: str, *words: str) -> None:
    """A bold word and, beside it, what belongs to it; a run of such lines lines up."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(min_width=9, overflow="fold")
    grid.add_column(overflow="fold")
    grid.add_row(Text(title, style="bold"), Text(" · ".join(word for word in words if word)))
    show(console, grid)


def show_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    """A table without borders. The last column takes the width that is left, and wraps; empty ones are left out.

    Where that leaves it too little, or not even the others fit, each row is told in lines of their own.
    """
    used = [index for index in range(len(columns)) if any(row[index].plain for row in rows)]
    if _needed([columns[index] for index in used], [[row[index] for index in used] for row in rows]) > console.width:
        _show_rows(console, [columns[index] for index in used], [[row[index] for index in used] for row in rows])
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim underline")
    for index in used:
        right = "right" if columns[index] == "C" else "left"
        table.add_column(columns[index], justify=right, no_wrap=index != used[-1], overflow="fold")  # type: ignore[arg-type]  # Rich takes the words as a Literal
    for row in rows:
        table.add_row(*(row[index] for index in used))
    show(console, table)


def _needed(columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> int:
    """The width of a table whose last column wraps, but not below `_LEAST`."""
    cells = [[Text(name), *(row[index] for row in rows)] for index, name in enumerate(columns)]
    widths = [max(cell_len(line) for cell in column for line in cell.plain.split("\n")) for column in cells]
    return sum(widths[:-1]) + 2 * len(widths[:-1]) + min(widths[-1], _LEAST) if widths else 0


def _show_rows(console: Console, columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    """For a narrow terminal: the first cell, and below it the others, each behind the name of its column."""
    for first, *rest in rows:
        show(console, first)
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="dim")
        grid.add_column(overflow="fold")
        for name, cell in zip(columns[1:], rest, strict=True):
            if cell.plain:
                grid.add_row(name, cell)
        show(console, Padding(grid, (0, 0, 0, 2)))


def path_cell(path: str, width: int) -> Text:
    """A module path, broken behind its dots where it is longer than `width`."""
    return Text(broken(one_line(path), width), style="bold")


def path_width(console: Console, paths: Sequence[str]) -> int:
    """Room for module paths: as much as they need, at most a third of the terminal (26 of 80 columns)."""
    return min(max((len(path) for path in paths), default=0), max(26, console.width // 3))


def last_line(console: Console, words: Text) -> None:
    """What was found, in the last line: of a file or pipe one line; on a terminal no word is cut in two."""
    if console.is_terminal:
        show(console, words)
    else:
        console.print(words, soft_wrap=True)


_VERDICTS = {Verdict.PASSED: "bold green", Verdict.FAILED: "bold red", Verdict.INCONCLUSIVE: "bold yellow"}


def verdict_words(judgement: Judgement, of: str) -> Text:
    """The verdict on what was judged, such as "PARITY PASSED", in its colour."""
    return Text(f"{of} {judgement.verdict.word}", style=_VERDICTS[judgement.verdict])
