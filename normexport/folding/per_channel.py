"""The one meaning every foldable norm has here, and the refusal that every rule answers with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PerChannel:
    """`y = a*x + b` along one axis of x; a and b float64 of shape (C,), or (1,) where one value serves all.

    axis: where the C channels of x lie, counted from the front: 1 in (N, C, *), 3 in (N, H, W, C). It says nothing
        where one value serves all.
    """

    a: Vector
    b: Vector
    axis: int = 1

    @classmethod
    def of(cls, a: Any, b: Any, axis: int = 1) -> PerChannel:
        """From anything array-like; a and b are flattened and brought to one length."""
        scale, shift = np.broadcast_arrays(np.asarray(a, np.float64).reshape(-1), np.asarray(b, np.float64).reshape(-1))
        return cls(scale.copy(), shift.copy(), axis)

    @property
    def channels(self) -> int:
        """C, or 1 where one value serves all."""
        return len(self.a)

    def then(self, later: PerChannel) -> PerChannel:
        """later(self(x)) = (later.a*a)*x + (later.a*b + later.b), on the axis of the one that has several channels."""
        axis = later.axis if self.channels == 1 else self.axis
        return PerChannel.of(later.a * self.a, later.a * self.b + later.b, axis)

    def scaling(self) -> PerChannel:
        """The same scale without the shift, for the branches of a sum that do not carry b."""
        return replace(self, b=np.zeros_like(self.b))

    def spread(self, channels: int, axis: int) -> PerChannel:
        """The same map with a and b of shape (channels,) along `axis`; only (1,) spreads."""
        return PerChannel.of(np.broadcast_to(self.a, (channels,)), np.broadcast_to(self.b, (channels,)), axis)

    def part(self, start: int, stop: int) -> PerChannel:
        """The map of channels start..stop-1 alone."""
        return PerChannel(self.a[start:stop], self.b[start:stop], self.axis)

    def pick(self, channels: Array, axis: int) -> PerChannel:
        """The map whose channel i, along `axis`, is this one's channel `channels[i]`."""
        return PerChannel(self.a[channels], self.b[channels], axis)

    def is_on(self, axis: int) -> bool:
        """Whether the channels lie on this axis, or one value serves all."""
        return self.channels == 1 or self.axis == axis

    def equals(self, other: PerChannel) -> bool:
        """Whether the other is the same map."""
        same = np.array_equal(self.a, other.a) and np.array_equal(self.b, other.b)
        return same and (self.channels == 1 or self.axis == other.axis)

    def along(self, axis: int) -> PerChannel:
        """The same map where its channels lie along another axis."""
        return replace(self, axis=axis)

    @property
    def scales(self) -> bool:
        """Whether any a differs from 1."""
        return bool(np.any(self.a != 1.0))

    @property
    def shifts(self) -> bool:
        """Whether any b differs from 0."""
        return bool(np.any(self.b != 0.0))

    def broken(self) -> list[int]:
        """Channels where a or b is NaN or infinite."""
        return indices(~(np.isfinite(self.a) & np.isfinite(self.b)))

    def dead(self) -> list[int]:
        """Channels that ignore their input: a = 0."""
        return indices(self.a == 0.0)


def indices(condition: Array) -> list[int]:
    """Where a condition by channel holds."""
    return [int(index) for index in np.flatnonzero(condition)]
