"""Work on models that nobody vouches for, in a process of its own: what kills that process is told in one line.

ONNX Runtime divides whole numbers as the processor does: INT_MIN / -1 in a file ends the process with SIGFPE.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeAlias, TypeVar

from normexport import progress
from normexport.errors import FoldError, NormExportError, UsageError

T = TypeVar("T")

#: Says something: any words that can be pickled.
Tell: TypeAlias = Callable[..., None]

#: The kind of an error and what it is made of, or None and the result; and the trace of a bug.
Outcome: TypeAlias = tuple[type[Exception] | None, Any, str]

#: What a copy sends: words of the work, how far it is (`normexport.progress`), its outcome.
_TOLD, _STEP, _OUTCOME = "told", "step", "outcome"

#: How libraries say that an allocation failed: Python, C++, PyTorch, ONNX Runtime.
_NO_MEMORY = ("bad_alloc", "bad allocation", "can't allocate memory", "Failed to allocate memory", "Unable to allocate")


class _Copy:
    """What this process knows of itself as a copy: bytes that it had at the start, None in the original; its bound."""

    had: int | None = None
    most = 0


def in_child(work: Callable[[], T], place: str) -> T:
    """What `work` returns, computed in a copy of this process; `place` names what it works on.

    The copy says nothing on the terminal. What `work` returns and raises comes back.

    Raises:
        FoldError: a signal ended the copy.
        UsageError: it ran out of memory, or over its bound.
    """
    return in_telling_child(lambda _: work(), place, lambda *_: None)


def in_telling_child(work: Callable[[Tell], T], place: str, listen: Tell) -> T:
    """As `in_child`; what `work` says meanwhile, by the function that it is given, is said to `listen` here.

    Raises:
        FoldError, UsageError: see `in_child`.
    """
    if not hasattr(os, "fork"):
        return work(listen)
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads; those of this process hold nothing that is used
        child = os.fork()
    if child == 0:
        # Garbage of the original stays: a session of ONNX Runtime would wait for its threads, which were not copied.
        gc.freeze()
        os.close(reading)
        _answer(work, place, writing)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            answer = _hear(pipe, listen)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    if status < 0 or answer is None:
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with code {status}"
        raise FoldError(place, f"the process that ran it was ended {how}", "check it with onnx.checker")
    kind, value, trace = answer
    if kind is None:
        result: T = value
        return result
    raise kind(*value) from (RuntimeError(trace) if trace else None)


def _hear(pipe: BinaryIO, listen: Tell) -> Outcome | None:
    """Pass on what a copy says until it is done: its outcome, or None where it ended without one."""
    try:
        while True:
            kind, words = pickle.load(pipe)
            if kind == _OUTCOME:
                outcome: Outcome = words
                return outcome
            (progress.say if kind == _STEP else listen)(*words)
    except (EOFError, pickle.UnpicklingError):  # at the end, or in the middle of a word
        return None


def bound_memory(most: int) -> None:
    """In a copy, let the memory that it allocates come to `most` bytes; of several bounds the largest counts.

    In the original process, and on systems other than Linux, nothing is bounded.
    """
    if _Copy.had is None or most <= _Copy.most:
        return
    import resource

    _Copy.most = most
    resource.setrlimit(resource.RLIMIT_DATA, (_Copy.had + most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _data_size() -> int | None:
    """Bytes of this process's own writable memory, stacks of threads included; None where that is not known."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), None)


def _answer(work: Callable[[Tell], Any], place: str, writing: int) -> NoReturn:
    """In the copy: send what `work` says, what it returns or raises, and end."""
    try:
        faulthandler.disable()
        _Copy.had, _Copy.most = _data_size(), 0
        silence = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(silence, stream)
        _use_one_thread()
        with os.fdopen(writing, "wb") as pipe:

            def send(kind: str, words: object) -> None:
                pipe.write(pickle.dumps((kind, words)))
                pipe.flush()

            def tell(*words: Any) -> None:
                send(_TOLD, words)

            with progress.watched((lambda *words: send(_STEP, words)) if progress.watcher() else None):
                outcome = _outcome(lambda: work(tell), place)
            send(_OUTCOME, outcome)
    finally:
        os._exit(0)


def _use_one_thread() -> None:
    """Let torch, where the user's code has brought it, compute on one thread: its others were not copied.

    Without this an interpolation of 3x512x512 waits for them for ever.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def _outcome(work: Callable[[], Any], place: str) -> Outcome:
    """The kind of an error and what it is made of, or no kind and the result; and the trace of a bug."""
    try:
        return None, work(), ""
    except Exception as error:  # the other process gets every kind
        if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
            return UsageError, (place, *_out_of_memory()), ""
        if isinstance(error, NormExportError):
            return type(error), (error.place, error.cause, error.remedy), ""
        return RuntimeError, (f"{type(error).__name__}: {error}",), traceback.format_exc()


def _out_of_memory() -> tuple[str, str]:
    """Cause and remedy."""
    if _Copy.most:
        cause = f"running it takes more than {_Copy.most / 1e9:.1f} GB, the most for such weights and inputs"
        return cause, "if that is as it should be, set NORMEXPORT_MEMORY to more gigabytes"
    return "running it takes more memory than there is", "give smaller inputs and batches"
