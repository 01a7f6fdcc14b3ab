"""How the numbers of a tensor are spread, per channel, and what operators make of that.

A spread holds, for each channel, the numbers at fixed quantiles: those of a standard normal at `NODES`, each with its
probability in `WEIGHTS`. A function of one tensor is applied to the numbers themselves, whatever it is (numerical
quadrature); what else happens is

    maximum of m values:  P(max <= v) = P(v)^(m^0.5): those side by side are alike; m independent ones bound it
    mean of n values:     mean and shape kept, std / sqrt(n^0.15): those side by side are alike
    sum of two tensors:   independent, unless both are functions of one tensor, when they move together

Behind a norm the tails are those of its kind (`NormKind.tails`, `NormKind.extreme`): activations are no normal numbers.
In the 21 examples one in ten thousand lies beyond 5 to 7 standard deviations where L1 or L2 trained them (3.7 if they
were normal), beyond 4 where the largest number itself did. Each channel of each sample by itself is "sparse": of an
image that is background but for a few places these lie far out, 30 standard deviations in `plain_l1_instance`, which
had 35.8 dB so and 25.3 with the tails of its kind. Where images are full, ranges may be twice as wide as need be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from normexport.dtypes import FLOAT32
from normexport.graphs.moments import Moments
from normexport.norms import KINDS
from normexport.precision.int8.histogram import SHOWN, Coarse, Counts, Histogram

Array = NDArray[np.float64]

_NORMAL = NormalDist()
NODES: Array = np.linspace(-5.0, 5.0, 101)
_BELOW: Array = np.array([_NORMAL.cdf(place) for place in NODES])


def _weights(nodes: Array) -> Array:
    density = np.exp(-0.5 * np.square(nodes))
    return np.asarray(density / density.sum())


WEIGHTS = _weights(NODES)
_COARSE: Array = np.linspace(-4.5, 4.5, 31)  # 961 sums for each channel of two
_COARSE_WEIGHTS = np.outer(_weights(_COARSE), _weights(_COARSE)).reshape(-1)

_LOGISTIC = np.sqrt(3.0) / np.pi * (np.log(_BELOW) - np.log(_BELOW[::-1]))
_LAPLACE = np.sqrt(0.5) * np.where(NODES < 0, np.log(2 * _BELOW), -np.log(2 * _BELOW[::-1]))
#: |x| = e^1.5 / sqrt(6), e exponential: one in a million lies at 18, of Laplace at 9.
_SPARSE = np.sign(_LAPLACE) * (np.sqrt(2.0) * np.abs(_LAPLACE)) ** 1.5 / np.sqrt(6.0)
#: Numbers of mean 0 and standard deviation 1 at `NODES`, by the words of `NormKind.tails`; "sparse": see the top.
TAILS: dict[str, Array] = {
    "light": (NODES + _LOGISTIC) / 2,
    "middle": (_LOGISTIC + _LAPLACE) / 2,
    "heavy": _LAPLACE,
    "sparse": _SPARSE,
}

#: n values side by side act as n to the power of this when they are averaged. By standard deviations it is 0.24 to 0.36
#: in the examples; but of features that fill a window little is averaged away (EfficientNet-Lite0: of 6, 4.7 are left
#: of 49, a power of 0.13), and there a range that is too narrow costs more than one that is too wide.
_FREEDOM = 0.15
#: n values side by side have the maximum of n to the power of this that are independent. By means it is 0.45 to 0.8 in
#: five examples, 0.1 to 0.75 in five other networks (a detector, three of text, a ResNet-50), and 0.5 in the median of
#: their 17 pools. Taken for independent, the mean rose 2.7 times as much as it does behind a ReLU of `plain_l1`.
_APART = 0.5
_BINS = 2048


@dataclass(frozen=True, eq=False)
class Spread:
    """Numbers (C, K) of a tensor by channel and quantile.

    Attributes:
        points: float64 (C, K), in the order of the quantiles of `root`; C = 1: all channels alike.
        axis: where the channels lie, counted from the front.
        root: what the numbers are functions of: those of one root move together.
    """

    points: Array
    axis: int = 1
    root: object = field(default_factory=object)

    @property
    def channels(self) -> int:
        return len(self.points)

    @property
    def mean(self) -> Array:
        """(C,)."""
        return np.asarray(self.points @ WEIGHTS)

    @property
    def variance(self) -> Array:
        """(C,)."""
        return np.asarray(np.square(self.points - self.mean[:, None]) @ WEIGHTS)

    def map(self, function: Callable[[Array], Array]) -> Spread:
        """The spread of a function of the tensor, by element."""
        with np.errstate(all="ignore"):
            return replace(self, points=np.asarray(function(self.points), np.float64))

    def ordered(self) -> Array:
        """The numbers (C, K) at the quantiles of `NODES`, ascending, whatever they are functions of."""
        steps = np.diff(self.points, axis=1)
        if (steps >= 0).all():
            return self.points
        if (steps <= 0).all():
            return np.ascontiguousarray(self.points[:, ::-1])
        return _ordered(self.points, np.broadcast_to(WEIGHTS, self.points.shape))

    def largest_of(self, count: int) -> Spread:
        """The largest of `count` that lie side by side."""
        shares = np.clip(_BELOW ** (1 / max(count, 1) ** _APART), 1e-12, 1 - 1e-12)
        places = np.array([_NORMAL.inv_cdf(float(share)) for share in shares])
        return Spread(_interpolate(self.ordered(), places), self.axis)

    def mean_of(self, count: int) -> Spread:
        """The mean of `count` that lie side by side: drawn in towards the mean of all, in the shape that they have.

        In Laplace's shape what a ReLU leaves of a sharp feature lost its tail: `mixed_l1` had 27.7 dB for 32.7.
        """
        mean = self.mean[:, None]
        return Spread(mean + (self.points - mean) / max(count, 1) ** (_FREEDOM / 2), self.axis)

    def joined(self, other: Spread, join: Callable[[Array, Array], Array]) -> Spread:
        """A function of two, such as their sum; independent ones where they have not one root."""
        if self.root is other.root and self.axis == other.axis:
            return replace(self, points=np.asarray(join(self.points, other.points), np.float64))
        first, second = (_interpolate(each.ordered(), _COARSE) for each in (self, other))
        values = np.asarray(join(first[:, :, None], second[:, None, :]), np.float64)
        values = values.reshape(len(values), -1)
        axis = self.axis if self.channels > 1 else other.axis
        return Spread(_ordered(values, np.broadcast_to(_COARSE_WEIGHTS, values.shape)), axis)

    def mixed(self) -> Spread:
        """All channels as one: the spread of the whole tensor."""
        if self.channels == 1:
            return self
        weights = np.tile(WEIGHTS / self.channels, self.channels)
        return Spread(_ordered(self.points.reshape(1, -1), weights[None]), self.axis)

    def histogram(self) -> Histogram:
        """The whole tensor, as calibration would see it."""
        return _Mixture(self.points.reshape(-1), np.tile(WEIGHTS, self.channels))


class _Mixture(Histogram):
    """Points and their probabilities as a histogram; the centre of a bin is its mean, so that zeros stay zeros."""

    def __init__(self, values: Array, weights: Array) -> None:
        super().__init__()
        self.low, self.high = float(values.min()), float(values.max())
        held, edges = np.histogram(values, _BINS, weights=weights)
        sums, _ = np.histogram(values, edges, weights=weights * values)
        full = held > 0
        self._centres = np.clip(sums[full] / held[full], self.low, self.high)
        self._shares: Counts = np.ceil(held[full] / held.sum() * 2.0**40).astype(np.int64)

    def coarse(self, most: int = SHOWN) -> Coarse | None:
        """How many of a million values would lie in each of `most` bins; None where there is one value alone."""
        width = (self.high - self.low) / most
        if not FLOAT32.smallest_normal < width < FLOAT32.largest:
            return None
        shares, _ = np.histogram(self._centres, most, (self.low, self.high), weights=self._shares / 2.0**40)
        return Coarse(self.low, width, tuple(map(int, np.rint(shares * 1e6))))

    def bins(self) -> tuple[Array, Counts]:
        return self._centres, self._shares


def spread_of(mean: Array, std: Array, axis: int = 1, tails: str = "heavy", extreme: float = np.inf) -> Spread:
    """Distributions by mean and std (C,), with tails of `TAILS`, none further than `extreme` times std."""
    shape = np.clip(TAILS[tails], -extreme, extreme)
    return Spread(np.asarray(mean)[:, None] + np.asarray(std)[:, None] * shape, axis)


def spread_at(moments: Moments) -> Spread:
    """What a norm says of a tensor, with the tails of its kind, or those of single channels of single samples."""
    kind = KINDS.get(moments.kind, KINDS["l2"])
    tails = "sparse" if moments.per_sample else kind.tails
    return spread_of(moments.mean, moments.std, moments.axis, tails, kind.extreme * kind.per_std)


def _interpolate(ordered: Array, places: Array) -> Array:
    """(C, K) at `NODES` -> (C, P) at other places."""
    index = np.clip(np.searchsorted(NODES, places) - 1, 0, len(NODES) - 2)
    share = np.clip((places - NODES[index]) / (NODES[index + 1] - NODES[index]), 0.0, 1.0)
    return np.asarray(ordered[:, index] * (1 - share) + ordered[:, index + 1] * share)


def _ordered(values: Array, weights: Array) -> Array:
    """Numbers (C, M), each with its probability -> (C, K), the quantiles of `NODES`, ascending."""
    order = np.argsort(values, axis=1, kind="stable")
    values, weights = np.take_along_axis(values, order, axis=1), np.take_along_axis(weights, order, axis=1)
    below = np.cumsum(weights, axis=1) - weights / 2
    return np.stack([np.interp(_BELOW, row_below, row) for row, row_below in zip(values, below, strict=True)])
