"""The one meaning every foldable norm has here, and the refusal that every rule answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PerChannel:
    """`y = a*x + b` on axis 1 of x (N, C, *); a and b float64 of shape (C,), or (1,) where one value serves all."""

    a: Vector
    b: Vector

    @classmethod
    def of(cls, a: Any, b: Any) -> PerChannel:
        """From anything array-like; a and b are flattened and brought to one length."""
        scale, shift = np.broadcast_arrays(np.asarray(a, np.float64).reshape(-1), np.asarray(b, np.float64).reshape(-1))
        return cls(scale.copy(), shift.copy())

    @property
    def channels(self) -> int:
        """C, or 1 where one value serves all."""
        return len(self.a)

    def then(self, later: PerChannel) -> PerChannel:
        """later(self(x)) = (later.a*a)*x + (later.a*b + later.b)."""
        return PerChannel.of(later.a * self.a, later.a * self.b + later.b)

    def scaling(self) -> PerChannel:
        """The same scale without the shift, for the branches of a sum that do not carry b."""
        return PerChannel(self.a, np.zeros_like(self.b))

    def spread(self, channels: int) -> PerChannel:
        """The same map with a and b of shape (channels,); only (1,) spreads."""
        return PerChannel.of(np.broadcast_to(self.a, (channels,)), np.broadcast_to(self.b, (channels,)))

    def part(self, start: int, stop: int) -> PerChannel:
        """The map of channels start..stop-1 alone."""
        return PerChannel(self.a[start:stop], self.b[start:stop])

    def repeat(self, times: int) -> PerChannel:
        """Channel c becomes columns c*times .. (c+1)*times-1, as flattening (N, C, *) to (N, C*times) does."""
        return PerChannel(np.repeat(self.a, times), np.repeat(self.b, times))

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
