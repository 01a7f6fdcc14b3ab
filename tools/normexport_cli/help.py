"""Help that lists what the registries hold, looked up only when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import Any

import typer
from rich.box import ROUNDED
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from normexport.errors import ExitCode
from normexport.io.preprocess import PRESET_SOURCES
from normexport_cli.narrow_help import TABLES_FROM, show_narrow_help

_PRESETS = "Values of --preset"


class Group(TyperGroup):
    """A group of commands, whose options in front of a command's name are the command's: `normexport -q convert`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """click's, with these options moved behind the name; --help and --version stay the group's own."""
        handed_on = {name for each in self.params if not each.is_eager for name in each.opts}
        before = [*takewhile(lambda word: _is_among(word, handed_on), args)]
        command, behind = args[len(before) : len(before) + 1], args[len(before) + 1 :]
        if command and not command[0].startswith("-"):
            args = [*command, *before, *behind]
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """click's."""
        return without_types(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """typer's, or without tables where the terminal is too narrow for them."""
        if (console := Console()).width < TABLES_FROM:
            show_narrow_help(self, ctx, console)
        else:
            super().format_help(ctx, formatter)


def show_help_alone(context: typer.Context) -> None:
    """Print the help of a group that was given no command, and leave as where an argument is missing."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(ExitCode.USAGE)


def _is_among(word: str, options: set[str]) -> bool:
    """Whether a word is one of the flags, or several of their letters behind one dash."""
    letters = word[1:] if word.startswith("-") and not word.startswith("--") else ""
    return word in options or (bool(letters) and {f"-{letter}" for letter in letters} <= options)


def without_types(parameters: list[Any]) -> list[Any]:
    """The parameters; flags, --help among them, are told without a <bool>, which nobody writes behind them."""
    for each in parameters:
        if getattr(each, "is_flag", False) and each.metavar is None:
            each.metavar = ""
    return parameters


class CommandWithChoices(TyperCommand):
    """A command whose help reads in 80 columns, and ends with the values of `--preset` where it has that option."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.help = _flowing(self.help or "")

    def get_params(self, ctx: Any) -> list[Any]:
        """click's."""
        return without_types(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """typer's help, or without tables where the terminal is too narrow for them; then the panel."""
        takes_preset = any("--preset" in parameter.opts for parameter in self.params)
        presets = {_PRESETS: PRESET_SOURCES.items()} if takes_preset else {}
        if (console := Console()).width < TABLES_FROM:
            show_narrow_help(self, ctx, console, presets)
            return
        super().format_help(ctx, formatter)
        for title, rows in presets.items():
            console.print(_panel(title, rows))


def _flowing(text: str) -> str:
    """The paragraphs of a docstring, each on one line, so that they wrap where the terminal ends; examples stay."""
    return "\n\n".join(
        part if part.lstrip().startswith("\b") else " ".join(part.split()) for part in text.split("\n\n")
    )


def one_of(*values: str) -> Callable[[str], list[str]]:
    """For the shell's completion: the values that begin so."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


def complete_list(*values: str) -> Callable[[str], list[str]]:
    """The same for an option that takes several, between commas."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        given = before.split(",")
        return [f"{before}{comma}{value}" for value in values if value.startswith(last) and value not in given]

    return complete


def complete_dialect(incomplete: str) -> list[tuple[str, str]]:
    """For the shell's completion, each with its meaning."""
    from normexport.checkpoint.dialects import dialects

    return [(name, meaning) for name, meaning in dialects().items() if name.startswith(incomplete)]


def _panel(title: str, rows: Iterable[tuple[str, str]]) -> Panel:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for name, words in rows:
        table.add_row(Text(name, style="bold cyan"), Text(words))
    return Panel(table, title=title, title_align="left", border_style="dim", box=ROUNDED)
