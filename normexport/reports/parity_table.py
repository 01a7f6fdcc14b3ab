"""The judgement of a candidate, for people: outputs, module boundaries, and the verdict as the last line."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from normexport.dtypes import EIGHT_BITS
from normexport.reports.data_lines import show_data
from normexport.reports.layout import (
    last_line,
    path_cell,
    path_width,
    section,
    show_table,
    verdict_words,
    words_line,
)
from normexport.reports.parity_rows import share_words, tightest
from normexport.reports.words import count
from normexport.text import one_line
from normexport.verdicts import Verdict

if TYPE_CHECKING:
    from normexport.proof import ParityReport
    from normexport.proof.verdict import Row

_NUMBERS = ("error", "budget", "used")


def show_parity(console: Console, report: ParityReport, every_layer: bool = False) -> None:
    """Every output under every set of inputs, the boundaries (all, or the worst), the verdict."""
    section(console, f"parity of {report.candidate} against {report.reference}")
    if report.precision in EIGHT_BITS:
        words_line(console, "a budget is the noise that its least signal-to-noise ratio allows an output")
    else:
        words_line(console, f"a budget is set by the error of {report.baseline} itself on the same inputs")
    show_data(console, report.data)
    _output_table(console, report.outputs)
    if every_layer and report.layers:
        section(console, "module boundaries")
        _layer_table(console, report.layers)
    _layer_summary(console, report)
    for note in report.notes:
        words_line(console, f"note: {note}")
    console.print()
    last_line(console, _verdict(report))


def _output_table(console: Console, rows: Sequence[Row]) -> None:
    cells = [(Text(one_line(row.batch)), Text(one_line(row.tensor)), *_numbers(row)) for row in rows]
    show_table(console, ("inputs", "output", *_NUMBERS), cells)


def _layer_table(console: Console, rows: Sequence[Row]) -> None:
    width = path_width(console, [row.path for row in rows])
    cells = [(path_cell(row.path, width), Text(one_line(row.type)), *_numbers(row)) for row in rows]
    show_table(console, ("module", "class", *_NUMBERS), cells)


def _numbers(row: Row) -> tuple[Text, Text, Text]:
    """Error, budget and share, by whichever of the two measures uses more of its budget."""
    style = "bold red" if not row.within else "green" if row.doubt is None else "yellow"
    if row.fault is not None or row.candidate is None or row.budget is None:
        return Text(""), Text(""), Text(one_line(row.fault or "not measured"), style=style)
    error, allowed, name = tightest(row.candidate.rms, row.budget.rms, row.candidate.max_abs, row.budget.max_abs)
    return Text(f"{error:.1e} {name}"), Text(f"{allowed:.1e}"), Text(share_words(row.excess), style=style)


def _layer_summary(console: Console, report: ParityReport) -> None:
    if report.layers:
        bad = sum(not row.within for row in report.layers)
        worst = max(report.layers, key=_badness)
        words = f"{count(len(report.layers), 'module boundary')} compared, {bad or 'none'} out of budget"
        words_line(console, f"{words}; worst: {_boundary(worst)}")
    for reason, number in Counter(reason for _, reason in report.unchecked).most_common(4):
        first = next(path for path, why in report.unchecked if why == reason)
        words_line(
            console, f"{count(number, 'boundary')} not compared, {'such as ' if number > 1 else ''}{first}: {reason}"
        )


def _badness(row: Row) -> float:
    return math.inf if row.fault is not None or math.isnan(row.excess) else row.excess


def _boundary(row: Row) -> str:
    how = row.fault if row.fault is not None else f"{share_words(row.excess)} of its budget"
    return f"{row.path} ({row.type}), {how}"


def _verdict(report: ParityReport) -> Text:
    words = verdict_words(report.judgement, "PARITY")
    return words if report.passed else Text.assemble(words, f"  {one_line(_why(report))}")


def _why(report: ParityReport) -> str:
    if report.judgement.verdict is Verdict.INCONCLUSIVE:
        return "; ".join(report.judgement.reasons)
    first = report.first_divergence
    if first is not None:
        return f"first divergence at {_boundary(first)}"
    if report.layers:
        return "every module boundary is within its budget, an output is not"
    return "an output is out of its budget"
