"""Ctrl-C, `kill` and a terminal that closes: what is begun is undone, then a word and the exit code name the signal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from types import FrameType

from normexport.errors import ExitCode
from normexport.io.interrupts import ENDING

_WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
_came: list[int] = []


class Stopped(KeyboardInterrupt):
    """A signal that ends the process, raised in the main thread as Ctrl-C is: all that is open is left in order.

    Python runs handlers between its own steps, so inside a call of a library it comes when that call returns.
    """


def listen() -> None:
    """Let every signal that would end the process raise `Stopped`. What the caller had ignored (nohup) stays so."""
    for number in ENDING:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _stop)
    sys.unraisablehook = _send_again


def leave() -> None:
    """Let no signal disturb the interpreter's own end: there is nothing left to undo."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def is_stopped() -> bool:
    """Whether such a signal has come: whatever went wrong since then is its doing."""
    return bool(_came)


def say_stopped() -> ExitCode:
    """The word on stderr; returns the exit code that shells give to the signal."""
    number = _came[-1] if _came else signal.SIGINT
    with contextlib.suppress(OSError):  # the terminal may be gone
        sys.stderr.write(_WORDS[signal.Signals(number).name] + "\n")
        sys.stderr.flush()
    return ExitCode.of_signal(number)


def _send_again(lost: sys.UnraisableHookArgs) -> None:
    """Where Python drops exceptions (in weak references' callbacks and finalizers), a `Stopped` comes once more."""
    if not isinstance(lost.exc_value, Stopped):
        sys.__unraisablehook__(lost)
        return
    timer = threading.Timer(0.01, os.kill, (os.getpid(), _came[-1]))
    timer.daemon = True
    timer.start()


def _stop(number: int, frame: FrameType | None) -> None:
    _came.append(number)
    raise Stopped
