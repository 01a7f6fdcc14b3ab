"""The dialects that checkpoints are read in, and the kinds of norm, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from normexport.norms import KINDS, Scope
from normexport.reports.layout import section, show_table, words_line

_LEGEND = "d: what training divides by. s: the number stored. After the colon: what evaluation multiplies by."


def kinds_with_operators() -> dict[str, list[str]]:
    """Name of each kind -> its operators, one for each of what statistics are taken over."""
    return {name: [kind.op(scope) for scope in Scope] for name, kind in KINDS.items()}


def show_dialects(console: Console, dialects: Mapping[str, str], kinds: Mapping[str, Sequence[str]]) -> None:
    """A line for each dialect, with what its stored number means, and one for each kind of norm."""
    show_table(console, ["dialect", "whose, and what its statistic means"], _rows(dialects))
    words_line(console, _LEGEND)
    section(console, "kinds of norm")
    show_table(console, ["kind", "operators"], _rows({name: ", ".join(operators) for name, operators in kinds.items()}))


def _rows(meanings: Mapping[str, str]) -> list[list[Text]]:
    return [[Text(name, style="bold"), Text(words)] for name, words in meanings.items()]
