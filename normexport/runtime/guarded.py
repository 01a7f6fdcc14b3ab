"""Work on models that nobody vouches for, in a process of its own: what kills that process is told in one line.

ONNX Runtime divides whole numbers as the processor does: INT_MIN / -1 in a file ends the process with SIGFPE.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from normexport.errors import FoldError, NormExportError

T = TypeVar("T")


def guarded(work: Callable[[], T], place: str) -> T:
    """What `work` returns, computed in a copy of this process; `place` names what it works on.

    The copy says nothing on the terminal. What `work` returns and raises comes back.

    Raises:
        FoldError: a signal ended the copy.
    """
    if not hasattr(os, "fork"):
        return work()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads; those of this process hold nothing that is used
        child = os.fork()
    if child == 0:
        os.close(reading)
        _answer(work, writing)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            answer = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    if status < 0 or not answer:
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with code {status}"
        raise FoldError(place, f"the process that ran it was ended {how}", "check it with onnx.checker")
    kind, value, trace = pickle.loads(answer)
    if kind is None:
        result: T = value
        return result
    raise kind(*value) from (RuntimeError(trace) if trace else None)


def _answer(work: Callable[[], Any], writing: int) -> NoReturn:
    """In the copy: send what `work` returns, or what it raises, and end."""
    try:
        faulthandler.disable()
        silence = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(silence, stream)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(pickle.dumps(_outcome(work)))
    finally:
        os._exit(0)


def _outcome(work: Callable[[], Any]) -> tuple[type[Exception] | None, Any, str]:
    """The kind of an error and what it is made of, or no kind and the result; and the trace of a bug."""
    try:
        return None, work(), ""
    except NormExportError as error:
        return type(error), (error.place, error.cause, error.remedy), ""
    except Exception as error:
        return RuntimeError, (f"{type(error).__name__}: {error}",), traceback.format_exc()
