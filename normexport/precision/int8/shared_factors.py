"""Numbers that stand for the factors of channels: which must be equal, which are 1 and why, how small one may be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from normexport.precision.int8.weights import Float64s

Indices = npt.NDArray[np.int64]


class SharedFactors:
    """Which factors must be equal, as a union and find (Tarjan 1975) over their numbers. Number 0 is held: it is 1."""

    def __init__(self) -> None:
        self._parent = [0]
        self._reasons: dict[int, str] = {}
        self._least: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._parent)

    def make(self, size: int) -> Indices:
        """New numbers, of factors that nothing ties yet."""
        numbers = np.arange(len(self), len(self) + size)
        self._parent += numbers.tolist()
        return numbers

    def join(self, some: Indices, others: Indices) -> None:
        """Let factors be equal, pair by pair."""
        for a, b in zip(some.tolist(), others.tolist(), strict=True):
            first, second = sorted((self._root(a), self._root(b)))
            if first == second:
                continue
            self._parent[second] = first
            if first and second in self._reasons:
                self._reasons.setdefault(first, self._reasons[second])

    def hold(self, number: int, reason: str) -> None:
        """Let a factor, and all that equal it, be 1; the first reason counts."""
        self._reasons.setdefault(self._root(number), reason)

    def keep_above(self, number: int, least: float) -> None:
        """Let a factor be `least` or more."""
        self._least[number] = max(self._least.get(number, 0.0), least)

    def roots(self) -> Indices:
        """By number, the number of the factor that stands for it and for all that must equal it."""
        return np.array([self._root(number) for number in range(len(self))])

    def why_held(self, number: int) -> str:
        """Why a factor is 1; "" where it is free."""
        return self._reasons.get(self._root(number), "")

    def least(self) -> Float64s:
        """By number, the smallest that the factor may be; 0 where that was not said."""
        found = np.zeros(len(self))
        for number, least in self._least.items():
            found[self._root(number)] = max(found[self._root(number)], least)
        return found

    def _root(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number
