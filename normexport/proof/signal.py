"""What an output says, over all the inputs it was compared on: without that, agreement proves nothing.

An output that is the same whatever the inputs are, that is empty or nowhere finite, or that a constant would match
within the budget, lets wrong candidates through; so does one whose parts differ in scale by orders of magnitude
(boxes in pixels beside scores below 1), where only the large part is seen. Both are looked for here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from normexport.proof.metrics import Float64s
from normexport.runtime import Array

FEWEST = 4  # elements of a channel; the ratio of the errors of fewer says little (`tolerance.spread`)
MOST_CHANNELS = 1 << 14  # along one axis; beyond it is no axis of channels


@dataclass(frozen=True)
class Signal:
    """How much an output varies between samples.

    Attributes:
        samples: how many could be compared, each with others of its shape; 1 where no two have one shape: then
            elements stand for samples.
        finite: elements of the reference that are finite, in all.
        size: elements in all.
        variation: floating: RMS of r - mean over the samples, element by element. Else the share of elements that
            differ from the first sample's. 0.0 is an output that is the same for every input.
    """

    samples: int
    finite: int
    size: int
    variation: float


@dataclass(frozen=True)
class Channel:
    """One index along one axis of an output: errors of both sides and scale (RMS) over all batches."""

    axis: int
    index: int
    size: int
    scale: float
    candidate: float
    baseline: float


class _Alike:
    """Sums over samples of one shape."""

    def __init__(self, first: Array) -> None:
        self.first = first.copy()
        self.count = 0
        self._mean: Float64s = np.zeros(first.shape)
        self._square: Float64s = np.zeros(first.shape)  # sum of (r - mean)^2 so far, after Welford
        self._different = 0

    def add(self, sample: Array) -> None:
        self.count += 1
        if sample.dtype.kind != "f":
            self._different += int(np.count_nonzero(sample != self.first))
            return
        value: Float64s = np.where(np.isfinite(sample), sample, 0.0).astype(np.float64)
        with np.errstate(over="ignore"):
            away = value - self._mean
            self._mean = self._mean + away / self.count
            self._square = self._square + away * (value - self._mean)

    @property
    def elements(self) -> int:
        return self.first.size * self.count

    def sum(self) -> float:
        """Of (r - mean)^2 over all elements; of other types than floats how many differ from the first sample's."""
        return max(float(self._square.sum()), 0.0) if self.first.dtype.kind == "f" else float(self._different)


class SignalMeter:
    """Sums over the batches of one output's reference; sees one array at a time and keeps one sample of each shape."""

    def __init__(self) -> None:
        self._groups: dict[tuple[int, ...], _Alike] = {}
        self._finite = self._size = 0

    def add(self, exact: Array, batch_size: int) -> None:
        """One batch: along axis 0 where that has the batch's size, else the whole array is one sample."""
        samples = exact if exact.ndim and exact.shape[0] == batch_size else exact[None]
        self._size += exact.size
        self._finite += int(np.count_nonzero(np.isfinite(exact))) if exact.dtype.kind == "f" else exact.size
        for sample in map(np.asarray, samples if exact.size else ()):  # an empty one says nothing
            if sample.shape not in self._groups:
                self._groups[sample.shape] = _Alike(sample)
            self._groups[sample.shape].add(sample)

    def signal(self) -> Signal:
        """How much the samples that were added differ among themselves, and how many there were."""
        if not self._groups:
            return Signal(0, 0, self._size, 0.0)
        several = [group for group in self._groups.values() if group.count > 1]
        if not several:
            largest = max(self._groups.values(), key=lambda group: group.first.size)
            return Signal(1, self._finite, self._size, _spread(largest.first))
        mean = sum(group.sum() for group in several) / sum(group.elements for group in several)
        count = sum(group.count for group in several)
        is_float = several[0].first.dtype.kind == "f"
        return Signal(count, self._finite, self._size, math.sqrt(mean) if is_float else mean)


def _spread(sample: Array) -> float:
    """Variation between the elements of one sample."""
    if sample.size < 2:
        return 0.0
    if sample.dtype.kind != "f":
        return float(np.count_nonzero(sample != sample.reshape(-1)[0])) / sample.size
    finite = sample[np.isfinite(sample)].astype(np.float64)
    return float(finite.std()) if finite.size else 0.0


class ChannelMeter:
    """Errors of both sides along every axis but the first, over the batches of one floating output."""

    def __init__(self) -> None:
        self._sums: dict[int, Float64s] = {}  # axis -> (4, channels): elements, r^2, candidate's and baseline's error^2
        self._lengths: dict[int, int] = {}
        self._none: set[int] = set()  # axes whose length differs between the batches

    def add(self, exact: Array, theirs: Array, ours: Array) -> None:
        """One batch; all three of one shape."""
        if exact.dtype.kind != "f" or exact.ndim < 2 or not exact.size:
            return
        r: Float64s = exact.astype(np.float64, copy=False)
        finite = np.isfinite(r)
        with np.errstate(all="ignore"):
            errors = [np.subtract(side, r, dtype=np.float64) for side in (theirs, ours)]
            squares = [finite.astype(np.float64), *(np.where(finite, each, 0.0) ** 2 for each in (r, *errors))]
        for axis in range(1, exact.ndim):
            if self._lengths.setdefault(axis, exact.shape[axis]) != exact.shape[axis]:
                self._none.add(axis)
            if axis in self._none or not 2 <= exact.shape[axis] <= MOST_CHANNELS:
                continue
            others = tuple(each for each in range(exact.ndim) if each != axis)
            sums = np.stack([each.sum(axis=others) for each in squares])
            self._sums[axis] = self._sums[axis] + sums if axis in self._sums else sums

    def channels(self) -> list[Channel]:
        """Every channel of enough elements."""
        return [
            Channel(axis, index, int(size), *(math.sqrt(each / size) for each in (rr, theirs, ours)))
            for axis, sums in self._sums.items()
            if axis not in self._none
            for index, (size, rr, theirs, ours) in enumerate(sums.T)
            if size >= FEWEST
        ]
