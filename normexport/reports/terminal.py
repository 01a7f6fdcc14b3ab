"""Results for people, on a terminal or in a pipe, at 80 columns and up, with and without colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from normexport.reports.data_lines import show_data
from normexport.reports.engine_table import engine_words
from normexport.reports.layout import (
    last_line,
    path_cell,
    path_width,
    section,
    show,
    show_table,
    show_title,
    words_line,
)
from normexport.reports.norm_rows import Row, group_rows, rows
from normexport.reports.onnx_file import show_onnx_file
from normexport.reports.parity_table import show_parity
from normexport.reports.precision_table import show_precision
from normexport.reports.words import SOURCES, changed_operators, count, size, tally
from normexport.text import one_line, shortened

if TYPE_CHECKING:
    from normexport.checkpoint import NormRecord, WeightNormRecord
    from normexport.folding import FoldWarning, NormOutcome
    from normexport.onnx_export import Exported, InputSpec
    from normexport.reports.conversion import Conversion, Folding, Inspection, Operators

_FATES = {"folded": "green", "lowered": "yellow", "live": "yellow"}


def show_conversion(console: Console, conversion: Conversion) -> None:
    """What was read, what became of each norm, what was written, the proof, the verdict as the last line."""
    _header(console, conversion.path, conversion.source, conversion.norms, conversion.weight_norms, conversion.outcomes)
    _inputs(console, conversion.inputs)
    show_data(console, conversion.data)
    _notes(console, conversion.notes)
    _outcome_table(console, conversion.norms, conversion.outcomes)
    _health(console, conversion.norms)
    _warnings(console, conversion.warnings)
    console.print()
    _fates(console, conversion.outcomes, "folded")
    _operators(console, conversion.operators)
    if conversion.engine is not None:
        show_title(console, "engine", *engine_words(conversion.engine))
    _timings(console, conversion.seconds)
    _files(console, conversion.files)
    show_parity(console, conversion.parity)
    if conversion.precision is not None:
        show_precision(console, conversion.precision)


def show_inspection(console: Console, inspection: Inspection) -> None:
    """What a file holds, how healthy its statistics are, what would fold and why not."""
    _header(console, inspection.path, inspection.source, inspection.norms, inspection.weight_norms, inspection.outcomes)
    _notes(console, inspection.notes)
    if inspection.file is not None:
        show_onnx_file(console, inspection.file)
    _record_table(console, inspection.norms)
    _weight_norm_table(console, inspection.weight_norms)
    running = [record for record in inspection.norms if record.statistics == "running"]
    if running and not any(record.health for record in inspection.norms):
        section(console, "statistics")
        words_line(console, "healthy in every norm")
    _health(console, inspection.norms)
    if inspection.outcomes is None:
        section(console, "what would fold")
        words_line(console, inspection.outcomes_note or "not known without the graph")
    elif inspection.outcomes:
        section(console, "what would fold")
        _outcome_table(console, inspection.norms, inspection.outcomes, became="would be")
        console.print()
        _fates(console, inspection.outcomes, "would fold")
    elif not inspection.norms:
        words_line(console, "no norms: no RunningNorm, no BatchNormalization, no chain of per-channel constants")
    _warnings(console, inspection.warnings)


def show_folding(console: Console, folding: Folding, source: Path) -> None:
    """Counts and refusals of one `fold`, the summary as the last line."""
    show_title(console, _name(source), "ONNX model", _number_of_norms(folding.outcomes))
    _outcome_table(console, (), folding.outcomes)
    _warnings(console, folding.warnings)
    console.print()
    _operators(console, folding.operators)
    _files(console, folding.files)
    console.print()
    last_line(console, _fold_summary(folding))


def show_export(console: Console, source: Path, exported: Exported, files: Sequence[Path]) -> None:
    """What `export` wrote."""
    show_title(console, _name(source), count(len(exported.layers), "module boundary"))
    _inputs(console, exported.inputs)
    console.print()
    _files(console, files)


def _header(
    console: Console,
    path: Path,
    source: str,
    norms: Sequence[NormRecord],
    weight_norms: Sequence[WeightNormRecord],
    outcomes: Sequence[NormOutcome] | None = None,
) -> None:
    words = [SOURCES.get(source, source)]
    if norms or outcomes or source != "onnx":
        words.append(_norm_words(norms, outcomes))
    if weight_norms:
        layouts = tally(record.layout for record in weight_norms)
        words.append(f"{count(len(weight_norms), 'weight')} under weight norm ({layouts})")
    show_title(console, _name(path), *words)


def _norm_words(norms: Sequence[NormRecord], outcomes: Sequence[NormOutcome] | None) -> str:
    """ "53 norms (l1)", with those that only the graph shows: "no norms" only where there are none at all."""
    paths = {record.path for record in norms}
    others = sum(outcome.path not in paths and outcome.kind != "weight" for outcome in outcomes or ())
    if not norms and outcomes is None:
        return "no norms known without the graph"
    if not norms:
        return f"{count(others, 'norm')} found in the graph" if others else "no norms"
    kinds, dialects = tally(one_line(record.called) for record in norms), tally(record.dialect for record in norms)
    words = f"{count(len(norms), 'norm')} ({kinds if kinds == dialects else f'{kinds}; stored as {dialects}'})"
    return f"{words} and {count(others, 'norm')} found in the graph" if others else words


def _number_of_norms(outcomes: Sequence[NormOutcome]) -> str:
    return count(len(outcomes), "norm") if outcomes else "no norms"


def _inputs(console: Console, inputs: Sequence[InputSpec]) -> None:
    shapes = (f"{spec.name} {spec.sample()} {spec.dtype}" for spec in inputs)
    words_line(console, f"reads {', '.join(shapes)}" + (", any batch" if all(spec.batched for spec in inputs) else ""))


def _notes(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        words_line(console, f"note: {note}")


def _outcome_table(
    console: Console, norms: Sequence[NormRecord], outcomes: Sequence[NormOutcome], became: str = "became"
) -> None:
    shown = group_rows(rows(norms, outcomes))
    if not shown:
        return
    width = path_width(console, [row.path for row in shown])
    console.print()
    cells = [_outcome_cells(row, width) for row in shown]
    show_table(console, ("norm", "kind", "C", became, "how, or why not"), cells)


def _outcome_cells(row: Row, width: int) -> tuple[Text, ...]:
    fate = Text(row.fate, style=_FATES.get(row.fate, ""))
    return path_cell(row.path, width), Text(one_line(row.kind)), Text(row.channels), fate, Text(one_line(row.why))


def _record_table(console: Console, norms: Sequence[NormRecord]) -> None:
    if not norms:
        return
    width = path_width(console, [record.path for record in norms])
    console.print()
    cells = [
        (
            path_cell(record.path, width),
            *map(Text, (one_line(record.called), str(record.channels), record.dialect, record.statistics)),
        )
        for record in norms
    ]
    show_table(console, ("norm", "kind", "C", "dialect", "statistics"), cells)


def _weight_norm_table(console: Console, records: Sequence[WeightNormRecord]) -> None:
    if not records:
        return
    width = path_width(console, [record.path for record in records])
    console.print()
    cells = [(path_cell(each.path, width), Text(one_line(each.layout)), Text(_scope(each))) for each in records]
    show_table(console, ("weight", "stored as", "one norm for"), cells)


def _scope(record: WeightNormRecord) -> str:
    own = "the whole weight" if record.axis == -1 else f"each index of axis {record.axis}"
    return f"{own}, p = {record.p:g}"


def _operators(console: Console, operators: Operators) -> None:
    before, after = sum(operators.before.values()), sum(operators.after.values())
    changed = changed_operators(operators.before, operators.after)
    show_title(console, "operators", f"{before} → {after}" if changed else f"{before}", changed)


def _health(console: Console, norms: Sequence[NormRecord]) -> None:
    _by_path(console, "statistics", [(record.path, finding) for record in norms for finding in record.health])


def _warnings(console: Console, warnings: Sequence[FoldWarning]) -> None:
    _by_path(console, "warnings", [(each.path or each.node, each.message) for each in warnings])


def _by_path(console: Console, title: str, findings: Sequence[tuple[str, str]]) -> None:
    if not findings:
        return
    section(console, title, style="bold yellow")
    for words in dict.fromkeys(words for _, words in findings):
        paths = [one_line(path) for path, each in findings if each == words]
        text = Text.assemble((shortened(paths, 4), "bold"), f": {one_line(words)}")
        show(console, Padding(text, (0, 0, 0, 2)))


def _timings(console: Console, seconds: Sequence[tuple[str, float]]) -> None:
    if seconds:
        stages = ", ".join(f"{stage} {each:.1f}" for stage, each in seconds)
        show_title(console, "seconds", f"{sum(each for _, each in seconds):.1f}", stages)


def _files(console: Console, files: Sequence[Path]) -> None:
    for position, path in enumerate(files):
        words = Text.assemble((f"{'' if position else 'wrote':<11}", "bold"), f"{one_line(path)}  ({size(path)})")
        console.print(words, soft_wrap=True)


def _fold_summary(folding: Folding) -> Text:
    if not folding.changed:
        tail = "nothing can be folded" + ("; the output is a byte-identical copy" if folding.output else "")
        return Text.assemble(("UNCHANGED", "bold yellow"), f"  {tail}")
    return Text.assemble(("FOLDED", "bold green"), f"  {_fate_words(folding.outcomes, '')}")


def _fates(console: Console, outcomes: Sequence[NormOutcome], folded: str) -> None:
    """ "13 of 13 norms folded"."""
    if outcomes:
        show_title(console, "norms", _fate_words(outcomes, f" norms {folded}"))


def _fate_words(outcomes: Sequence[NormOutcome], folded: str) -> str:
    fates = [outcome.fate for outcome in outcomes]
    others = [f", {fates.count(fate)} {fate}" for fate in ("lowered", "live") if fate in fates]
    return f"{fates.count('folded')} of {len(fates)}{folded}{''.join(others)}"


def _name(path: Path) -> str:
    return one_line(path.name or path)
