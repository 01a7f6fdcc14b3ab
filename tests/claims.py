"""Claims about the library as plain functions, held one after the other against whichever copy of it is imported.

    python -m tests.claims tests.folding.focused

A module of claims lists them in `CLAIMS`. Each raises where it does not hold: a test calls it as it is, and
`tests/mutation.py` runs it against copies of the library that it must notice to be broken.
"""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, settings

Claim = Callable[[], None]

SECONDS = 60  # of processor time, however busy the machine is: what takes longer than that goes on for ever


def hold(claims: Iterable[Claim]) -> int:
    """0 if all claims hold within a minute; 1 at the first that does not, which is printed with what it raised."""
    signal.signal(signal.SIGPROF, _end)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    for claim in claims:
        try:
            claim()
        except (Exception, pytest.fail.Exception):  # a crash of a broken copy counts as much as a wrong number
            print(f"Error: {claim.__name__}\n{traceback.format_exc()}")
            return 1
    return 0


def hold_module(name: str) -> int:
    """`hold` of the `CLAIMS` of a module, or of the list that is named behind a colon.

    What hypothesis draws is the same each time, however busy the machine is: a draw that took a second would count as a
    claim that does not hold.
    """
    settings.register_profile(
        "claims", deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    settings.load_profile("claims")
    module, _, listed = name.partition(":")
    return hold(getattr(importlib.import_module(module), listed or "CLAIMS"))


def claim_of(test: Callable[..., object], *cases: object) -> Claim:
    """The claim that a test holds: as it stands, or of each of these cases; a tuple is several arguments."""

    def claim() -> None:
        for case in cases or ((),):
            with about(case):
                test(*(case if isinstance(case, tuple) else (case,)))

    claim.__name__ = getattr(test, "__name__", repr(test))
    return claim


@contextmanager
def about(what: object) -> Iterator[None]:
    """Say of which of many cases a claim does not hold."""
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:
        error.add_note(f"of {what}")
        raise


@contextmanager
def ending_within(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what takes more of the processor's time than this: far more than it takes where it ends."""

    def end(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds:g} seconds")

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _end(*_: object) -> None:
    raise TimeoutError(f"not done after {SECONDS} seconds")


if __name__ == "__main__":
    sys.exit(hold_module(sys.argv[1]))
