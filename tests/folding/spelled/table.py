"""All rows, and how the page of documentation lists those that stay."""

from __future__ import annotations

from functools import partial

from tests.folding.spelled import cousins, files, layouts, others, places, scales, steps
from tests.folding.spelled.rows import Net, Row
from tests.folding.spellings import FORMS, PLACES, Form


def _behind(form: Form, n: Net) -> str:
    return PLACES["behind a convolution"][0](n.b, form)


TABLES = (scales, steps, layouts, places, files, cousins, others)
ROWS = [row for table in TABLES for row in table.ROWS.all]
ROWS += [Row(f"{name}, behind a convolution", partial(_behind, form), "Conv Relu") for name, form in FORMS.items()]


def page_lines() -> list[str]:
    """The lines of the table in docs/folding.md."""
    listed = [f"| {row.name} | {row.stays} |" for row in ROWS if row.stays]
    return listed + [f"| {row.name} | not listed: {row.silent} |" for row in ROWS if row.silent]


if __name__ == "__main__":
    print(*page_lines(), sep="\n")
