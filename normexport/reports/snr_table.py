"""The judgement of an int8 file, for people: outputs, module boundaries, and the verdict as the last line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from normexport.dtypes import SHORT
from normexport.reports.data_lines import show_data
from normexport.reports.layout import last_line, path_cell, path_width, section, show_table, words_line
from normexport.reports.parity_table import show_parity
from normexport.reports.precision_table import show_output_errors, verdict_line
from normexport.reports.words import count
from normexport.text import one_line

if TYPE_CHECKING:
    from normexport.precision.snr_parity import Boundary, SnrReport
    from normexport.proof import ParityReport


def show_any_parity(console: Console, report: ParityReport | SnrReport, every_layer: bool = False) -> None:
    """Either kind of judgement."""
    from normexport.precision.snr_parity import SnrReport

    if isinstance(report, SnrReport):
        show_snr_parity(console, report, every_layer)
    else:
        show_parity(console, report, every_layer)


def show_snr_parity(console: Console, report: SnrReport, every_layer: bool = False) -> None:
    """Every output, the boundaries (all, or the first below the limit), the verdict."""
    section(console, f"SNR of {report.candidate} ({SHORT[report.precision]}) against {report.reference}")
    samples = count(report.samples, "real sample" if report.real else "random sample")
    words_line(console, f"about each element's mean over {samples}; {report.min_snr:g} dB needed")
    show_data(console, report.data)
    for line in report.skipped:
        words_line(console, f"left out: {line}")
    show_output_errors(console, report.outputs)
    if every_layer and report.layers:
        section(console, "module boundaries")
        _layer_table(console, report.layers)
    first = report.first_divergence
    if first is not None:
        words_line(console, f"first boundary below the limit: {first.path} ({first.type}), {_decibels(first)}")
    console.print()
    last_line(console, verdict_line("PARITY", report.judgement, ""))


def _layer_table(console: Console, layers: Sequence[Boundary]) -> None:
    width = path_width(console, [layer.path for layer in layers])
    cells = [(path_cell(layer.path, width), Text(one_line(layer.type)), Text(_decibels(layer))) for layer in layers]
    show_table(console, ("module", "class", "SNR"), cells)


def _decibels(layer: Boundary) -> str:
    if layer.error.snr_db is not None:
        return f"{layer.error.snr_db:.1f} dB"
    return "; ".join(layer.error.judgement.reasons) or "does not vary, equal"
