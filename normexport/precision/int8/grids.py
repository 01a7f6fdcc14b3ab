"""Grids of integers that a network was trained on: of a tensor's numbers, and of a layer's weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from normexport.precision.int8.ranges import Range

Float32s = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int32]

#: What a weight that a norm has scaled may be off its grid: it was rounded once more, in float32.
_ROUNDING = 3e-7


@dataclass(frozen=True)
class Grid:
    """The numbers (q - zero)*scale of a tensor, for integers low <= q <= high."""

    scale: float
    zero: int
    low: int
    high: int

    @property
    def limits(self) -> Range:
        """The least number and the largest, with 0 between."""
        return min((self.low - self.zero) * self.scale, 0.0), max((self.high - self.zero) * self.scale, 0.0)

    def without_negatives(self) -> Grid:
        """The integers that numbers from 0 on are rounded to."""
        return Grid(self.scale, self.zero, max(self.low, min(self.zero, self.high)), self.high)

    def stored_from(self, lowest: int, highest: int) -> Grid | None:
        """The same numbers in a type of these ends: the integers moved by 128 where they have to be; None: too many."""
        for move in (0, 128, -128, lowest - self.low):
            if lowest <= self.low + move and self.high + move <= highest:
                return Grid(self.scale, self.zero + move, self.low + move, self.high + move)
        return None

    def about_zero(self) -> Grid:
        """The grid of zero point 0 within -127..127 that holds it: the same scale, or a wider one where it must be."""
        furthest = max(self.zero - self.low, self.high - self.zero)
        if self.zero - self.low <= 128 and self.high - self.zero <= 127:
            return Grid(self.scale, 0, -128, 127)
        return Grid(float(np.float32(self.scale * furthest / 127)), 0, -127, 127)


@dataclass(frozen=True, eq=False)
class WeightGrid:
    """A weight in integers: whole*scale, the scale one number or one for each channel along `axis`.

    Attributes:
        scale: () or (C,).
        whole: q - zero, of the weight's shape.
        zero: what the integers are stored with; one number.
        axis: None where there is one scale.
        ends: the least integer and the largest that training had, with zero taken off.
    """

    scale: Float32s
    whole: Whole
    zero: int = 0
    axis: int | None = None
    ends: tuple[int, int] = (-128, 127)

    def numbers(self) -> Float32s:
        """The weight itself, float32."""
        found: Float32s = (self.whole.astype(np.float32) * self._along(self.scale)).astype(np.float32)
        return found

    def of(self, weight: npt.NDArray[Any], axis: int | None) -> WeightGrid | None:
        """The grid of what folding made of the weight: a factor for each output channel scales its own step.

        Args:
            weight: as it is now.
            axis: that of its output channels.

        None where it is on no such grid: another shape, factors along other axes, or a channel whose sign has turned
        -128 to 128.
        """
        if weight.shape != self.whole.shape:
            return None
        if np.array_equal(weight, self.numbers()):
            return self
        if axis is None or self.axis not in (None, axis):
            return None
        others = tuple(each for each in range(weight.ndim) if each != axis)
        whole, exact = self.whole.astype(np.float64), weight.astype(np.float64)
        power = np.square(whole).sum(axis=others)
        factor = (whole * exact).sum(axis=others) / np.where(power > 0, power, 1.0)
        turned = np.where(factor < 0, -1, 1).astype(np.int32)
        factor = np.where(power > 0, np.abs(factor), self.scale)
        factor = np.where(np.abs(factor - self.scale) <= _ROUNDING * self.scale, self.scale, factor)
        along = [-1 if each == axis else 1 for each in range(weight.ndim)]
        if (turned > 0).all() and np.array_equal(factor, np.broadcast_to(self.scale, factor.shape)):
            kept = np.abs(self.numbers().astype(np.float64) - exact) <= 2 * _ROUNDING * np.abs(exact)
            return self if bool(kept.all()) else None
        found = WeightGrid(factor.astype(np.float32), self.whole * turned.reshape(along), self.zero, axis, self.ends)
        off = np.abs(found.whole * factor.reshape(along) - exact)
        fits = bool((off <= _ROUNDING * np.abs(exact)).all()) and bool((found.scale > 0).all())
        return found if fits and (not self.zero or (turned > 0).all()) else None

    def refined(self) -> WeightGrid:
        """The same numbers in steps as fine as 8 bits have room for, by a power of two: a bias is rounded to these."""
        factor = 1
        while self.zero == 0 and 2 * factor * self.ends[0] >= -128 and 2 * factor * self.ends[1] <= 127:
            factor *= 2
        ends = self.ends[0] * factor, self.ends[1] * factor
        return WeightGrid((self.scale / factor).astype(np.float32), self.whole * factor, self.zero, self.axis, ends)

    def stored(self, symmetric: bool) -> tuple[npt.NDArray[Any], int] | None:
        """The integers in int8 or uint8, and their zero point; None where neither holds them, or not about zero."""
        for zero in (self.zero, 0, self.zero - 128):
            low, high = int(self.whole.min(initial=0)) + zero, int(self.whole.max(initial=0)) + zero
            if symmetric and zero:
                continue
            if low >= -128 and high <= 127 and -128 <= zero <= 127:
                return (self.whole + zero).astype(np.int8), zero
        return None

    def _along(self, values: Float32s) -> Float32s:
        shape = [-1 if each == self.axis else 1 for each in range(self.whole.ndim)]
        return values if self.axis is None else values.reshape(shape)
