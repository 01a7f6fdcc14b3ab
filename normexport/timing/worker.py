"""The process that measures one case: opens its file, and runs it when it is told to, as often as it is told.

It answers pickled requests from its standard input on a pipe that nothing else writes to: what a library prints is
lost. Times are nanoseconds. Nothing runs here between two requests, but for threads of runtimes that spin for a while.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normexport.errors import NormExportError
from normexport.timing.case import Opening

if TYPE_CHECKING:
    from normexport.runtime import Array

_STEADY = 0.05  # two spans of warming up agree where their medians differ by no more
_LONGEST = 5  # times the warm-up that was asked for, where they do not


@dataclass(frozen=True)
class Opened:
    """A file was opened: what that took, what the first call took (seconds), and what calls take when it is warm."""

    load: float
    first: float
    warm: float
    settled: bool


@dataclass(frozen=True)
class Block:
    """Calls in a row: how long each took, and how long processors worked meanwhile, in nanoseconds."""

    wall: list[int]
    processor: list[int]


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    state = _State()
    while True:
        try:
            name, *arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(_outcome(state, name, arguments), answers)
        answers.flush()


def _outcome(state: _State, name: str, arguments: list[Any]) -> tuple[Any, Any, str]:
    """The kind of an error and what it is made of, or no kind and the result; and the trace of a bug."""
    try:
        return None, getattr(state, name)(*arguments), ""
    except NormExportError as error:
        return type(error), (error.place, error.cause, error.remedy), ""
    except Exception as error:  # the other process gets every kind
        return RuntimeError, (f"{type(error).__name__}: {error}",), traceback.format_exc()


class _State:
    """What was opened."""

    def open(self, opening: Opening, feeds: Mapping[str, Array], warm_up: float) -> Opened:
        """Open, run once, warm up.

        Args:
            warm_up: seconds.
        """
        from normexport.timing.openers import import_runtime, open_file

        import_runtime(opening)
        self._before = _memory("VmRSS")
        began = time.perf_counter()
        bind = open_file(opening)
        loaded = time.perf_counter()
        self._call = bind(feeds)
        called = time.perf_counter()
        try:
            self._call()
        except NormExportError:
            raise
        except Exception as error:  # runtimes raise their own kinds, and the code of a model any
            from normexport.errors import UsageError
            from normexport.text import first_line

            place = "the model" if opening.runtime.startswith("torch") else opening.runtime
            cause = f"can't run on these inputs ({first_line(error, 300)})"
            raise UsageError(place, cause, "give others: --input, --batches, --data") from error
        first = time.perf_counter() - called
        warm, settled = self._warm_up(warm_up)
        return Opened(loaded - began, first, warm, settled)

    def _warm_up(self, least: float) -> tuple[float, bool]:
        """Seconds of a call when it is warm, and whether two spans of calls agreed."""
        medians: list[float] = []
        began = time.perf_counter()
        while True:
            span = self._span(max(least / 4, 1e-3))
            medians.append(span)
            passed = time.perf_counter() - began
            settled = len(medians) > 1 and abs(medians[-1] - medians[-2]) <= _STEADY * medians[-2]
            if passed >= least and (settled or passed >= _LONGEST * least):
                return medians[-1], settled

    def _span(self, least: float) -> float:
        """The median of calls for some time, three at least."""
        times: list[float] = []
        began = now = time.perf_counter()
        while len(times) < 3 or now - began < least:
            self._call()
            then, now = now, time.perf_counter()
            times.append(now - then)
        return sorted(times)[len(times) // 2]

    def block(self, calls: int) -> Block:
        """One call that is not counted, for the caches, and `calls` that are."""
        call, wall, processor = self._call, [], []
        clock, worked = time.perf_counter_ns, time.process_time_ns
        call()
        for _ in range(calls):
            busy, began = worked(), clock()
            call()
            ended = clock()
            wall.append(ended - began)
            processor.append(worked() - busy)
        return Block(wall, processor)

    def memory(self) -> int | None:
        """Bytes: the most that this process has held, less what it held before the file was opened."""
        most = _memory("VmHWM")
        return None if most is None or self._before is None else most - self._before


def _memory(field: str) -> int | None:
    """Bytes of a field of the process's own status; None on systems that have none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)
