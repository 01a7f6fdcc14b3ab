"""Sizes that a file leaves free and does not run at: told with those at which it does, before anything is compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from normexport.errors import UsageError
from normexport.onnx_export import InputSpec, smallest_batch
from normexport.proof.inputs.batches import Batch
from normexport.proof.inputs.lengths import open_numbers
from normexport.proof.inputs.random import LOWEST, random_array
from normexport.runtime import OnnxRuntime

_EMPTY = "an output is empty"
_MOST_NUMBERS = 1 << 18  # of a sample that is tried to find a length that runs


def require_sizes(model: ir.Model, planned: Sequence[Batch]) -> None:
    """See that a model whose inputs leave some of the batch fixed, as the state of one sample, runs at every size.

    Raises:
        UsageError: only the smallest runs, which is then the remedy.
    """
    sizes = {batch.size: batch for batch in planned if not batch.real}
    least, most = min(sizes), max(sizes)
    few, many = sizes[least].feeds, sizes[most].feeds
    if least == most or not any(few[name].ndim > 1 and few[name].shape == many[name].shape for name in few):
        return
    runtime = OnnxRuntime(model)
    try:
        runtime.run(many)
    except UsageError as error:
        runtime.run(few)
        remedy = f"it runs at batch {least}: convert it with --batch {least}, judge it with --batches {least}"
        raise UsageError(error.place, error.cause, remedy) from error


def require_lengths(model: ir.Model, specs: Sequence[InputSpec]) -> None:
    """See that a model runs at the least lengths that it is said to take, where it runs at any that were found.

    Raises:
        UsageError: it does not; the remedy names the least, of all open sizes alike, from which on it runs.
    """
    usual, *others = open_numbers(specs)
    if not others:
        return
    least = others[0]
    runtime = OnnxRuntime(model)
    reason = _reason(runtime, specs, least)
    if reason in (None, _EMPTY):  # of a detector that finds nothing an output is empty too
        return
    high = _enough(runtime, specs, least, usual)
    if high is None:
        return
    low = 0  # above the least it does not run, at `high` above it does
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _runs_above(runtime, specs, least, middle) else (middle, high)
    ranges = {each.symbol: each.range for spec in specs for each in spec.open}
    words = ", ".join(f"{symbol} {ranges[symbol].length(number)}" for symbol, number in least.items())
    remedy = " ".join(f"--input {symbol}={ranges[symbol].length(number + high)}.." for symbol, number in least.items())
    raise UsageError("the model", f"does not run at {words} ({reason})", f"it runs with {remedy}")


def _enough(
    runtime: OnnxRuntime, specs: Sequence[InputSpec], least: dict[str, int], usual: dict[str, int]
) -> int | None:
    """How far above the least lengths the model runs: as far as the usual ones, or doubled a few times."""
    high = max(number - least[symbol] for symbol, number in usual.items())
    while high and _numbers(specs, least, high) <= _MOST_NUMBERS:
        if _runs_above(runtime, specs, least, high):
            return high
        high *= 2
    return None


def _numbers(specs: Sequence[InputSpec], least: dict[str, int], step: int) -> int:
    return max(math.prod(spec.at(_above(least, step)).shape) for spec in specs)


def _runs_above(runtime: OnnxRuntime, specs: Sequence[InputSpec], least: dict[str, int], step: int) -> bool:
    return _reason(runtime, specs, _above(least, step)) is None


def _above(least: dict[str, int], step: int) -> dict[str, int]:
    return {symbol: number + step for symbol, number in least.items()}


def _reason(runtime: OnnxRuntime, specs: Sequence[InputSpec], numbers: dict[str, int]) -> str | None:
    """Why the model does not run with these numbers of its open sizes, or gives nothing; None where it does."""
    rng = np.random.default_rng(0)
    sized = [spec.at(numbers) for spec in specs]
    size = smallest_batch(sized)
    try:
        outputs = runtime.run({spec.name: random_array(rng, spec, size, 1.0, LOWEST) for spec in sized})
    except UsageError as error:
        return error.cause
    return None if all(output.size for output in outputs.values()) else _EMPTY
