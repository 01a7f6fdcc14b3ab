"""Latencies as a picture: of every case the shares of its calls within a time, and the ratios with their intervals."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from normexport.errors import MissingComponent, UsageError
from normexport.io.atomic import replacing
from normexport.text import printable
from normexport.timing.intervals import LEAST

if TYPE_CHECKING:
    from normexport.timing.result import Benchmark

_FORMATS = (".svg", ".png", ".pdf")
_POINTS = 400  # of a curve: a file of 100,000 calls is no larger than one of 400


def require_plots(path: Path) -> None:
    """Refuse to go on where no plot can be drawn; nothing is imported.

    Raises:
        UsageError: the file's name says no format.
        MissingComponent: matplotlib is not installed.
    """
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(str(path), "has no format that plots are drawn in", f"name it {path.stem}.svg, .png or .pdf")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingComponent.of("matplotlib", "plot")


def write_plot(result: Benchmark, path: Path) -> None:
    """Draw a measurement into a file, in the format of its suffix.

    Raises:
        UsageError: it can't be written.
        MissingComponent: matplotlib is not installed.
    """
    require_plots(path)
    from matplotlib.figure import Figure

    rows = max(1, len(result.ratios))
    figure = Figure(figsize=(8, 4 + 0.4 * rows), layout="constrained")
    above, below = (
        figure.subplots(2, 1, height_ratios=[3, 0.6 + 0.3 * rows]) if result.ratios else (figure.subplots(), None)
    )
    _draw_latencies(above, result)
    if below is not None:
        _draw_ratios(below, result)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lower()[1:])


def _draw_latencies(axes: Any, result: Benchmark) -> None:
    shares = np.linspace(0, 100, _POINTS)
    for timing in result.timings:
        if len(timing.latencies):
            axes.plot(np.percentile(timing.latencies, shares) * 1e3, shares, label=plain(timing.words))
    axes.set_xscale("log")
    axes.set_xlabel("latency, ms")
    axes.set_ylabel("calls within it, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _draw_ratios(axes: Any, result: Benchmark) -> None:
    for row, each in enumerate(result.ratios):
        low, high, ratio = each.interval.low, each.interval.high, each.interval.ratio
        if math.isfinite(each.interval.half_width):
            axes.plot([low, high], [row, row], color="tab:red" if each.interval.differs else "tab:gray", linewidth=3)
        axes.plot([ratio], [row], "o", color="black")
    axes.axvspan(1 / (1 + LEAST), 1 + LEAST, alpha=0.2, color="tab:green")
    axes.set_yticks(range(len(result.ratios)), [plain(result.timings[each.case].words) for each in result.ratios])
    axes.set_ylim(len(result.ratios) - 0.5, -0.5)
    axes.set_xlabel("time, as a multiple of the first's")


def plain(text: str) -> str:
    """Without what matplotlib takes for formulas; it leaves names with an underscore in front out of a legend."""
    told = printable(text, 60).replace("$", r"\$")
    return f" {told}" if told.startswith("_") else told
