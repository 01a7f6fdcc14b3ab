"""--help for a narrow terminal: no tables, whose columns would cut names short; each option with its words below it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from textwrap import dedent
from typing import Any, TypeAlias

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

#: Columns from which on typer's tables cut no name.
TABLES_FROM = 76


#: Names, each with its words.
Rows: TypeAlias = Iterable[tuple[str, str]]


def show_narrow_help(command: Any, context: Any, console: Console, more: Mapping[str, Rows] | None = None) -> None:
    """What typer shows, one below the other: usage, text, parameters by panel, commands of a group, the last line.

    Args:
        more: further rows by the title above them.
    """
    usage = " ".join(command.get_usage(context).partition(": ")[2].split())
    console.print(Text(f"Usage: {usage}", style="bold"))
    console.print()
    for part in (command.help or "").replace("\b\n", "").split("\n\n"):
        console.print(Text(dedent(part).strip("\n")))
        console.print()
    for title, rows in {**_sections(command, context), **(more or {})}.items():
        console.print(Text(title, style="bold underline"))
        for names, words in rows:
            console.print(Padding(Text(names, style="bold cyan", overflow="fold"), (0, 0, 0, 2)))
            console.print(Padding(Text(words, overflow="fold"), (0, 0, 0, 4)))
        console.print()
    if command.epilog:
        console.print(Text(command.epilog))


def _sections(command: Any, context: Any) -> dict[str, Rows]:
    """By the title of each panel, names and words of what stands in it."""
    found: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        plain = "Options" if parameter.param_type_name == "option" else "Arguments"
        record = _record_of(parameter, context)
        if record is not None:
            found.setdefault(getattr(parameter, "rich_help_panel", None) or plain, []).append(record)
    sections: dict[str, Rows] = {**found}
    if commands := list(_commands(command, context)):
        sections["Commands"] = commands
    return sections


def _record_of(parameter: Any, context: Any) -> tuple[str, str] | None:
    """Its names with what is written behind them, and its words with its default; None for a hidden one."""
    record = parameter.get_help_record(context)
    if record is None:
        return None
    names, words = record
    return str(names).rstrip(), " ".join(str(words).split())


def _commands(command: Any, context: Any) -> Iterator[tuple[str, str]]:
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        inner = command.get_command(context, name)
        words = (inner.help or "").strip().partition("\n\n")[0]
        yield name, " ".join(words.split())
