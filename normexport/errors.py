"""Every failure a user can meet, each with its exit code.

A message says where, why and what to do: ``place: cause; remedy``. The command line prints that one
line and leaves with `exit_code`; library callers catch `NormExportError` or one of its children.
"""

from __future__ import annotations


class NormExportError(Exception):
    """Base of all failures. `place` is a file, module path or tensor; `cause` and `remedy` are words."""

    exit_code = 2

    def __init__(self, place: str, cause: str, remedy: str = "") -> None:
        self.place, self.cause, self.remedy = place, cause, remedy
        super().__init__(f"{place}: {cause}" + (f"; {remedy}" if remedy else ""))


class UsageError(NormExportError):
    """The call itself is wrong: an option, a shape, an output that can't be written."""

    exit_code = 2


class CheckpointError(NormExportError):
    """The checkpoint is damaged, untrusted, or has more than one reading."""

    exit_code = 3


class ExportError(NormExportError):
    """The model can't be turned into ONNX."""

    exit_code = 4


class FoldError(NormExportError):
    """The ONNX file can't be folded (damaged, or not ONNX)."""

    exit_code = 4


class EngineError(NormExportError):
    """An engine could not be built."""

    exit_code = 5


class MissingComponent(NormExportError):
    """Something optional is needed and not installed; the remedy is the command that installs it."""

    exit_code = 6

    @classmethod
    def of(cls, module: str, extra: str) -> MissingComponent:
        """The error for a missing Python module that `pip install normexport[extra]` brings."""
        return cls(module, "is not installed", f"run: pip install 'normexport[{extra}]'")
