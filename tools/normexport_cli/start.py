"""The entry point: what takes long to load is loaded side by side."""

from __future__ import annotations

# Built in: `signal` itself takes milliseconds, in which Ctrl-C would be a traceback. It has no stubs.
import _signal  # type: ignore[import-not-found]

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # until signals are listened to, Ctrl-C ends this without a word

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from normexport.errors import ExitCode, UsageError
from normexport_cli import stopping

#: Where an operator of PyTorch warns and then fails, its C++ writes the warning to stderr past everything in Python.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def main() -> None:
    """Entry point of the console script."""
    try:
        stopping.listen()
        with _builder(sys.argv[1:]) as builder:
            from normexport_cli.app import app

            app(prog_name="normexport", obj=builder)
    except KeyboardInterrupt:  # outside of the command: while it is loaded, or left
        stopping.leave()
        sys.exit(stopping.say_stopped())
    finally:
        stopping.leave()
        if _is_left_hanging():
            _end_at_once(sys.exc_info()[1])
        gc.freeze()  # spares the interpreter a last look at all objects of onnx and pydantic: 25 ms


def _is_left_hanging() -> bool:
    """Whether a cluster was joined that hangs; asked of nothing that is not loaded."""
    cluster = sys.modules.get("normexport.workers.ray_cluster")
    return cluster is not None and bool(cluster.is_left_hanging())


def _end_at_once(ending: BaseException | None) -> None:
    """End without the interpreter's own end, in which Ray's C++ would crash beside threads that wait for a cluster."""
    code = ending.code if isinstance(ending, SystemExit) else None
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0 if ending is None else ExitCode.BUG)


def _builder(words: Sequence[str]) -> AbstractContextManager[Any]:
    """For `build`, the process that builds: it loads TensorRT while typer is loaded here, and each takes 0.1 s."""
    if next((word for word in words if not word.startswith("-")), None) != "build":
        return nullcontext()
    from normexport.engine import RTX, BuilderProcess, is_installed

    try:
        return BuilderProcess(RTX) if is_installed(RTX) else nullcontext()
    except (OSError, UsageError):  # the build meets it again, and says what it is
        return nullcontext()
