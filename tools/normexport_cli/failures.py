"""Exceptions -> one line on stderr (or one JSON object on stdout) and an exit code."""

from __future__ import annotations

import contextlib
import errno
import sys
import traceback
from dataclasses import dataclass

import typer
from rich.text import Text

from normexport.errors import WITH_TORCH, ExitCode, MissingComponent, NormExportError
from normexport_cli.screen import error_console, print_json

#: Base of click's own errors; typer carries click inside or beside it, depending on its version.
_PARSER_ERROR = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

#: Modules that normexport can't work without; one that is missing is an installation that broke.
_CORE = ("onnx", "onnx_ir", "numpy")

#: What the system refuses, through no fault of normexport.
_REFUSED = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ENAMETOOLONG", "ELOOP")
    if hasattr(errno, name)
}


@dataclass(frozen=True)
class Failure:
    """One failure in the terms of `NormExportError`."""

    place: str
    cause: str
    remedy: str
    exit_code: ExitCode

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Any exception: normexport's own, the parser's, a broken installation, or a bug."""
        absent = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        if absent in WITH_TORCH:
            return cls.of(MissingComponent.of(absent, "torch"))
        if absent in _CORE:
            return cls.of(MissingComponent(absent, "is not installed", "run: pip install normexport"))
        if isinstance(error, NormExportError):
            return cls(error.place, error.cause, error.remedy, error.exit_code)
        if isinstance(error, _PARSER_ERROR):
            return cls._of_parser(error)
        if isinstance(error, OSError) and error.errno in _REFUSED:
            cause = f"can't be read or written ({error.strerror})"
            remedy = "check the path, its permissions and the free space"
            return cls(str(error.filename or "output"), cause, remedy, ExitCode.USAGE)
        cause = f"{type(error).__name__}: {error}".removesuffix(": ")
        return cls("normexport", cause, "this is a bug in normexport; run again with --debug", ExitCode.BUG)

    @classmethod
    def _of_parser(cls, error: Exception) -> Failure:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "normexport"
        words = str(getattr(error, "format_message", error.__str__)()).rstrip(".")
        return cls(command, words[:1].lower() + words[1:], f"see {command} --help", ExitCode.USAGE)

    def as_dict(self) -> dict[str, dict[str, str | int]]:
        """The object that `--json` prints."""
        own: dict[str, str | int] = {"place": self.place, "cause": self.cause, "remedy": self.remedy}
        return {"error": {**own, "exit_code": self.exit_code}}


def report(error: Exception, as_json: bool, debug: bool) -> ExitCode:
    """Tell the user; returns the exit code."""
    failure = Failure.of(error)
    if debug:
        sys.stderr.write("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    if as_json:
        with contextlib.suppress(OSError):  # a full disk is told by the exit code alone
            print_json(failure.as_dict())
        return failure.exit_code
    _print_line("error", "bold red", failure.place, failure.cause, failure.remedy)
    return failure.exit_code


def warn(place: str, cause: str, remedy: str) -> None:
    """One line on stderr of what is wrong and takes nothing from the result."""
    _print_line("warning", "bold yellow", place, cause, remedy)


def _print_line(word: str, style: str, place: str, cause: str, remedy: str) -> None:
    from normexport.text import one_line

    told = f"; {one_line(remedy)}" if remedy else ""
    line = Text.assemble((f"{word}: ", style), (one_line(place), "bold"), f": {one_line(cause)}", (told, "cyan"))
    console = error_console()
    console.print(line, soft_wrap=not console.is_terminal)  # on a terminal no word is cut in two, elsewhere one line
