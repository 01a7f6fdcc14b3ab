"""One node of one operator, as the tests of operator versions try it, and the numbers it is fed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: One stream for all cases: the values of a case depend on those made before it.
RNG = np.random.default_rng(11)


@dataclass(frozen=True)
class Case:
    """One node; integer inputs are stored in the model (shapes, axes), the others are fed. None: left out."""

    operator: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    feeds_integers: bool = False

    def __str__(self) -> str:
        return f"{self.operator} {self.attributes} {[getattr(x, 'shape', x) for x in self.inputs]}"


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Any:
    return np.array(values, dtype=np.int64)
