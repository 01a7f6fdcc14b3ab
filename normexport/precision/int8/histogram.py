"""A histogram of a stream whose range nobody knows beforehand; memory does not grow with the stream.

Bins are [i*w, (i+1)*w) with w a power of two. Where the values need more than `MOST` bins, w doubles and neighbouring
bins merge, which loses nothing but resolution. So a histogram is a function of the arrays in it, whatever their order
and whoever added them: w and the first bin follow from the smallest and largest value, a count from floor(x / w), and
floor(floor(x / w) / 2) = floor(x / 2w). Of an array of up to `COUNTED` values all are counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]

MOST = 4096  # bins; at least 2048 of them span the range seen
#: Values of an array that are counted at most; of a larger one some for all, and the smallest and largest. Of 128
#: images, 8 at a time, these are two million for each tensor of a ResNet-50.
COUNTED = 1 << 17
SHOWN = 48  # bins that a person is shown
_PART = 1 << 17  # values that are counted at a time
_GOLDEN = 0x9E3779B9  # 2^32 / golden ratio


@dataclass(frozen=True)
class Coarse:
    """Counts of bins of one width, the first of which begins at `low`."""

    low: float
    width: float
    counts: tuple[int, ...]


class Histogram:
    """Counts, smallest and largest value of all arrays added; of large ones a part is counted."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self._exponent: int | None = None  # w = 2**exponent
        self._start = 0
        self._counts: Counts = np.zeros(0, np.int64)

    def add(self, values: npt.NDArray[np.floating]) -> None:
        """Take in smallest and largest value, and count; NaN and infinities must not be among them."""
        ends = self.look(values)
        self.count(values, ends)

    def look(self, values: npt.NDArray[np.floating]) -> tuple[float, float]:
        """Take in smallest and largest value alone, which are returned; NaN among them makes both NaN."""
        if not values.size:
            return math.inf, -math.inf
        ends = float(values.min()), float(values.max())
        self._widen(*ends)
        return ends

    def count(self, values: npt.NDArray[np.floating], ends: tuple[float, float]) -> None:
        """Count the values of an array that was looked at, all of them finite.

        Args:
            ends: what `look` returned of it.
        """
        if values.size == 0:
            return
        self._make_room()
        flat = values.reshape(-1)
        if flat.size > COUNTED:
            self._count(flat[_places(flat.size)], _step(flat.size))
            flat = np.array(ends, flat.dtype)
        self._count(flat)

    def _count(self, flat: npt.NDArray[np.floating], each: int = 1) -> None:
        """Count values so many times each; there is a bin for all of them."""
        assert self._exponent is not None
        # By powers above 1 float32 never rounds; by those below, -1e-40 would become a zero, which is in another bin.
        power = np.float32(2.0**-self._exponent) if self._exponent <= 0 else np.float64(2.0**-self._exponent)
        # In parts that stay in the processor's cache: 6 times as fast. Powers of two and whole numbers are exact.
        # Casting cuts towards zero, which is downwards where nothing is below zero.
        for start in range(0, flat.size, _PART):
            part = flat[start : start + _PART] * power
            if self._start < 0:
                np.floor(part, out=part)
            places = part.astype(np.intp)
            if self._start:
                places -= self._start
            counts = np.bincount(places)
            self._counts[: len(counts)] += each * counts

    def merged(self, other: Histogram) -> Histogram:
        """A histogram of the values of both: the same as if one had counted them all."""
        whole = Histogram()
        for each in (self, other):
            whole._widen(each.low, each.high)
        for each in (self, other):
            if each._exponent is not None:
                whole._make_room()
                assert whole._exponent is not None
                whole._counts += _rebinned(each._counts, each._start, whole._exponent - each._exponent, whole._start)
        return whole

    def counts(self) -> tuple[int, Counts]:
        """The number of the first bin that is not empty, and counts from there to the last; (0, empty) of nothing."""
        full = np.flatnonzero(self._counts)
        if not full.size:
            return 0, np.zeros(0, np.int64)
        return self._start + int(full[0]), self._counts[full[0] : full[-1] + 1].copy()

    @classmethod
    def of(cls, low: float, high: float, first: int, counts: Counts) -> Histogram:
        """What `low`, `high` and `counts()` say of a histogram, as one again.

        Raises:
            ValueError: no histogram has these.
        """
        made = cls()
        if not counts.size:
            return made
        made._widen(low, high)
        made._make_room()
        assert made._exponent is not None
        at = first - made._start
        last = math.floor(high * 2.0**-made._exponent)
        if first != made._start or first + len(counts) - 1 != last or (counts < 0).any():
            raise ValueError("its bins do not go from its smallest value to its largest")
        if not (counts[0] and counts[-1]):
            raise ValueError("nothing is in the bin of its smallest or of its largest value")
        made._counts[at : at + len(counts)] = counts
        return made

    def bins(self) -> tuple[Float64s, Counts]:
        """Centres and counts of the bins that are not empty; centres lie within [low, high]."""
        if self._exponent is None:
            return np.zeros(0), np.zeros(0, np.int64)
        full = np.flatnonzero(self._counts)
        centres = (full + self._start + 0.5) * 2.0**self._exponent
        return np.clip(centres, self.low, self.high), self._counts[full]

    def coarse(self, most: int = SHOWN) -> Coarse | None:
        """The same in at most `most` bins, for people to look at; None where values were not counted."""
        full = np.flatnonzero(self._counts)
        if self._exponent is None or not len(full):
            return None
        first, last = int(full[0]) + self._start, int(full[-1]) + self._start
        merged = 0
        while (last >> merged) - (first >> merged) >= most:
            merged += 1
        counts = np.zeros((last >> merged) - (first >> merged) + 1, np.int64)
        np.add.at(counts, ((full + self._start) >> merged) - (first >> merged), self._counts[full])
        width = 2.0 ** (self._exponent + merged)
        return Coarse((first >> merged) * width, width, tuple(map(int, counts)))

    @property
    def width(self) -> float:
        """The width of every bin: a power of two, so that histograms of other widths merge exactly."""
        return 0.0 if self._exponent is None else 2.0**self._exponent

    def _make_room(self) -> None:
        exponent = self._least_exponent()
        if self._exponent is None:
            self._exponent, self._start = exponent, self._first(exponent)
            self._counts = np.zeros(MOST + 2, np.int64)
            return
        exponent = max(exponent, self._exponent)
        start = self._first(exponent)
        if (start, exponent) != (self._start, self._exponent):
            self._counts = _rebinned(self._counts, self._start, exponent - self._exponent, start)
            self._start, self._exponent = start, exponent

    def _widen(self, low: float, high: float) -> None:
        # Of 0.0 and -0.0 a minimum is either; the sum is 0.0 for both. NaN stays, as Python's min would not have it.
        self.low, self.high = float(np.minimum(self.low, low)) + 0.0, float(np.maximum(self.high, high)) + 0.0

    def _least_exponent(self) -> int:
        span = max(self.high - self.low, max(abs(self.low), abs(self.high)) * 1e-6, 1e-30)
        mantissa, exponent = math.frexp(span / MOST)  # exact, as a logarithm is not: span / MOST <= 2**exponent
        return exponent - 1 if mantissa == 0.5 else exponent

    def _first(self, exponent: int) -> int:
        return math.floor(self.low * 2.0**-exponent)


def _step(size: int) -> int:
    """For how many values of an array one is counted."""
    return -(-size // COUNTED)


@lru_cache(maxsize=16)
def _places(size: int) -> npt.NDArray[np.int64]:
    """Places of the values that are counted: one of each `_step`, spread so that no row or channel is left out.

    In each step the golden ratio's multiples say which, as whole numbers: the same on every machine.
    """
    step = _step(size)
    number = np.arange(size // step, dtype=np.int64)
    return number * step + (((number * _GOLDEN & 0xFFFFFFFF) * step) >> 32)


def _rebinned(counts: Counts, start: int, doublings: int, new_start: int) -> Counts:
    """Counts from bin `start` on, in bins that are 2**doublings as wide, from bin `new_start` on."""
    full = np.flatnonzero(counts)
    found: Counts = np.zeros(MOST + 2, np.int64)
    numbers = (full + start) >> min(doublings, 62)  # a shift to the right rounds down; after 62 it is 0 or -1
    np.add.at(found, numbers - new_start, counts[full])
    return found
