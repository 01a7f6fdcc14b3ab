"""Every failure a user can meet, each with its exit code.

A message says where, why and what to do: ``place: cause; remedy``. The command line prints that one
line and leaves with `exit_code`; library callers catch `NormExportError` or one of its children.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum


class ExitCode(IntEnum):
    """What the command line ends with; each number has its meaning in words.

    A signal that ends it gives 128 and its number, as shells report it. Numbers keep their meaning for ever.
    """

    meaning: str

    GOOD = 0, "good"
    FAILED = 1, "parity failed"
    USAGE = 2, "usage"
    CHECKPOINT = 3, "checkpoint not understood"
    REFUSED = 4, "export or fold refused"
    ENGINE = 5, "engine build failed"
    MISSING = 6, "a needed component is missing"
    INCONCLUSIVE = 7, "inconclusive"
    BUG = 70, "a bug in normexport"  # EX_SOFTWARE of sysexits.h
    HUNG_UP = 129, "ended by SIGHUP"
    INTERRUPTED = 130, "ended by Ctrl-C"
    TERMINATED = 143, "ended by SIGTERM"

    def __new__(cls, number: int, meaning: str = "") -> ExitCode:
        """Let a member be written as its number and its meaning."""
        member = int.__new__(cls, number)
        member._value_, member.meaning = number, meaning
        return member

    @classmethod
    def of_signal(cls, number: int) -> ExitCode:
        """The code of a process that SIGHUP, SIGINT or SIGTERM ended."""
        return cls(128 + number)


class NormExportError(Exception):
    """Base of all failures. `place` is a file, module path or tensor; `cause` and `remedy` are words."""

    exit_code = ExitCode.USAGE

    def __init__(self, place: str, cause: str, remedy: str = "") -> None:
        self.place, self.cause, self.remedy = place, cause, remedy
        super().__init__(f"{place}: {cause}" + (f"; {remedy}" if remedy else ""))


class UsageError(NormExportError):
    """The call itself is wrong: an option, a shape, an output that can't be written."""

    exit_code = ExitCode.USAGE


class CheckpointError(NormExportError):
    """The checkpoint is damaged, untrusted, or has more than one reading."""

    exit_code = ExitCode.CHECKPOINT


class ExportError(NormExportError):
    """The model can't be turned into ONNX."""

    exit_code = ExitCode.REFUSED


class FoldError(NormExportError):
    """The ONNX file can't be folded (damaged, or not ONNX)."""

    exit_code = ExitCode.REFUSED


class EngineError(NormExportError):
    """An engine could not be built."""

    exit_code = ExitCode.ENGINE


class MissingComponent(NormExportError):
    """Something optional is needed and not installed; the remedy is the command that installs it."""

    exit_code = ExitCode.MISSING

    @classmethod
    def of(cls, module: str, extra: str) -> MissingComponent:
        """The error for a missing Python module that `pip install normexport[extra]` brings."""
        return cls(module, "is not installed", f"run: pip install 'normexport[{extra}]'")


#: What the extra `torch` brings: PyTorch, and what its exporter is built on. ONNX files and plans need neither.
WITH_TORCH = ("torch", "onnxscript")


@contextmanager
def needing_torch() -> Iterator[None]:
    """Import what needs PyTorch in here: where PyTorch is not installed, the error says how to install it.

    Raises:
        MissingComponent: one of `WITH_TORCH` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in WITH_TORCH:
            raise
        raise MissingComponent.of(missing, "torch") from error
