"""Tables on terminals of any width: nothing is cut off, whatever there is room for."""

from __future__ import annotations

import io
from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from normexport.reports.layout import show_table

COLUMNS = ("inputs", "output", "error", "budget", "used")
#: A table that 80 columns hold and 40 do not.
ROWS = [
    ("random x1, batch 1", "y", "7.9e-04 max", "6.6e-02", "1 %"),
    ("random x0.1, batch 2", "second", "", "", "NaN differs from the reference in 2 of 8 elements"),
]

CELLS = st.text("abc \N{HEBREW LETTER ALEF}\N{CJK UNIFIED IDEOGRAPH-6F22}.", max_size=30).map(str.strip)


def shown(width: int, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    stream = io.StringIO()
    show_table(Console(width=width, file=stream), columns, [[Text(cell) for cell in row] for row in rows])
    return stream.getvalue()


def test_a_narrow_terminal_is_told_row_by_row() -> None:
    assert shown(40, COLUMNS, ROWS).splitlines() == [
        "random x1, batch 1",
        "  output  y",
        "  error   7.9e-04 max",
        "  budget  6.6e-02",
        "  used    1 %",
        "random x0.1, batch 2",
        "  output  second",
        "  used    NaN differs from the reference",
        "          in 2 of 8 elements",
    ]


def test_a_wide_one_has_a_table() -> None:
    assert shown(80, COLUMNS, ROWS).splitlines()[0].split() == list(COLUMNS)


@given(rows=st.lists(st.tuples(*[CELLS] * 4), min_size=1, max_size=4), width=st.integers(20, 120))
@example(rows=[("a" * 30, "b" * 30, "c", "c b a")], width=30)
def test_every_letter_is_there_and_no_line_is_too_long(rows: list[tuple[str, ...]], width: int) -> None:
    page = shown(width, ("N", "K", "S", "L"), rows)
    assert all(cell_len(line) <= width for line in page.splitlines())
    kept = [letter for letter in page if not letter.isspace() and letter not in "NKSL"]
    assert sorted(kept) == sorted("".join("".join(row) for row in rows).replace(" ", ""))
