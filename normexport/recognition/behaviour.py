"""What a sub-graph does to its input, read from results alone: whether it normalises, over which axes, with what bias.

A norm of this library is y = scale * d / (statistic(d) + epsilon) + bias with d = x - mean(x). So
- adding a number to x changes nothing, and neither does scaling x up, once epsilon no longer counts;
- one changed element changes what shares its statistics, and nothing else;
- (y(x) + y(-x)) / 2 is the bias;
- d / (y - bias) is the divisor (statistic + epsilon) / scale, one number per statistic, which grows as a*t + b with
  the size t of x: b = epsilon / scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from normexport.graphs.refusal import Refuse
from normexport.norms.kind import Array
from normexport.recognition.extent import Extent
from normexport.recognition.trial import Runner

_SAME = 1e-9  # relative; a few hundred roundings of 1e-16 in well conditioned sums
_LARGE = 1e6  # times the spread of 1: epsilons up to 100 no longer count to 1e-4
_HUGE = 1e30  # float32 ends at 3e38
_COUNTS = 1e-4
_FEW_ELEMENTS = 1 << 17  # 1 MB
#: How a refusal of the bias begins.
BIAS = "its bias"


class OtherDivisor(Refuse):
    """It divides by something that is no kind's statistic with an epsilon added to it.

    That stays so however the result is scaled and laid out: where a region is refused for this, its parts need no look.
    """


def draw(shape: tuple[int, ...], seed: int = 0, form: int = 0) -> Array:
    """Random numbers of spread 1 around a few means: 0 normal, 1 with heavy tails, 2 flat, 3 to one side.

    The same arguments give the same numbers; they can't be written to.
    """
    return (_remember if math.prod(shape) <= _FEW_ELEMENTS else _draw)(shape, seed, form)


def _draw(shape: tuple[int, ...], seed: int, form: int) -> Array:
    rng = np.random.default_rng([seed, form, *shape])
    x = rng.standard_normal(shape)
    if form == 1:
        x = x**3 / 4
    elif form == 2:
        x = rng.uniform(-1.7, 1.7, shape)
    elif form == 3:
        x = rng.exponential(1.0, shape)
    x.setflags(write=False)
    return np.asarray(x)


_remember = lru_cache(maxsize=64)(_draw)  # the places of a network have few shapes, and drawing costs as a trial does


def is_normalising(trial: Runner, shape: tuple[int, ...]) -> bool:
    """Whether shifts and large scales of the input do not matter, and its other differences do."""
    x = draw(shape)
    y = trial.run(x)
    if y.shape != x.shape or not np.isfinite(y).all() or _is_close(trial.run(draw(shape, 1)), y, _SAME):
        return False
    if not _is_close(trial.run(x + 2.5), y, _SAME):
        return False
    large, larger = trial.run(_LARGE * x), trial.run(_HUGE * x)
    return bool(np.ptp(large) > 0) and _is_close(large, larger, _COUNTS)


@dataclass(frozen=True, eq=False)
class Divided:
    """A sub-graph that is known to compute y = d / divisor + bias.

    Attributes:
        bias: (C,).
        alive: (C,), whether a channel's scale is not zero.
        offset: (C,), epsilon / scale, the part of the divisor that does not grow with x; 0 where not alive.
    """

    trial: Runner
    extent: Extent
    bias: Array
    alive: NDArray[np.bool_]
    offset: Array

    def growth(self, x: Array) -> Array:
        """statistic(x) / scale by channel: (C, m) with one column per sample where each has its own."""
        t = 1e3
        divisor = _divisor(self.trial.run(t * x), t * x, self.bias, self.extent)
        return np.asarray((divisor - self.offset[:, None]) / t)


def read_divisor(trial: Runner, shape: tuple[int, ...], extent: Extent) -> Divided:
    """Bias and divisor.

    Raises:
        Refuse: the result is not (x - mean) / divisor + bias, or the divisor is not statistic + epsilon.
    """
    x = draw(shape)
    y = trial.run(x)
    bias = _read_bias(y, trial.run(-x))
    at_one = _divisor(y, x, bias, extent)
    alive = np.asarray(np.isfinite(at_one).all(axis=1))
    if not alive.any():
        raise Refuse("its scale is zero")
    at_large = _divisor(trial.run(_LARGE * x), _LARGE * x, bias, extent)
    a = (at_large - at_one) / (_LARGE - 1)
    t = float(np.clip(np.median(np.abs((at_one - a)[alive] / a[alive])), 1e-9, 1e3))
    b = _divisor(trial.run(t * x), t * x, bias, extent) - a * t
    b = np.where(np.abs(b) < 1e-6 * np.abs(a * t), 0.0, b)
    for factor in (5.0, 0.2, 1 / t):
        size = factor * t
        divisor, expected = _divisor(trial.run(size * x), size * x, bias, extent), a * size + b
        if not _is_close(divisor[alive], expected[alive], 1e-7):
            raise OtherDivisor(_why_not_added(at_one[alive], at_large[alive] / _LARGE, divisor[alive], size))
    if not _is_close(b[alive], np.broadcast_to(b[alive][:, :1], b[alive].shape), 1e-6):
        raise Refuse("what it adds to its statistic differs from sample to sample")
    return Divided(trial, extent, bias, alive, np.where(alive, b[:, 0], 0.0))


def _why_not_added(at_one: Array, a: Array, divisor: Array, size: float) -> str:
    """What the divisor is where it does not grow as a*t + b: the root of (a*t)^2 + b^2, or unknown."""
    squared = np.square(a * size) + np.square(at_one) - np.square(a)
    if _is_close(np.square(divisor), squared, 1e-4):
        return "its epsilon stands inside the root; the operators' stands beside the statistic"
    return "its divisor is not a statistic and an epsilon added to it"


def _read_bias(y: Array, mirrored: Array) -> Array:
    even, close = (y + mirrored) / 2, _SAME * np.abs(y).max()
    cube = even.reshape(*y.shape[:2], -1)
    bias = cube[0, :, 0]
    if np.abs(cube - bias[:, None]).max() > close:
        rows = even.reshape(-1, y.shape[-1])
        if np.abs(rows - rows[0]).max() <= close:
            raise Refuse(f"{BIAS} runs along the last axis, as a layer norm's does; the operators' along axis 1")
        raise Refuse(f"{BIAS} differs within a channel (axis 1), or it does not treat x and -x alike")
    return np.asarray(bias)


def _divisor(y: Array, x: Array, bias: Array, extent: Extent) -> Array:
    """d / (y - bias) by channel, (C, m); infinite where y is the bias."""
    n, c = x.shape[:2]
    cube = x.reshape(n, c, -1)
    mean = extent.by_channel(extent.rows(cube).mean(axis=1), c).T
    z, d = y.reshape(n, c, -1) - bias[:, None], cube - mean[:, :, None]
    along = 2 if extent.scope.is_per_sample else (0, 2)
    product = (z * d).sum(axis=along, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        divisor = np.where(product == 0, np.inf, np.square(d).sum(axis=along, keepdims=True) / product)
        off = np.abs(z - d / divisor).max(axis=along)
    if (off > 1e-7 * np.abs(z).max(axis=along)).any():
        raise Refuse("it is not (x - mean) / divisor + bias with one mean and one divisor per statistic")
    return divisor[:, :, 0].T


def _is_close(a: Array, b: Array, tolerance: float) -> bool:
    return bool(np.abs(a - b).max() <= tolerance * np.abs(b).max())
