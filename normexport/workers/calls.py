"""Calls that may never come back: made by a thread that nobody has to wait for.

Where a cluster hangs, Ray waits in C++ without end, and Python hears no signal meanwhile. Whoever waits for a `Call`
hears them, and may give up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Call(Generic[T]):
    """A call that has begun; its thread ends with the process at the latest."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._given: list[T] = []
        self._raised: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(function,), daemon=True)
        self._thread.start()

    def is_done(self, seconds: float) -> bool:
        """Whether it has come back, within so many seconds from now."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self) -> T:
        """What it gave, or what it raised, once it is done."""
        if self._raised:
            raise self._raised[0]
        return self._given[0]

    def _run(self, function: Callable[[], T]) -> None:
        try:
            self._given.append(function())
        except BaseException as error:  # the caller's, whatever it is
            self._raised.append(error)
