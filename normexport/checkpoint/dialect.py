"""The type of a dialect: one way in which training code stores a norm with running statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from normexport.norms import AffineParams

Vector = NDArray[np.float64]

#: Epsilon where neither the file nor a module gives one: the constructor default of all layers that use it.
EPS = 1e-5


@dataclass(frozen=True)
class Reading:
    """What the stored statistic s (C,) means: `inv_scale = inverse(s, eps)`, float64."""

    words: str
    inverse: Callable[[Vector, float], Vector]
    uses_eps: bool = False


VARIANCE = Reading("a variance: 1/sqrt(s + eps)", lambda s, eps: 1 / np.sqrt(s + eps), uses_eps=True)
MULTIPLIER = Reading("the average of 1/d: s", lambda s, eps: s.copy())
DIVISOR = Reading("the average of d: 1/s", lambda s, eps: 1 / s)
DIVISOR_EPS = Reading("the average of d: 1/(s + eps)", lambda s, eps: 1 / (s + eps), uses_eps=True)
NO_DIVISION = Reading("not divided by: 1", lambda s, eps: np.ones_like(s))


@dataclass(frozen=True)
class Dialect:
    """One row of the table in `dialects.py`.

    Attributes:
        name: the value of `--dialect`.
        source: whose layers write it.
        kind: the statistic that was trained; "unknown" where several kinds share the layout.
        reading: what the stored statistic means.
        stat: key of the statistic.
        keys: keys that must be there, beside `mean` and `stat`.
        also: keys that may be there and do not matter at inference; those that no other dialect has settle it.
        mean, gamma, beta: keys of the centre and of the affine parameters (absent ones are 1 and 0).
        factor: key of one more factor per channel.
        version: version in `_metadata` from which on the layout is certainly this one.
        initial: what the statistic holds before training.
        quantised: the layer's own forward rounds its parameters, so it is matched only within that rounding.
        inherits: classes that inherit torch's BatchNorm write it too, so that no module version excludes it.
    """

    name: str
    source: str
    kind: str
    reading: Reading
    stat: str
    keys: frozenset[str] = frozenset()
    also: frozenset[str] = frozenset()
    mean: str = "running_mean"
    gamma: str = "weight"
    beta: str = "bias"
    factor: str | None = None
    version: int | None = None
    initial: float = 0.0
    quantised: bool = False
    inherits: bool = False

    @property
    def meaning(self) -> str:
        """One line for help texts and tables."""
        if self.reading is NO_DIVISION:
            return f"{self.source}; only the mean is taken off"
        return f"{self.source}; {self.stat} is {self.reading.words}"

    @property
    def vectors(self) -> frozenset[str]:
        """Keys that hold one number per channel."""
        factor = set() if self.factor is None else {self.factor}
        return frozenset({self.mean, self.stat, self.gamma, self.beta} | factor)

    def fits(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether a norm with exactly these keys and shapes can be of this dialect."""
        keys, needed = frozenset(shapes), self.keys | {self.mean, self.stat}
        if not needed <= keys or not keys <= needed | self.also | {self.gamma, self.beta}:
            return False
        counts = {_count(shapes[key]) for key in self.vectors & keys}
        return len(counts) == 1 and 0 not in counts

    def proven(self, version: int | None) -> bool:
        """Whether the module version alone excludes every other dialect."""
        return self.version is not None and version is not None and version >= self.version

    def decode(self, own: Mapping[str, Vector], eps: float = EPS) -> AffineParams:
        """The affine map per channel from `own` (key -> C elements of any shape), in float64.

        A statistic of zero may give Inf or NaN here; the caller judges that.
        """
        stat = np.asarray(own[self.stat], dtype=np.float64).reshape(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = self.reading.inverse(stat, eps)
        if self.factor is not None:
            inverse = inverse * np.asarray(own[self.factor], dtype=np.float64).reshape(-1)
        return AffineParams.of(own[self.mean], inverse, own.get(self.gamma), own.get(self.beta))


def _count(shape: tuple[int, ...]) -> int:
    """C of a vector, (C,) or (1, C) or (1, C, 1, 1); 0 of anything else, such as a weight (O, I, 3, 3)."""
    return int(np.prod(shape)) if shape and sum(size > 1 for size in shape) <= 1 else 0
