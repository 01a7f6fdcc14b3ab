"""Writes tables and plots of the results into docs: `python -m examples.norm_matters page`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from normexport.io.atomic import write_text

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "norm-matters.md"
PLOTS = DOCS / "norm-matters"


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """The page's text with each table between its marks, `<!-- table: kinds -->` and `<!-- end of table -->`.

    Raises:
        KeyError: the page has marks for a table that is not among `tables`.
    """
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)",
        lambda found: found[1] + tables[found[2]] + found[3],
        text,
        flags=re.DOTALL,
    )


def write_tables(tables: Mapping[str, str]) -> None:
    """Write the tables into docs/norm-matters.md."""
    write_text(PAGE, with_tables(PAGE.read_text(), tables))
