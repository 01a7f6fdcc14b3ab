"""Help that lists what the registries hold, looked up only when somebody asks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.box import ROUNDED
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand

from normexport.io.preprocess import PRESET_SOURCES

_LEGEND = "d: what training divides by. s: the number stored. After the colon: what evaluation multiplies by."


class CommandWithChoices(TyperCommand):
    """A command whose help ends with the values of `--dialect`, where it has that option."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """click's help, then the panel."""
        super().format_help(ctx, formatter)
        if any("--dialect" in parameter.opts for parameter in self.params):
            console = Console()
            console.print(_panel("Values of --dialect", dialects().items(), _LEGEND))
            console.print(_panel("Kinds of norm, and their operators", kinds()))
        if any("--preset" in parameter.opts for parameter in self.params):
            Console().print(_panel("Values of --preset", PRESET_SOURCES.items()))


def dialects() -> dict[str, str]:
    """Name -> meaning, from the registry of dialects."""
    from normexport.checkpoint.dialects import dialects as registered

    return registered()


def complete_dialect(incomplete: str) -> list[tuple[str, str]]:
    """For the shell's completion."""
    return [(name, meaning) for name, meaning in dialects().items() if name.startswith(incomplete)]


def kinds() -> list[tuple[str, str]]:
    """(name, operators), from the registry of kinds."""
    from normexport.norms import KINDS, Scope

    return [(name, ", ".join(kind.op(scope) for scope in Scope)) for name, kind in KINDS.items()]


def _panel(title: str, rows: Iterable[tuple[str, str]], legend: str = "") -> Panel:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for name, words in rows:
        table.add_row(Text(name, style="bold cyan"), Text(words))
    if legend:
        table.add_row("", Text(legend, style="dim"))
    return Panel(table, title=title, title_align="left", border_style="dim", box=ROUNDED)
