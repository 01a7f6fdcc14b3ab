"""Which modules int8 hurts, and the fewest to leave in float32 so that a limit holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.parity.metrics import measure
from normexport.precision.int8 import Quantized, modules_of, quantize
from normexport.precision.ranges import Range
from normexport.runtime import Array, Feeds, OnnxRuntime


@dataclass(frozen=True)
class Sensitivity:
    """One module: SNR in dB of the first output with it alone in int8, and with all but it in int8."""

    path: str
    alone: float
    without: float


@dataclass(frozen=True)
class Step:
    """A point of the trade-off: modules left in float32 so far; what that gives.

    SNR in dB and accuracy drop in percentage points (None without labels) against float32; milliseconds per batch.
    """

    excluded: tuple[str, ...]
    snr_db: float
    drop: float | None
    latency_ms: float


#: Judges an int8 model: (SNR in dB, accuracy drop in points or None).
Judge = Callable[[ir.Model], tuple[float, float | None]]
#: Whether such a judgement is good enough.
Limit = Callable[[float, float | None], bool]


def sensitivities(
    model: ir.Model, ranges: Mapping[str, Range], feeds: Feeds, *, symmetric: bool = False
) -> tuple[Sensitivity, ...]:
    """Every module's part in the error, in graph order, on one batch."""
    exact = _first(model, feeds)
    modules = modules_of(model)

    def snr(excluded: Collection[str]) -> float:
        quantised = quantize(model, ranges, symmetric=symmetric, exclude=excluded).model
        return measure(exact.astype(np.float64), _first(quantised, feeds)).snr_db

    return tuple(Sensitivity(each, snr([other for other in modules if other != each]), snr([each])) for each in modules)


def rescue(
    model: ir.Model,
    ranges: Mapping[str, Range],
    feeds: Feeds,
    judge: Judge,
    limit: Limit,
    *,
    symmetric: bool = False,
    exclude: Sequence[str] = (),
) -> tuple[Quantized, tuple[Step, ...]]:
    """The int8 model that satisfies `limit` with the fewest modules excluded, worst first, and the way there.

    Modules are taken in the order of their SNR alone. Where not even float32 everywhere satisfies the limit, the
    last model tried is returned: the caller judges.

    Args:
        feeds: one batch on which modules are ranked and models are timed.
        exclude: modules left out from the start.
    """
    excluded = list(exclude)
    quantised = quantize(model, ranges, symmetric=symmetric, exclude=excluded)
    steps = [_step(quantised, excluded, feeds, judge)]
    if limit(steps[0].snr_db, steps[0].drop):
        return quantised, tuple(steps)
    table = sensitivities(model, ranges, feeds, symmetric=symmetric)
    for worst in sorted((each for each in table if each.path not in excluded), key=lambda each: each.alone):
        excluded.append(worst.path)
        quantised = quantize(model, ranges, symmetric=symmetric, exclude=excluded)
        steps.append(_step(quantised, excluded, feeds, judge))
        if limit(steps[-1].snr_db, steps[-1].drop):
            break
    return quantised, tuple(steps)


def _step(quantised: Quantized, excluded: Sequence[str], feeds: Feeds, judge: Judge) -> Step:
    return Step(tuple(excluded), *judge(quantised.model), latency_ms(quantised.model, feeds))


def latency_ms(model: ir.Model, feeds: Feeds, repeat: int = 5) -> float:
    """Milliseconds that ONNX Runtime takes for this batch: the best of `repeat` runs after a first."""
    runtime = OnnxRuntime(model)
    runtime.run(feeds)
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        runtime.run(feeds)
        times.append(time.perf_counter() - start)
    return round(1000 * min(times), 3)


def _first(model: ir.Model, feeds: Feeds) -> Array:
    runtime = OnnxRuntime(model)
    return runtime.run(feeds)[runtime.output_names[0]]
