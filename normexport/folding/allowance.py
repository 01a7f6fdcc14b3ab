"""How much may be computed from what a model stores: limits that a file can't raise by what it claims."""

from __future__ import annotations

from normexport.graphs.refusal import Refuse
from normexport.io.limits import memory_allowance

_NUMBER = 8  # bytes of a float64 or int64
_COMPUTED = 128 << 20  # bytes beyond what is stored; numpy needs up to three more of an array while it makes it
_READ = 512 << 20  # bytes beyond what is stored; a weight, scaled, is there twice
_ROUNDS = 8  # times that all that may be held can be computed anew: 2 GiB for a small model, some seconds


class Allowance:
    """What may be made of `stored` bytes of tensors.

    One computed array has at most `stored` + 128 MiB; one that is stored, widened to 8 bytes a number, `stored` +
    512 MiB; all that are kept `held` = 2 * stored + 256 MiB, and twice that while one needs them all; and all that is
    ever made has 8 times that.
    """

    def __init__(self, stored: int) -> None:
        self.held = memory_allowance(stored)
        self._stored = stored
        self._left = _ROUNDS * self.held

    def compute(self, count: int, what: str) -> None:
        """Take `count` numbers to be computed.

        Raises:
            Refuse: they are too many.
        """
        self._take(count, self._stored + _COMPUTED, what)

    def read(self, count: int, what: str) -> None:
        """Take `count` numbers that are stored.

        Raises:
            Refuse: they are too many.
        """
        self._take(count, self._stored + _READ, what)

    def check_kept(self, size: int) -> None:
        """Whether so many bytes may be needed at once.

        Raises:
            Refuse: they may not.
        """
        if size > 2 * self.held:
            raise TooLarge(f"evaluating it takes {size >> 20} MiB at once, {self._limit(2 * self.held)}")

    def _take(self, count: int, most: int, what: str) -> None:
        size, most = count * _NUMBER, min(most, self._left)
        if size > most:
            raise TooLarge(f"evaluating {what} takes {size >> 20} MiB, {self._limit(most)}")
        self._left -= size

    def _limit(self, most: int) -> str:
        return f"and a model that stores {self._stored >> 20} MiB may take {most >> 20}"


class TooLarge(Refuse):
    """Constants that expand to more than a model of this size may make of them."""
