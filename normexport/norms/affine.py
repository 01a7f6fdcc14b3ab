"""What every norm with running statistics is at inference: an affine map per channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class AffineParams:
    """`y = (x - mean) * inv_scale * gamma + beta` on axis 1; each field float64 of shape (C,).

    Every checkpoint convention is decoded into this at the door; nothing later knows where it came from.

    Raises:
        ValueError: the four fields do not have one common shape (C,).
    """

    mean: Vector
    inv_scale: Vector
    gamma: Vector
    beta: Vector

    def __post_init__(self) -> None:
        for name in ("mean", "inv_scale", "gamma", "beta"):
            object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.float64))
        shapes = {value.shape for value in (self.mean, self.inv_scale, self.gamma, self.beta)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise ValueError(f"mean, inv_scale, gamma and beta must share one shape (C,), not {sorted(shapes)}")

    @property
    def channels(self) -> int:
        """C."""
        return len(self.mean)

    def coefficients(self) -> tuple[Vector, Vector]:
        """(A, B), each float64 (C,), with y = A*x + B: A = gamma*inv_scale, B = beta - mean*A."""
        a = self.gamma * self.inv_scale
        return a, self.beta - self.mean * a

    @classmethod
    def of(cls, mean: ArrayLike, inv_scale: ArrayLike, gamma: ArrayLike | None, beta: ArrayLike | None) -> AffineParams:
        """Build from anything array-like; gamma None is 1, beta None is 0; (1, C) and (1, C, 1, 1) become (C,)."""
        center = _flat(mean)
        return cls(
            center,
            _flat(inv_scale),
            np.ones_like(center) if gamma is None else _flat(gamma),
            np.zeros_like(center) if beta is None else _flat(beta),
        )


def _flat(values: ArrayLike) -> Vector:
    return np.asarray(values, dtype=np.float64).reshape(-1)
