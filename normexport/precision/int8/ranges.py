"""From what was seen of a tensor to the range that eight bits stand for: minmax, percentile, mse, entropy.

All methods read one histogram of thousands of bins per tensor. onnxruntime.quantization has no mse, and its own
collectors take 128 bins symmetric about zero, half empty behind a ReLU; its search for the least entropy is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from normexport.errors import MissingComponent
from normexport.precision.int8.histogram import Counts, Float64s, Histogram
from normexport.precision.int8.storage import PLAIN, Storage

Range = tuple[float, float]

PERCENTILE = 99.99  # of the values lie within, each side separately
_SHRINKS = np.geomspace(1.0, 0.05, 60)  # shares of the full range that mse tries, 5 % apart
LEVELS = 256
_ENTROPY_BINS = 1024  # 0.3 s a tensor; with onnxruntime's default of 128 nothing is ever cut off


class RangeOf(Protocol):
    """Chooses a range by what was seen, whether it is symmetric, and what it is for."""

    def __call__(self, seen: Histogram, symmetric: bool, storage: Storage = ...) -> Range: ...


def minmax(seen: Histogram, symmetric: bool, storage: Storage = PLAIN) -> Range:
    """Everything seen."""
    return seen.low, seen.high


def percentile(seen: Histogram, symmetric: bool, storage: Storage = PLAIN) -> Range:
    """All but the outermost 0.01 % on either side."""
    centres, counts = seen.bins()
    below = np.cumsum(counts) / counts.sum()
    share = PERCENTILE / 100
    high = centres[np.searchsorted(below, share, side="left")]
    low = centres[np.searchsorted(below, 1 - share, side="right")]
    return float(min(low, 0.0)), float(max(high, 0.0))


def mse(seen: Histogram, symmetric: bool, storage: Storage = PLAIN) -> Range:
    """The share of the full range with the least mean square of rounding and clipping error."""
    centres, counts = seen.bins()
    if storage.is_float8:
        return _best(seen, True, lambda _, high: _float_error(centres, counts, high, storage))
    return _best(seen, symmetric, lambda low, high: _square_error(centres, counts, low, high))


def entropy(seen: Histogram, symmetric: bool, storage: Storage = PLAIN) -> Range:
    """The range with the least relative entropy of the quantised distribution, as onnxruntime searches it.

    Raises:
        MissingComponent: onnxruntime is not installed.
    """
    try:
        from onnxruntime.quantization.calibrate import HistogramCollector
    except ImportError as error:
        raise MissingComponent.of("onnxruntime", "cpu") from error
    centres, counts = seen.bins()
    most = max(-seen.low, seen.high)
    if most == 0.0:
        return 0.0, 0.0
    spread, edges = np.histogram(centres, _ENTROPY_BINS + 1, range=(-most, most), weights=counts)
    collector = HistogramCollector("entropy", symmetric, _ENTROPY_BINS, LEVELS // 2, PERCENTILE, "same")
    ends = np.float32(seen.low), np.float32(seen.high)
    low, high = collector.get_entropy_threshold(
        (spread.astype(np.int64), edges.astype(np.float32), *ends, np.float32(most)), LEVELS // 2
    )
    return float(low), float(high)


#: `precision.METHODS`, each with its mathematics.
RANGE_OF: dict[str, RangeOf] = {
    "minmax": minmax,
    "percentile": percentile,
    "mse": mse,
    "entropy": entropy,
}


def int8_range(limits: Range, symmetric: bool) -> Range:
    """The range that int8 will stand for: with zero in it, and symmetric about it where asked for."""
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    if symmetric:
        most = max(-low, high)
        low, high = -most, most
    return low, high


def _best(seen: Histogram, symmetric: bool, cost: Callable[[float, float], float]) -> Range:
    """The ends with the least cost: both at once where symmetric, else one side after the other, the upper twice."""
    low, high = int8_range((seen.low, seen.high), symmetric)

    def least(of: Callable[[float], float]) -> float:
        return float(_SHRINKS[int(np.argmin([of(share) for share in _SHRINKS]))])  # the widest of equals

    if symmetric:
        share = least(lambda share: cost(low * share, high * share))
        return low * share, high * share
    upper = high * least(lambda share: cost(low, high * share))
    lower = low * least(lambda share: cost(low * share, upper)) if low < 0 else low
    upper = high * least(lambda share: cost(lower, high * share)) if low < 0 else upper
    return lower, upper


def _levels(centres: Float64s, low: float, high: float) -> tuple[Float64s, float]:
    """The level of each centre, 0 to 255, and the step between levels."""
    step = (high - low) / (LEVELS - 1) or 1.0
    zero = np.rint(-low / step)
    return np.clip(np.rint(centres / step) + zero, 0, LEVELS - 1) - zero, step


def _square_error(centres: Float64s, counts: Counts, low: float, high: float) -> float:
    levels, step = _levels(centres, low, high)
    return float((np.square(levels * step - centres) * counts).sum())


def _float_error(centres: Float64s, counts: Counts, high: float, storage: Storage) -> float:
    """As `_square_error`, of floating numbers between -high and high."""
    step = high / storage.largest or 1.0
    held = storage.nearest(centres / step).astype(np.float64) * step
    return float((np.square(held - centres) * counts).sum())
