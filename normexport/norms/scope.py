"""What a live norm takes its statistics over."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T", bound=np.generic)


class Scope(Enum):
    """The axes of (N, C, *space) that a statistic reduces; the value is the word for it in records and reports."""

    BATCH = "batch"  #: N and space: one statistic per channel
    INSTANCE = "instance"  #: space alone: one statistic per sample and channel

    @classmethod
    def of(cls, instance: bool) -> Scope:
        """The scope by the flag of the C interface and of the torch operator."""
        return cls.INSTANCE if instance else cls.BATCH

    @property
    def is_instance(self) -> bool:
        """The flag of the C interface and of the torch operator."""
        return self is Scope.INSTANCE

    @property
    def title(self) -> str:
        """Its part of module and operator names: "Batch" in L1BatchNorm2d."""
        return self.value.capitalize()

    @property
    def source(self) -> str:
        """What its statistics come from, in words."""
        return "sample" if self.is_instance else "batch"

    def rows(self, x: NDArray[_T]) -> NDArray[_T]:
        """x (N, C, S) -> (R, n), one row per statistic: R is C, or N*C for each sample's own."""
        n, c = x.shape[:2]
        return x.reshape(n * c, -1) if self.is_instance else x.swapaxes(0, 1).reshape(c, -1)

    def unrows(self, rows: NDArray[_T], batch: int, channels: int) -> NDArray[_T]:
        """`rows` turned back: (R, n) -> (N, C, S)."""
        sizes = (batch, channels, -1) if self.is_instance else (channels, batch, -1)
        cube: NDArray[_T] = rows.reshape(sizes)
        return cube if self.is_instance else cube.swapaxes(0, 1)
