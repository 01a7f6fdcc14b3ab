"""The caller's side of a measuring process."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any

from normexport.errors import FoldError
from normexport.timing.case import Case
from normexport.timing.worker import Block, Opened

_MAIN = "from normexport.timing.worker import main; main()"


class Child:
    """A measuring process of one case; it ends with the `with` block."""

    def __init__(self, case: Case) -> None:
        self._case = case
        # -P: a file in the working folder must not be taken for a module of a library.
        folders = os.pathsep.join(folder for folder in sys.path if folder)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _MAIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": folders},
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not read any more
                    pipe.close()

    def open(self, warm_up: float) -> Opened:
        """Open the file, run it once, warm it up for so many seconds.

        Raises:
            NormExportError: it can't be opened or run there.
        """
        opened: Opened = self._ask("open", self._case.opening, dict(self._case.feeds), warm_up)
        return opened

    def block(self, calls: int) -> Block:
        """So many calls in a row."""
        block: Block = self._ask("block", calls)
        return block

    def memory(self) -> int | None:
        """Bytes that opening and running it took at most; None where the system does not tell."""
        memory: int | None = self._ask("memory")
        return memory

    def _ask(self, *request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()
            kind, value, trace = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError, BrokenPipeError, ValueError) as error:  # ended, or closed here
            raise self._ended() from error
        if kind is None:
            return value
        raise kind(*value) from (RuntimeError(trace) if trace else None)

    def _ended(self) -> FoldError:
        status = self._process.wait()
        known = -status in set(signal.Signals)
        how = f"by {signal.Signals(-status).name}" if known else f"with code {status}"
        cause = f"the process that ran it on {self._case.opening.runtime} was ended {how}"
        return FoldError(self._case.file, cause, "it may lack memory; check the file with onnx.checker")
