"""What a lower precision cost, in words and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from normexport.dtypes import FLOAT32, INT8, SHORT
from normexport.precision.config import SHARES
from normexport.reports.data_lines import show_calibration_data, show_data
from normexport.reports.layout import (
    last_line,
    path_cell,
    path_width,
    section,
    show_table,
    show_title,
    verdict_words,
    words_line,
)
from normexport.reports.words import count
from normexport.text import one_line, shortened

if TYPE_CHECKING:
    from normexport.precision import Accuracy, Precision
    from normexport.precision.int8.edits import Int8Edit
    from normexport.precision.int8.placement import Placement
    from normexport.precision.snr import OutputError
    from normexport.verdicts import Judgement

_REASONS = 3  # shown; JSON has all


def show_precision(console: Console, precision: Precision) -> None:
    """Calibration, what stayed in float32 and why, sensitivities, the trade-off, and the verdict as the last line."""
    section(console, f"precision {precision.dtype}")
    for note in precision.notes:
        words_line(console, f"note: {note}")
    for loss in precision.losses:
        words_line(console, f"{loss.path}: {loss.message}")
    if precision.calibration is not None:
        known = precision.calibration
        samples = f" on {count(known['samples'], 'sample')}" if known["samples"] else ", without data"
        words_line(console, f"calibrated by {known['method']}{samples}")
        show_calibration_data(console, known["folder"])
        words_line(console, _stored(precision))
    for norm in precision.norms:
        if norm.reason:
            words_line(console, f"{norm.path or norm.node} keeps float32 statistics: {norm.reason}")
    _show_edits(console, precision)
    _show_kept(console, precision)
    _sensitivity(console, precision)
    _curve(console, precision)
    if precision.placement is not None:
        _placement(console, precision.placement)
    if precision.accuracy is not None:
        _outputs(console, precision.accuracy)
    console.print()
    last_line(console, verdict_line("PRECISION", precision.judgement, _verdict(precision)))


def _stored(precision: Precision) -> str:
    """ "12 nodes on integers, the rest in float16"."""
    kind = "integers" if precision.dtype == INT8 else SHORT.get(precision.dtype, precision.dtype)
    rest = "" if precision.remainder == FLOAT32.name else f", the rest in {precision.remainder}"
    return f"{count(precision.integer_nodes, 'node')} on {kind}{rest}"


def show_accuracy(console: Console, accuracy: Accuracy) -> None:
    """What `evaluate` found."""
    show_title(console, "model", one_line(accuracy.model), count(accuracy.samples, "sample"))
    show_data(console, accuracy.data)
    for line in accuracy.skipped:
        words_line(console, f"left out: {line}")
    words = accuracy_words(accuracy)
    if words:
        show_title(console, "accuracy", *words)
    show_title(console, "speed", f"{accuracy.samples_per_second:.4g} samples/s")
    _outputs(console, accuracy)
    console.print()
    if accuracy.judgement is None:
        last_line(console, Text.assemble(("MEASURED", "bold"), f"  {one_line(', '.join(words))}"))
    else:
        last_line(console, verdict_line("EVALUATION", accuracy.judgement, ", ".join(words)))


def verdict_line(what: str, judgement: Judgement, words: str) -> Text:
    """ "PRECISION FAILED  logits: SNR 4.0 dB, 25 dB needed; int8: ...": the reasons first, where there are any."""
    told = list(judgement.reasons[:_REASONS])
    if (more := len(judgement.reasons) - _REASONS) > 0:
        told.append(f"and {more} more")
    return Text.assemble(
        verdict_words(judgement, what), f"  {one_line('; '.join([*told, *([words] if words else [])]))}"
    )


def accuracy_words(accuracy: Accuracy) -> list[str]:
    """ "97.1 % (95 % interval 95.9 to 98.0)", "drop 0.0 points", "agrees in 99.9 %", "SNR 37.0 dB": what is known."""
    words, share = [], accuracy.metric in SHARES
    if accuracy.accuracy is not None and accuracy.interval is not None:
        low, high = accuracy.interval
        named = "" if accuracy.metric == "top1" else f"{accuracy.metric} "
        words.append(f"{named}{accuracy.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})")
    elif accuracy.value is not None:
        words.append(f"{accuracy.metric} {accuracy.value:.2%}" if share else f"{accuracy.metric} {accuracy.value:.4g}")
    if accuracy.drop is not None:
        words.append(f"drop {accuracy.drop:.2f} points" if share else f"worse by {accuracy.drop:.4g}")
    if accuracy.agreement is not None:
        words.append(f"agrees with the reference in {accuracy.agreement:.2%}")
    if accuracy.snr_db is not None:
        words.append(f"SNR {accuracy.snr_db:.1f} dB")
    return words


def _verdict(precision: Precision) -> str:
    words = accuracy_words(precision.accuracy) if precision.accuracy is not None else []
    rest = precision.remainder
    kept = f"{count(len(precision.kept), 'module')} in {rest}" if precision.kept else f"nothing kept in {rest}"
    return f"{precision.dtype}: {', '.join([*words, kept])}"


def _outputs(console: Console, accuracy: Accuracy) -> None:
    """Every output where there are several, or where a channel is what counts."""
    shown = accuracy.outputs
    if len(shown) > 1 or any(each.channel_db is not None and each.level != each.snr_db for each in shown):
        show_output_errors(console, shown)


def show_output_errors(console: Console, shown: Sequence[OutputError]) -> None:
    """The SNR of every output and of its worst channel."""
    console.print()
    cells = [
        (
            Text(one_line(each.name)),
            Text("" if each.snr_db is None else f"{each.snr_db:.1f} dB"),
            Text("" if each.channel_db is None else f"{each.channel_db:.1f} dB at {each.channel}"),
            Text("" if each.agreement is None else f"{each.agreement:.2%}"),
        )
        for each in shown
    ]
    show_table(console, ("output", "SNR", "worst channel", "agreement"), cells)


def _show_edits(console: Console, precision: Precision) -> None:
    """What was tried to make int8 better; of the reasons the first, JSON has all."""
    for edit in precision.edits:
        words_line(console, edit_words(edit))


def edit_words(edit: Int8Edit) -> str:
    """ "biases corrected: 12 layers, 31.0 -> 33.5 dB"; of what was not kept the first reason."""
    words = [count(edit.layers, "layer")] if edit.layers else []
    if edit.before_db is not None and edit.after_db is not None:
        compared = f" ({edit.compared})" if edit.compared else ""
        words.append(f"{edit.before_db:.1f} -> {edit.after_db:.1f} dB{compared}")
    if not edit.kept:
        words += edit.reasons[:1]
    return f"{edit.name if edit.kept else f'not {edit.name}'}: {', '.join(words)}"


def _show_kept(console: Console, precision: Precision) -> None:
    tables = {f"kept in {precision.remainder}": precision.kept, f"of that in {FLOAT32.name}": precision.widened}
    for title, modules in tables.items():
        if not modules:
            continue
        width = path_width(console, [each.path for each in modules])
        console.print()
        cells = [(path_cell(each.path, width), Text(one_line(each.reason))) for each in modules]
        show_table(console, (title, "why"), cells)


def _sensitivity(console: Console, precision: Precision) -> None:
    if not precision.sensitivity:
        return
    width = path_width(console, [each.path for each in precision.sensitivity])
    console.print()
    cells = [
        (path_cell(each.path, width), Text(f"{each.alone:.1f} dB"), Text(f"{each.without:.1f} dB"))
        for each in precision.sensitivity
    ]
    show_table(console, ("module", "alone in int8", "all but it in int8"), cells)


def _curve(console: Console, precision: Precision) -> None:
    if len(precision.curve) < 2:
        return
    console.print()
    cells = [
        (
            Text(str(len(step.excluded))),
            Text(f"{step.snr_db:.1f} dB"),
            Text("" if step.drop is None else f"{step.drop:.2f}"),
            Text(f"{step.latency_ms:.2f} ms"),
            Text(one_line(shortened(step.excluded[-1:]))),
        )
        for step in precision.curve
    ]
    show_table(console, ("excluded", "SNR", "drop", "latency", "last excluded"), cells)


def _placement(console: Console, placement: Placement) -> None:
    """Placements from the fastest on, beside int8 everywhere, and which one it is."""
    console.print()
    words_line(
        console,
        f"int8 placed for {placement.runtime}: {count(placement.samples, 'sample')} a run, "
        f"{count(placement.threads, 'thread')}; float32 takes {placement.float32:.2f} times as long as int8 everywhere",
    )
    cells = [
        (
            Text("int8 everywhere" if not point.excluded else count(len(point.excluded), "module") + " in float32"),
            Text("" if index == 0 else f"{point.ratio:.2f} ({point.low:.2f} to {point.high:.2f})"),
            Text(f"{point.snr_db:.1f} dB"),
            Text("" if point.drop is None else f"{point.drop:.2f}"),
            Text("kept" if index == placement.chosen else "" if point.holds else "beyond the limit"),
        )
        for index, point in enumerate(placement.points)
    ]
    show_table(console, ("placement", "time", "SNR", "drop", ""), cells)
