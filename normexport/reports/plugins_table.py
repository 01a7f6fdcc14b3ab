"""The native libraries on the terminal: what is there, what was built, what ails one."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from normexport.plugins.compile import Built
from normexport.plugins.doctor import Diagnosis
from normexport.plugins.locate import FOLDER_VARIABLE, library_folder
from normexport.plugins.overview import Library, Overview, Tool
from normexport.reports.layout import section, show_table, show_title
from normexport.text import one_line

_STYLES = {"good": "green", "warning": "yellow", "failed": "bold red"}


def show_overview(console: Console, found: Overview) -> None:
    """Libraries, then tools."""
    show_title(console, "Libraries", str(found.folder))
    console.print()
    rows = [
        (Text(each.name, style="bold"), _state(each), Text(each.host or ""), Text(one_line(_words(each))))
        for each in found.libraries
    ]
    show_table(console, ("component", "state", "loaded by", ""), rows)
    section(console, "To build them")
    show_table(console, ("needs", ""), [(Text(tool.name, style="bold"), _place(tool)) for tool in found.tools])


def show_built(console: Console, built: Built) -> None:
    """One line for each library."""
    for path in built.libraries:
        show_title(console, "Built", one_line(path), f"{path.stat().st_size / 1e6:.1f} MB")
    used = library_folder()
    if any(path.parent != used for path in built.libraries):
        show_title(console, "Note", f"{FOLDER_VARIABLE} is set: libraries are looked for in {one_line(used)}")
    show_title(console, "Time", f"{built.seconds:.0f} s", f"log {one_line(built.log)}")


def show_diagnosis(console: Console, diagnosis: Diagnosis) -> None:
    """One line for each check, then the verdict."""
    show_title(console, "Library", one_line(diagnosis.path), diagnosis.component or "")
    console.print()
    rows = [
        (Text(check.name, style="bold"), Text(check.state, style=_STYLES[check.state]), Text(one_line(check.words)))
        for check in diagnosis.checks
    ]
    show_table(console, ("check", "", ""), rows)
    console.print()
    good = ("HEALTHY", "bold green") if diagnosis.tried else ("NOT TRIED", "bold yellow")
    verdict = good if diagnosis.healthy else ("BROKEN", "bold red")
    console.print(Text(*verdict))


def _state(each: Library) -> Text:
    if not each.present:
        return Text("absent", style="dim")
    return Text("good", style="green") if each.healthy else Text("broken", style="bold red")


def _words(each: Library) -> str:
    cuda = f", CUDA {' '.join(each.cuda)}" if each.cuda else ""
    return f"{each.words}{cuda}"


def _place(tool: Tool) -> Text:
    return Text(one_line(tool.path)) if tool.path else Text(f"missing: {tool.remedy}", style="yellow")
