"""Figures of a page, drawn by matplotlib as SVG: once in light and once in dark colours.

They show what the page's tables hold too, so without matplotlib a page lacks the pictures and nothing else.
"""

from __future__ import annotations

import base64
import importlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from normexport.reports.bench_plot import plain
from normexport.reports.page.values import Compared, Document, Measured, Parity, Reduced
from normexport.reports.words import case_name
from normexport.verdicts import Verdict

_SIZE = (4.9, 2.9)  # inches at 72 points: letters stay readable where a phone shows 350 points
_FEW = 5  # points that have room for words below
_SENSITIVE = 20
_LABEL = 26  # characters that fit beside a bar
_TICKS = 5  # of an axis whose numbers may have six digits


@dataclass(frozen=True)
class Colours:
    """Colours of a figure; they meet the contrast that the page's own colours meet."""

    ink: str
    grid: str
    main: str
    other: str
    bad: str


LIGHT = Colours("#1b1f24", "#d0d7de", "#0550ae", "#7d4e00", "#b3141d")
DARK = Colours("#e6edf3", "#3d444d", "#79b8ff", "#e8b339", "#ff8a85")

Draw = Callable[[Any, Colours], None]


@dataclass(frozen=True)
class Plot:
    """A figure: what it shows in words, and its picture as data URIs."""

    section: str
    caption: str
    light: str
    dark: str


def can_plot() -> bool:
    """Whether matplotlib is installed, and can be imported beside what else is: a page is no reason to fail."""
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError:
        return False
    return True


def draw_plots(document: Document) -> tuple[Plot, ...]:
    """All figures that a result has numbers for; none without matplotlib."""
    if not can_plot():
        return ()
    return tuple(_plot(section, caption, draw, size) for section, caption, draw, size in _figures(document))


def _figures(document: Document) -> Iterator[tuple[str, str, Draw, tuple[float, float]]]:
    if document.parity is not None:
        yield from _of_parity(document.parity)
    if document.precision is not None:
        yield from _of_precision(document.precision)
    if document.measured is not None and document.measured.cases:
        yield from _of_bench(document.measured)


def _of_parity(parity: Parity) -> Iterator[tuple[str, str, Draw, tuple[float, float]]]:
    for title, rows in (("module boundaries", parity.layers), ("outputs", parity.rows)):
        if known := [row for row in rows if row.error is not None or _is_out(row)]:
            caption = f"Error against budget of {title}"
            caption += (
                ", from the first module to the last." if rows is parity.layers else ", under each set of inputs."
            )
            words = _input_words(known) if rows is parity.rows else []
            yield "parity", caption, _errors(known, title, words), _SIZE
    if levels := [each for each in parity.boundaries if each.snr_db is not None]:
        limit = parity.min_snr

        def draw(axes: Any, colours: Colours) -> None:
            axes.plot(range(1, len(levels) + 1), [each.snr_db for each in levels], color=colours.main, marker=".")
            if limit is not None:
                axes.axhline(limit, color=colours.bad, linestyle="--")
                axes.annotate("needed of an output", (1, limit), color=colours.bad, fontsize=8, va="bottom")
            axes.set_xlabel("module boundary, in order of execution")
            axes.set_ylabel("SNR, dB")

        yield "parity", "SNR along the depth of the network.", draw, _SIZE


def _input_words(rows: Sequence[Compared]) -> list[str]:
    return [f"{row.tensor}\n{row.inputs.replace(', ', chr(10))}" for row in rows] if len(rows) <= _FEW else []


def _errors(rows: Sequence[Compared], title: str, words: Sequence[str]) -> Draw:
    def draw(axes: Any, colours: Colours) -> None:
        from matplotlib.ticker import LogFormatter, MaxNLocator

        places = range(1, len(rows) + 1)
        least = min((value for row in rows for value in (row.error, row.budget) if value), default=1e-12) / 3
        budgets = [math.nan if row.error is None else max(row.budget or 0.0, least) for row in rows]
        errors = [math.nan if row.error is None else min(max(row.error, least), 1e30) for row in rows]
        # NaN, or another shape: no number, and drawn above all that are.
        above = 10 * max((value for value in (*budgets, *errors) if value == value), default=1.0)
        line = "none" if words else "-"
        parted = bool(words) or any(budget != budget for budget in budgets)  # a line would show no point between gaps
        axes.plot(
            places,
            budgets,
            linestyle=line,
            marker="_" if parted else "",
            markersize=12,
            color=colours.other,
            label="budget",
        )
        axes.plot(places, errors, linestyle=line, marker=".", color=colours.main, label="error")
        judged = list(zip(places, errors, rows, strict=True))
        out = [(place, error) for place, error, row in judged if _is_out(row) and error == error]
        wrong = [(place, above) for place, error, row in judged if _is_out(row) and error != error]
        for points, marker, label in ((out, "X", "out of budget"), (wrong, "^", "NaN, or another shape")):
            if points:
                axes.plot(*zip(*points, strict=True), marker, color=colours.bad, markersize=8, label=label)
        axes.set_yscale("log")
        # Not the usual formulas: these take three times as long to draw.
        axes.yaxis.set_major_formatter(LogFormatter())
        axes.yaxis.set_minor_formatter(LogFormatter())
        axes.tick_params(axis="y", which="minor", labelsize=7)
        axes.set_ylabel("error")
        if words:
            axes.set_xlim(0.5, len(rows) + 0.5)
            axes.set_xticks(
                list(places), ["\n".join(plain(line) for line in word.split("\n")) for word in words], fontsize=7
            )
        else:
            axes.set_xlabel(f"{title}, in order")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=8, frameon=False, labelcolor=colours.ink)

    return draw


def _is_out(row: Compared) -> bool:
    return row.verdict is Verdict.FAILED


def _of_precision(reduced: Reduced) -> Iterator[tuple[str, str, Draw, tuple[float, float]]]:
    steps = [step for step in reduced.curve if step.snr_db is not None]
    if len(steps) > 1:

        def curve(axes: Any, colours: Colours) -> None:
            counts = [len(step.excluded) for step in steps]
            axes.plot(counts, [step.snr_db for step in steps], marker="o", color=colours.main)
            axes.set_xlabel("modules left out of int8")
            axes.set_ylabel("SNR, dB (circles)", color=colours.main)
            right = axes.twinx()
            _style(right, colours)
            right.plot(counts, [step.latency_ms for step in steps], marker="s", linestyle="--", color=colours.other)
            right.set_ylabel("latency, ms (squares)", color=colours.other)

        yield "curve", "What leaving modules out of int8 gives, and what it costs.", curve, _SIZE
    alone = sorted((each for each in reduced.sensitivity if each[1] is not None), key=lambda each: each[1] or 0.0)
    if alone:
        shown = alone[:_SENSITIVE]

        def sensitive(axes: Any, colours: Colours) -> None:
            axes.figure.subplots_adjust(left=0.42)
            axes.barh(range(len(shown)), [each[1] or 0.0 for each in shown], color=colours.main)
            axes.set_yticks(range(len(shown)), [plain(_shown_end(each[0])) for each in shown], fontsize=7)
            axes.invert_yaxis()
            axes.set_xlabel("SNR with this module alone in int8, dB")

        yield "sensitivity", "The modules that int8 hurts most.", sensitive, (4.9, 0.9 + 0.19 * len(shown))


def _shown_end(path: str) -> str:
    """The end of a long path, which tells more than its start."""
    return path if len(path) <= _LABEL else f"…{path[1 - _LABEL :]}"


def _of_bench(measured: Measured) -> Iterator[tuple[str, str, Draw, tuple[float, float]]]:
    height = 1.0 + 0.35 * len(measured.cases)
    names = [case_name(number) for number in range(len(measured.cases))]

    def latencies(axes: Any, colours: Colours) -> None:
        from matplotlib.ticker import MaxNLocator

        for row, case in enumerate(measured.cases):
            known = [value * 1e3 for value in case.latencies if value is not None]
            if known:
                axes.plot([known[0], known[-1]], [row, row], color=colours.main, linewidth=2)
                axes.plot(known, [row] * len(known), "|", color=colours.ink, markersize=9)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(MaxNLocator(_TICKS))
        axes.set_xlabel("latency, ms: p50, p90 and p99")

    yield "bench", "Latency of each case.", latencies, (4.9, height)
    ratios = [each for each in measured.ratios if each.ratio is not None]
    if not ratios:
        return

    def compared(axes: Any, colours: Colours) -> None:
        least = measured.least_difference
        axes.axvspan(1 / (1 + least), 1 + least, color=colours.grid)
        for row, each in enumerate(ratios):
            if each.low is not None and each.high is not None:
                axes.plot([each.low, each.high], [row, row], color=colours.main, linewidth=3)
            axes.plot([each.ratio], [row], "D" if each.differs else "o", color=colours.ink)
        words = [f"{names[each.case]} / {names[each.base]}" for each in ratios]
        axes.set_yticks(range(len(ratios)), words)
        axes.set_ylim(len(ratios) - 0.5, -0.5)
        axes.set_xlabel("time as a multiple of the other's; diamonds differ")

    yield (
        "bench",
        "Ratios with their intervals; inside the band is no difference.",
        compared,
        (4.9, 1.1 + 0.35 * len(ratios)),
    )


def _plot(section: str, caption: str, draw: Draw, size: tuple[float, float]) -> Plot:
    """Drawn once, in light colours, and the dark ones put in their place: drawing is what takes the time."""
    svg = _svg(draw, size)
    dark = svg
    for own, other in zip(astuple(LIGHT), astuple(DARK), strict=True):
        dark = dark.replace(own, other)
    return Plot(section, caption, _uri(svg), _uri(dark))


def _uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _svg(draw: Draw, size: tuple[float, float]) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    # Text stays text, in the reader's own letters; salt and the missing date make the same bytes of the same numbers.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "normexport", "font.size": 9}):
        figure = Figure(figsize=size)
        # Margins by hand: to have them computed takes as long as drawing.
        figure.subplots_adjust(left=0.15, right=0.87, top=1 - 0.12 / size[1], bottom=0.6 / size[1])
        axes = figure.subplots()
        _style(axes, LIGHT)
        draw(axes, LIGHT)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return stream.getvalue()


def _style(axes: Any, colours: Colours) -> None:
    for side, spine in axes.spines.items():
        spine.set_color(colours.grid)
        spine.set_visible(side in ("left", "bottom"))
    axes.tick_params(colors=colours.ink, which="both")
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(colours.ink)
    axes.set_axisbelow(True)
    axes.grid(color=colours.grid, linewidth=0.5)
