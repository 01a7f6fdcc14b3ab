"""Accuracy against time of every placement of int8 that was tried, as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from normexport.io.atomic import replacing
from normexport.reports.bench_plot import require_plots
from normexport.reports.words import count

if TYPE_CHECKING:
    from normexport.precision.int8.placement import Placement


def write_placement_plot(placement: Placement, path: Path) -> None:
    """Draw the placements into a file, in the format of its suffix: SNR over time, what was kept filled.

    Raises:
        UsageError: it can't be written, or the suffix says no format.
        MissingComponent: matplotlib is not installed.
    """
    require_plots(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for index, point in enumerate(placement.points):
        kept = index == placement.chosen
        colour = "tab:blue" if point.holds else "tab:gray"
        if not math.isfinite(point.snr_db):
            continue
        if math.isfinite(point.high):
            axes.plot([point.low, point.high], [point.snr_db] * 2, color=colour, linewidth=2)
        axes.plot([point.ratio], [point.snr_db], "o", color=colour, fillstyle="full" if kept else "none")
        words = f"{count(len(point.excluded), 'module')} in float32" if point.excluded else "int8 everywhere"
        axes.annotate(
            f"{words}{', kept' if kept else ''}",
            (point.ratio, point.snr_db),
            (4, 5),
            textcoords="offset points",
            fontsize=8,
        )
    axes.axvline(placement.float32, color="tab:red", linestyle="--", label="float32")
    axes.set_xlabel(f"time on {placement.runtime}, as a multiple of int8 everywhere")
    axes.set_ylabel("SNR of the worst output, dB")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lower()[1:])
