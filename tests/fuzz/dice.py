"""The randomness of one case: it follows from format, seed and number alone, so every case can be made again."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice(random.Random):
    """A seeded generator with the throws that mutators need."""

    @classmethod
    def of(cls, format: str, seed: int, number: int) -> Dice:
        """The dice of case `number`."""
        return cls(f"{format} {seed} {number}")

    def one_of(self, options: Sequence[T]) -> T:
        """One of the options, each as likely as the others."""
        return options[self.randrange(len(options))]

    def chance(self, percent: float) -> bool:
        """True in about `percent` of 100."""
        return self.random() * 100 < percent

    def few(self) -> int:
        """How many changes a file gets: mostly one, so that it stays near the honest file and gets far."""
        return self.choices((1, 2, 3, 6), (62, 22, 11, 5))[0]

    def weighted(self, options: dict[Callable[..., T], int]) -> Callable[..., T]:
        """One of the keys, as often as its value says."""
        return self.choices(list(options), list(options.values()))[0]
