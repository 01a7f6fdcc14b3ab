"""Which modules int8 hurts, and the fewest to leave in float32 so that a limit holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from normexport.precision.int8.corrections import NONE, Corrections
from normexport.precision.int8.fitting import Fits
from normexport.precision.int8.judging import level_on
from normexport.precision.int8.quantise import Quantized, modules_of, quantize
from normexport.precision.int8.ranges import Range
from normexport.precision.int8.storage import PLAIN, Storage
from normexport.precision.runs import Data, first_run
from normexport.progress import counted, doing
from normexport.runtime import OnnxRuntime, Opener, Runtime
from normexport.runtime.computed_by import computed_by
from normexport.runtime.elsewhere import as_bytes, from_bytes, require_same
from normexport.workers import Where, run_in_order


@dataclass(frozen=True)
class Sensitivity:
    """One module: SNR in dB of the worst output with it alone in int8, and with all but it in int8."""

    path: str
    alone: float
    without: float


@dataclass(frozen=True)
class TradeOff:
    """A point of the trade-off: modules left in float32 so far; what that gives.

    SNR in dB of the worst output and accuracy drop in percentage points (None without labels) against float32;
    milliseconds per batch.
    """

    excluded: tuple[str, ...]
    snr_db: float
    drop: float | None
    latency_ms: float


@dataclass(frozen=True)
class _Way:
    """How models are quantised, whatever is left out of them."""

    symmetric: bool
    storage: Storage

    def quantised(
        self, model: ir.Model, ranges: Mapping[str, Range], excluded: Collection[str], corrections: Corrections
    ) -> Quantized:
        return quantize(model, ranges, exclude=excluded, corrections=corrections, **vars(self))


#: Modules left out, and the corrections of the others.
_Left = tuple[tuple[str, ...], Corrections]


NO_FITS = Fits()
#: Judges an int8 model and the runtime that has it open: (SNR in dB, accuracy drop in points or None, whether that is
#: good enough).
Judge = Callable[[ir.Model, Runtime], tuple[float, float | None, bool]]
_TIMED_FOR = 1.0  # seconds, that a model is timed for at most: a detector takes as much for a few images


def sensitivities(
    model: ir.Model,
    ranges: Mapping[str, Range],
    data: Data,
    *,
    symmetric: bool = False,
    fits: Fits = NO_FITS,
    storage: Storage = PLAIN,
    where: Where | None = None,
) -> tuple[Sensitivity, ...]:
    """Every module's part in the error, in graph order, on a few samples.

    Args:
        fits: the corrections of what is in int8.
        where: which processes measure modules, each by one thread; None: this one, by all threads.
    """
    modules = modules_of(model, storage)
    alone = [(tuple(other for other in modules if other != each), fits.alone) for each in modules]
    without = [((each,), fits.without((each,))) for each in counted("fitting without a module", modules, len(modules))]
    job = _Job(model, ranges, data, _Way(symmetric, storage))
    levels = _measured(job, [*alone, *without], where)
    found = list(counted("sensitivity of modules", levels, 2 * len(modules)))
    rows = zip(modules, found[: len(modules)], found[len(modules) :], strict=True)
    return tuple(Sensitivity(*row) for row in rows)


def rescue(
    model: ir.Model,
    ranges: Mapping[str, Range],
    data: Data,
    judge: Judge,
    *,
    ranked_on: Data | None = None,
    symmetric: bool = False,
    exclude: Sequence[str] = (),
    fits: Fits = NO_FITS,
    storage: Storage = PLAIN,
    on: Opener = OnnxRuntime,
    held: Callable[[ir.Model], ir.Model] = lambda model: model,
    where: Where | None = None,
) -> tuple[Quantized, tuple[TradeOff, ...]]:
    """The int8 model that is good enough with the fewest modules excluded, worst first, and the way there.

    Modules are taken in the order of their SNR alone: the first four one by one, then half as many again at each step,
    and where that is good enough at last, the fewest are found by bisection. Where not even float32 everywhere is, the
    last model tried is returned: the caller judges.

    Args:
        data: a few samples on which models are timed.
        ranked_on: those on which modules are ranked, each in a run of its own; None: the same.
        exclude: modules left out from the start.
        fits: the corrections of the layers that are not.
        storage: the type of eight bits.
        on: the runtime that models are judged and timed on.
        held: what is judged of a quantised model, where its remainder is not float32; that itself is timed.
        where: which processes rank modules, see `sensitivities`.
    """
    way, steps = _Way(symmetric, storage), dict[int, TradeOff]()
    order: list[str] = []

    def try_first(count: int) -> tuple[Quantized, bool]:
        excluded = [*exclude, *order[:count]]
        words = f"judging it with {len(excluded)} modules left out" if excluded else "judging all modules in eight bits"
        with doing(words):
            quantised = way.quantised(model, ranges, excluded, fits.without(excluded))
            candidate = held(quantised.model)
            runtime = on(candidate)
            snr, drop, good = judge(candidate, runtime)
            runtime = runtime if candidate is quantised.model else on(quantised.model)
            steps[count] = TradeOff(tuple(excluded), snr, drop, latency_ms(runtime, data))
        return quantised, good

    best, holds = try_first(0)
    if holds:
        return best, tuple(steps.values())
    job = _Job(model, ranges, data if ranked_on is None else ranked_on, way)
    order += _worst_first(job, exclude, fits.alone, where)
    short = enough = 0  # as many do not suffice, as many do
    while not holds and short < len(order):
        short, enough = enough, min(max(enough + 1, enough * 3 // 2), len(order))
        best, holds = try_first(enough)
        short = short if holds else enough
    while holds and enough - short > 1:
        middle = (short + enough) // 2
        candidate, suffices = try_first(middle)
        if suffices:
            best, enough = candidate, middle
        else:
            short = middle
    return best, tuple(steps[count] for count in sorted(steps))


def _worst_first(job: _Job, exclude: Collection[str], corrections: Corrections, where: Where | None) -> list[str]:
    """Modules by SNR with one alone in int8: models of few pairs, which take a fifth of the time of whole ones."""
    assert isinstance(job.model, ir.Model)
    modules = modules_of(job.model, job.way.storage)
    ranked = [each for each in modules if each not in exclude]
    others = [(tuple(other for other in modules if other != each), corrections) for each in ranked]
    levels = counted("ranking modules by their error", _measured(job, others, where), len(ranked))
    alone = dict(zip(ranked, levels, strict=True))
    return sorted(alone, key=lambda path: alone[path])


@dataclass(frozen=True)
class _Job:
    """What is measured with modules left out; the model as bytes where it travels."""

    model: ir.Model | bytes
    ranges: Mapping[str, Range]
    data: Data
    way: _Way


def _measured(job: _Job, excluded: Sequence[_Left], where: Where | None) -> Iterator[float]:
    """SNR in dB of the worst output, with each of these sets of modules left out."""
    if where is None:
        return map(_snr(job, None), excluded)
    assert isinstance(job.model, ir.Model)
    return _in_agreement(where, replace(job, model=as_bytes(job.model), ranges=dict(job.ranges)), excluded)


def _in_agreement(where: Where, job: _Job, excluded: Sequence[_Left]) -> Iterator[float]:
    first = ""
    for snr, computer in run_in_order(where, open_job, job, excluded):
        first = first or computer
        require_same(where, first, computer)
        yield snr


def open_job(job: _Job) -> Callable[[_Left], tuple[float, str]]:
    """What measures one set of modules, and says what computed it."""
    assert isinstance(job.model, bytes)
    model = from_bytes(job.model)
    snr, computer = _snr(replace(job, model=model), 1), computed_by(model)
    return lambda left: (snr(left), computer)


def noise_alone(
    model: ir.Model,
    ranges: Mapping[str, Range],
    data: Data,
    modules: Collection[str],
    *,
    symmetric: bool = False,
    corrections: Corrections = NONE,
) -> dict[str, float]:
    """Of each of these modules alone in int8, its noise as a share of the signal of the worst output, 1 at most."""
    snr = _snr(_Job(model, ranges, data, _Way(symmetric, PLAIN)), None)
    others = modules_of(model)
    levels = {each: snr((tuple(other for other in others if other != each), corrections)) for each in modules}
    return {each: 10.0 ** (-max(level, 0.0) / 10) for each, level in levels.items()}


def _snr(job: _Job, threads: int | None) -> Callable[[_Left], float]:
    """SNR in dB of the worst output, as a function of what is left out."""
    model = job.model
    assert isinstance(model, ir.Model)
    level = level_on(model, job.data, threads)
    return lambda left: level(job.way.quantised(model, job.ranges, *left).model)


def latency_ms(runtime: Runtime, data: Data, repeat: int = 5) -> float:
    """Milliseconds for a run of these samples: the best of `repeat` after a first, of fewer where runs are long."""
    feeds = first_run(runtime, data)
    runtime.run(feeds)
    times: list[float] = []
    while len(times) < repeat and sum(times) < _TIMED_FOR:
        start = time.perf_counter()
        runtime.run(feeds)
        times.append(time.perf_counter() - start)
    return round(1000 * min(times), 3)
