"""A measurement, for people: a row for each case, a row for each comparison."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.text import Text

from normexport.reports.layout import section, show_table, show_title, words_line
from normexport.reports.words import case_name
from normexport.text import one_line
from normexport.timing.intervals import CONFIDENCE, LEAST

if TYPE_CHECKING:
    from normexport.timing.result import Benchmark, Ratio, Timing


def show_benchmark(console: Console, result: Benchmark) -> None:
    """Cases with their latencies, what opening them takes, how each compares with the first that it took turns with."""
    section(console, "latency of a call")
    words_line(console, f"on {'real' if result.real else 'random'} inputs; {one_line(result.machine['processor'])}")
    console.print()
    for number, path in enumerate(_files(result), 1):
        show_title(console, f"file {number}", one_line(path))
    console.print()
    asked = result.timings[0].percentiles if result.timings else ()
    columns = ("case", "file", "runtime", "threads", "batch", *(f"p{each:g}" for each in asked), "samples/s")
    show_table(console, columns, [_latencies(number, result) for number in range(len(result.timings))])
    _show_averages(console, result)
    section(console, "opening")
    show_table(
        console,
        ("case", "load", "first run", "memory at most"),
        [_opening(number, each) for number, each in enumerate(result.timings)],
    )
    if result.ratios:
        section(console, "compared")
        rows = [_ratio(each) for each in result.ratios]
        show_table(console, ("case", "against", "time", "interval", "which says"), rows)
        share = f"{100 * CONFIDENCE:.0f} % of measurements"
        words_line(
            console, f"in {share} all intervals hold the true ratio; less than {100 * LEAST:.0f} % is no difference"
        )
        if any(each.by_processor for each in result.ratios):
            words_line(console, "with one thread the time compared is that of the processor, which others take none of")
    for note in result.notes:
        words_line(console, f"note: {note}")


def _show_averages(console: Console, result: Benchmark) -> None:
    """The means of some calls one after another, where they are asked for: how steady the machine was meanwhile."""
    asked = [(number, each) for number, each in enumerate(result.timings) if each.average_of is not None]
    if not asked:
        return
    section(console, f"means of {asked[0][1].average_of} calls one after another")
    rows = []
    for number, each in asked:
        means = each.averages
        ends = (seconds(float(edge(means))) if len(means) else "" for edge in (np.min, np.median, np.max))
        rows.append((_name(number), Text(str(len(means))), *map(Text, ends)))
    show_table(console, ("case", "means", "least", "median", "most"), rows)


def _files(result: Benchmark) -> list[str]:
    return list(dict.fromkeys(timing.file for timing in result.timings))


def _name(number: int) -> Text:
    return Text(case_name(number), style="bold")


def _latencies(number: int, result: Benchmark) -> tuple[Text, ...]:
    timing = result.timings[number]
    cells = (
        str(_files(result).index(timing.file) + 1),
        timing.runtime,
        str(timing.threads or "its own"),
        str(timing.batch or "fixed"),
        *(seconds(timing.latency(percent)) for percent in timing.percentiles),
        f"{timing.throughput:,.3g}" if timing.throughput < 1e3 else f"{timing.throughput:,.0f}",
    )
    return (_name(number), *(Text(one_line(cell)) for cell in cells))


def _opening(number: int, timing: Timing) -> tuple[Text, ...]:
    memory = "" if timing.memory is None else f"{timing.memory / 1e6:.0f} MB"
    return (_name(number), *map(Text, (seconds(timing.load), seconds(timing.first), memory)))


def _ratio(ratio: Ratio) -> tuple[Text, ...]:
    interval = ratio.interval
    known = math.isfinite(interval.half_width)
    style = "" if not interval.differs else "bold red" if interval.ratio > 1 else "bold green"
    return (
        _name(ratio.case),
        _name(ratio.base),
        Text(f"{interval.ratio:.3f}x"),
        Text(f"{interval.low:.3f} to {interval.high:.3f}" if known else "too few openings"),
        Text(ratio.words, style=style),
    )


def seconds(value: float) -> str:
    """ "1.23 ms", "45.6 us", "2.1 s"."""
    if not math.isfinite(value):
        return ""
    unit, size = next((each for each in (("s", 1.0), ("ms", 1e-3)) if value >= each[1]), ("us", 1e-6))
    return f"{value / size:.3g} {unit}"
