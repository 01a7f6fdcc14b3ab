"""Where a random graph takes its decisions from: hypothesis (which shrinks them) or a seeded generator."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Choices(Protocol):
    """The decisions a graph generator needs; the first option of everything is the plainest."""

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high]."""

    def one_of(self, options: Sequence[T]) -> T:
        """One of the options."""

    def chance(self, percent: int) -> bool:
        """True in about `percent` of 100."""


class SeededChoices:
    """Decisions of `random.Random(seed)`: fast, reproducible by the seed alone."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def one_of(self, options: Sequence[T]) -> T:
        return options[self._random.randrange(len(options))]

    def chance(self, percent: int) -> bool:
        return self._random.randrange(100) < percent


class DrawnChoices:
    """Decisions drawn by hypothesis through `draw(strategy)` of a composite strategy."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        from hypothesis import strategies

        self._draw = draw
        self._integers = strategies.integers

    def integer(self, low: int, high: int) -> int:
        return low if low == high else self._draw(self._integers(low, high))

    def one_of(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]

    def chance(self, percent: int) -> bool:
        return self._draw(self._integers(0, 99)) >= 100 - percent
