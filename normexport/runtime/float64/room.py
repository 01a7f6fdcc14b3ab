"""What a value would take in memory, asked before it is made: a few bytes of a file can name a size of terabytes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from normexport.errors import UsageError
from normexport.runtime.memory import available_memory

_UNASKED = 1 << 26  # bytes that any machine has: the system is not asked for each small value
_BYTES = 8  # of a float64 or an int64
_ALIVE = 2  # values of the size at a time: what a node reads, and what it writes

_most: ContextVar[int | None] = ContextVar("most", default=None)


@contextmanager
def at_most(elements: int) -> Iterator[None]:
    """Within it, no value of more than `elements` is made, however much memory there is."""
    token = _most.set(elements)
    try:
        yield
    finally:
        _most.reset(token)


def require_room(shape: Sequence[int], of: str = "a value") -> None:
    """Refuse to make an array of `shape` where this machine has no memory for it, or it is more than is wanted.

    Raises:
        UsageError: with its size, and what is left.
    """
    elements, most = math.prod(int(size) for size in shape), _most.get()
    if most is not None and elements > most:
        sizes = ", ".join(map(str, shape))
        cause = f"{of} of shape ({sizes}) is more than {most:,} numbers"
        raise UsageError("float64 interpreter", cause, "check the sizes in the model")
    needed = elements * _BYTES * _ALIVE
    if needed <= _UNASKED:
        return
    available = available_memory()
    if available is not None and needed > available:
        sizes = ", ".join(map(str, shape))
        cause = f"{of} of shape ({sizes}) takes {needed / 1e9:.1f} GB to compute with, {available / 1e9:.1f} are free"
        raise UsageError("float64 interpreter", cause, "check the sizes in the model, or give smaller inputs")
