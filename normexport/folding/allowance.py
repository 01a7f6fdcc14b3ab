"""How much may be computed from what a model stores: limits that a file can't raise by what it claims."""

from __future__ import annotations

from normexport.graphs.refusal import Refuse
from normexport.io.limits import memory_allowance

_NUMBER = 8  # bytes of a float64 or int64
_COMPUTED = 128 << 20  # bytes beyond what is stored; numpy needs up to three more of an array while it makes it
_READ = 512 << 20  # bytes beyond what is stored; a weight, scaled, is there twice
_HELD = 128 << 20  # bytes kept of what may be wanted again; more is had again in no time, or never asked for
_ROUNDS = 8  # times that all that may be held can be computed anew: 2 GiB for a small model, some seconds


class Allowance:
    """What may be made of `stored` bytes of tensors.

    One computed array has at most `stored` + 128 MiB; one that is stored, widened to 8 bytes a number, `stored` +
    512 MiB; all that are kept `held` = stored / 4 + 128 MiB, those used last, and 4 * stored + 512 MiB while one needs
    them all; and all that is ever made has 16 * stored + 2 GiB.
    """

    def __init__(self, stored: int) -> None:
        self.held = stored // 4 + _HELD
        self._at_once = 2 * memory_allowance(stored)
        self._stored = stored
        self._left = _ROUNDS * memory_allowance(stored)

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
        if size > self._at_once:
            raise TooLarge(f"evaluating it takes {size >> 20} MiB at once, {self._limit(self._at_once)}")

    def _take(self, count: int, most: int, what: str) -> None:
        size, most = count * _NUMBER, min(most, self._left)
        if size > most:
            raise TooLarge(f"evaluating {what} takes {size >> 20} MiB, {self._limit(most)}")
        self._left -= size

    def _limit(self, most: int) -> str:
        return f"and a model that stores {self._stored >> 20} MiB may take {most >> 20}"


class TooLarge(Refuse):
    """Constants that expand to more than a model of this size may make of them."""
