"""Between which bounds does a ratio lie? An interval that asks for no distribution, from the ratio at each opening.

Calls of one opened file are no independent samples of it: where its weights and buffers came to lie stays as it is
until it is opened again, and that alone moved the median of two openings of one file by up to 8 % (weights of 20 MB
on a busy machine), ten times what the calls of either opening would let expect. So a sample is an opening: both files
are opened, take turns call by call, and give one ratio; then both are opened anew.

With d_i the logarithm of the ratio at opening i, i = 1..n, the estimate is the median of the means (d_i + d_j) / 2,
i <= j (Hodges and Lehmann 1963), and the interval lies between two order statistics of these means, chosen by
Wilcoxon's signed ranks. It is exact at any n where d is as likely to be above its centre as below by the same amount.
For two equal files that is so by construction: their turns are drawn by lot, and each could have been the other. A
bootstrap of medians is exact nowhere and too narrow for ten values; a sign test needs half as many openings again for
the same width.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Share of runs in which the intervals of all comparisons, together, hold the true ratios.
CONFIDENCE = 0.99

#: A ratio nearer to 1 than this is none: what an aligned loop or a page's place makes of one and the same file.
LEAST = 0.01


@dataclass(frozen=True)
class Interval:
    """A ratio and the bounds that it lies between.

    Attributes:
        ratio: the estimate; above 1 is slower.
        low, high: of the interval; 0 and infinite where there are too few openings for one.
    """

    ratio: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the width, as a share of the ratio."""
        return math.inf if self.low <= 0.0 else (math.log(self.high) - math.log(self.low)) / 2

    @property
    def differs(self) -> bool:
        """Whether all of the interval is beyond `LEAST` on one side of 1; never for what is no number."""
        return self.low > 1 + LEAST or self.high < 1 / (1 + LEAST)


def interval_of(logs: Sequence[float], comparisons: int = 1) -> Interval:
    """The interval of a ratio from its logarithm at each opening.

    Args:
        comparisons: how many intervals shall hold together with `CONFIDENCE` (Bonferroni).
    """
    values = np.asarray(logs, dtype=np.float64)
    first, second = np.triu_indices(len(values))
    means = np.sort((values[first] + values[second]) / 2)
    out = ranks_left_out(len(values), (1 - CONFIDENCE) / max(1, comparisons))
    estimate = math.exp(float(np.median(means)))
    if out is None:
        return Interval(estimate, 0.0, math.inf)
    return Interval(estimate, math.exp(float(means[out])), math.exp(float(means[len(means) - 1 - out])))


@functools.cache
def ranks_left_out(count: int, error: float) -> int | None:
    """How many of the sorted means lie outside the interval on either side; None where even all are too few.

    The largest k with 2 P(W < k + 1) <= error, W the sum of the ranks of `count` numbers whose signs are drawn by lot.
    """
    ways = np.ones(1)
    for rank in range(1, count + 1):
        ways = np.convolve(ways, np.concatenate(([1.0], np.zeros(rank - 1), [1.0]))) / 2
    below = 2 * np.cumsum(ways)
    allowed = int(np.searchsorted(below, error, side="right"))  # entries 0..allowed-1 are within the error
    return allowed - 1 if allowed else None
