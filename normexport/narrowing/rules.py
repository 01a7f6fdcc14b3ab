"""Does a part of a candidate compute what that part of its reference computes? By the rule of its precision.

float32 and half types: the rule of `proof.tolerance`, beside float64 on the same numbers. What one runtime does wrong
to both graphs is not seen by it, for the yardstick runs there too: so an error is also held against what adding n
numbers in any order may lose, FACTOR * (sqrt(n) + FLOOR) roundoffs, n the most numbers that a node reads. Eight bits:
the signal-to-noise ratio that an output as a whole has to keep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from normexport.dtypes import EIGHT_BITS, FLOATS
from normexport.errors import NormExportError
from normexport.precision.half.baseline import AsStored
from normexport.precision.half.rounding import rounding_in_float32
from normexport.precision.snr import measure_output
from normexport.proof.judge import JITTER
from normexport.proof.metrics import fault, measure
from normexport.proof.rows import Pooled, pair_of, row_of
from normexport.proof.tolerance import FACTOR, FLOOR
from normexport.runtime import Array, Feeds, Float64Runtime, OnnxRuntime, Runtime
from normexport.runtime.around import in_float32
from normexport.verdicts import Verdict

GRAPH, RUNTIME = "graph", "runtime"


@dataclass(frozen=True)
class Excess:
    """How far a part is out of its budget.

    Attributes:
        times: of the budget; infinite for NaN, infinity out of place and another shape.
        words: for people: "error 3.1e-02, 5.0e-06 allowed".
        expected, got: what the reference gives in float64, and what the candidate gave.
    """

    times: float
    words: str
    expected: Array
    got: Array

    @property
    def allowed(self) -> float:
        """The largest error that would be within the budget, by the largest that there is; of whole numbers none."""
        if self.expected.dtype.kind != "f":
            return 0.0
        with np.errstate(all="ignore"):
            error = (
                np.abs(self.got.astype(np.float64) - self.expected) if self.got.shape == self.expected.shape else 0.0
            )
        largest = float(np.max(error, initial=0.0))
        if math.isfinite(largest) and math.isfinite(self.times) and self.times > 1:
            return largest / self.times
        finite = np.abs(self.expected[np.isfinite(self.expected)])
        return FLOOR * FLOATS["float32"].unit_roundoff * float(np.max(finite, initial=0.0))


#: Judges parts of both on the numbers that each is fed; None where the candidate's is within its budget.
Rule: TypeAlias = Callable[[ir.Model, Feeds, ir.Model, Feeds], "Excess | None"]


def rule_of(precision: str, halved: frozenset[str], min_snr: float) -> Rule:
    """The rule for a candidate's precision.

    Args:
        precision: "float32", a half type, or one of eight bits.
        halved: of a half type, names of the reference's values that the candidate stores in it.
        min_snr: of eight bits, dB.
    """
    if precision in EIGHT_BITS:
        return lambda ours, given, theirs, fed: _by_snr(ours, given, theirs, fed, min_snr)
    if precision == "float32":
        return _by_error
    return lambda ours, given, theirs, fed: _in_half(ours, given, theirs, fed, precision, halved)


def only(runtime: Runtime, feeds: Feeds) -> Array:
    """The one output of a part."""
    (value,) = runtime.run({name: feeds[name] for name in runtime.input_names}).values()
    return value


def _by_error(ours: ir.Model, given: Feeds, theirs: ir.Model, fed: Feeds) -> Excess | None:
    exact, got = only(Float64Runtime(ours), given), only(OnnxRuntime(theirs), fed)
    found = _beside(exact, got, only(OnnxRuntime(ours, jitter=JITTER), given), "float32")
    return found if found is not None else _beyond_sums(exact, got, ours, given)


def _in_half(
    ours: ir.Model, given: Feeds, theirs: ir.Model, fed: Feeds, precision: str, halved: frozenset[str]
) -> Excess | None:
    exact = only(Float64Runtime(ours), given)
    got = only(in_float32(OnnxRuntime(rounding_in_float32(theirs))), fed)
    own = only(AsStored(ours, precision, halved), given)
    return _beside(exact, got, own, precision)


def _beside(exact: Array, got: Array, own: Array, precision: str) -> Excess | None:
    """By the rule of parity, beside what the yardstick gives."""
    if own.shape == exact.shape and own.dtype != got.dtype and own.dtype.kind == got.dtype.kind == "f":
        own = own.astype(got.dtype)
    row = row_of("", None, "", pair_of(exact, got, own), Pooled(), precision)
    if row.within:
        return None
    if row.candidate is None or row.budget is None:
        return Excess(math.inf, row.fault or "can't be compared", exact, got)
    words = f"error {row.candidate.max_abs:.1e}, {row.budget.max_abs:.1e} allowed"
    if exact.dtype.kind != "f":
        words = f"{int(np.count_nonzero(got != exact))} of {exact.size} differ, by {row.candidate.max_abs:g} at most"
    return Excess(row.excess, words, exact, got)


def _beyond_sums(exact: Array, got: Array, ours: ir.Model, given: Feeds) -> Excess | None:
    """By what any order of adding may lose: what no runtime may exceed."""
    if exact.dtype.kind != "f" or fault(exact, got) is not None or not exact.size:
        return None
    errors = measure(exact, got)
    roundoff = FACTOR * (math.sqrt(_longest_sum(ours, given)) + FLOOR) * FLOATS["float32"].unit_roundoff
    allowed = roundoff * max(errors.scale_max, *(_size(array) for array in given.values()), 0.0)
    if errors.max_abs <= allowed or not allowed:
        return None
    return Excess(errors.max_abs / allowed, f"error {errors.max_abs:.1e}, {allowed:.1e} allowed", exact, got)


def _size(array: Array) -> float:
    """The largest finite magnitude; sums may cancel down from there."""
    if array.dtype.kind != "f":
        return 0.0
    return float(np.max(np.abs(array[np.isfinite(array)]), initial=0.0))


def _longest_sum(model: ir.Model, given: Feeds) -> int:
    """An upper bound for how many numbers are added up: the largest weight or input."""
    weights = [value.const_value.size for value in model.graph.initializers.values() if value.const_value is not None]
    return max([*weights, *(array.size for array in given.values()), 1])


def _by_snr(ours: ir.Model, given: Feeds, theirs: ir.Model, fed: Feeds, least: float) -> Excess | None:
    exact, got = only(Float64Runtime(ours), given), only(OnnxRuntime(theirs), fed)
    if exact.dtype.kind != "f" or not exact.ndim:
        return _beside(exact, got, exact, "float32") if exact.dtype.kind != "f" else None
    error = measure_output("it", exact, got, least)
    if error.judgement.verdict is not Verdict.FAILED:
        return None
    level = error.level if error.snr_db is not None else -math.inf
    times = 10 ** ((least - level) / 20) if math.isfinite(level) else math.inf
    words = f"SNR {level:.1f} dB, {least:g} dB needed" if math.isfinite(level) else error.judgement.reasons[0]
    return Excess(times, words, exact, got)


def whose(excess: Excess, theirs: ir.Model, fed: Feeds) -> str:
    """Whether the candidate's graph is wrong, or what the runtime makes of it: is it right in float64?"""
    try:
        meant = only(Float64Runtime(theirs), fed)
    except NormExportError:
        return GRAPH
    if fault(excess.expected, meant) is not None:
        return GRAPH
    with np.errstate(all="ignore"):
        apart = np.abs(meant.astype(np.float64) - excess.expected.astype(np.float64))
    largest = float(np.max(apart, initial=0.0))
    return RUNTIME if largest <= excess.allowed else GRAPH


def feeds_of(names: Mapping[str, str], values: Mapping[str, Array]) -> dict[str, Array]:
    """What is fed under each name, by what it is called in the reference."""
    return {name: values[source] for name, source in names.items()}
