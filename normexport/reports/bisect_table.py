"""The fault that was found, for people: the part, its input, what shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from normexport.narrowing.rules import RUNTIME
from normexport.reports.layout import last_line, section, show_table, verdict_words, words_line
from normexport.reports.words import count
from normexport.text import one_line, shortened

if TYPE_CHECKING:
    from normexport.narrowing.result import Bisection, Fault


def show_bisection(console: Console, result: Bisection) -> None:
    """The part's nodes, what it is fed, whose fault it is, the files, the verdict as the last line."""
    if result.fault is not None:
        _show_fault(console, result, result.fault)
    for note in result.notes:
        words_line(console, f"note: {note}")
    console.print()
    why = "" if result.passed else f"  {one_line('; '.join(result.judgement.reasons))}"
    if result.passed:
        why = "  nothing differs"
    last_line(console, Text.assemble(verdict_words(result.judgement, "PARITY"), why))


def _show_fault(console: Console, result: Bisection, fault: Fault) -> None:
    section(console, f"{count(len(fault.nodes), 'node')} out of budget")
    cells = [(Text(one_line(node)), Text("")) for node in fault.nodes]
    show_table(console, ("node", ""), cells)
    fed = ", ".join(
        f"{name} {'x'.join(map(str, shape)) or 'scalar'}"
        for name, shape in zip(fault.inputs, fault.shapes, strict=True)
    )
    words_line(console, f"fed with what the reference gives in float64: {fed or 'nothing'} ({result.inputs})")
    words_line(console, f"gives {one_line(fault.output)}: {fault.words}")
    right = "the graph is right in float64: the runtime makes something else of it"
    words_line(console, right if fault.whose == RUNTIME else "the graph computes something else than the reference")
    if result.files:
        words_line(console, f"wrote {shortened(result.files)}")
    if fault.shown is not None:
        words_line(console, f"python show.py: {one_line(fault.shown)}")
