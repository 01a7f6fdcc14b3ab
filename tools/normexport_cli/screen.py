"""Where output goes: results to stdout, everything else to stderr; the spinner; silence for libraries."""

from __future__ import annotations

import codecs
import contextlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console

from normexport import progress
from normexport.io.json_files import finite
from normexport_cli.options import OutputOptions
from normexport_cli.watching import Line, Watched, on_lines, on_terminal

#: What our own words have beyond ASCII, in its letters.
_PLAIN = {"→": "->", "·": "-", "…": "...", "×": "x", "±": "+-", "≤": "<=", "≥": ">=", "—": "-", "–": "-"}
_ERRORS = "normexport.plain"

#: As --quiet, for whole scripts.
QUIET = "NORMEXPORT_QUIET"


class _Console(Console):
    """A console that a reader who left early (`| head`) does not bring down."""

    def on_broken_pipe(self) -> None:
        """Say no more; what has been computed keeps its exit code."""
        self.quiet = True
        _drop_stdout()


def result_console() -> Console:
    """stdout, for results. In a pipe it is as wide as COLUMNS says, or wide enough not to wrap much."""
    survive_narrow_encodings()
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120
    return _Console(highlight=False, width=width)


def error_console() -> Console:
    """stderr, for errors and progress."""
    survive_narrow_encodings()
    return _Console(stderr=True, highlight=False)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    try:
        sys.stdout.write(json_text(value))
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()


def json_text(value: Mapping[str, Any]) -> str:
    """A JSON document as text, its numbers finite."""
    return json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


@contextlib.contextmanager
def working(words: str, shown: OutputOptions) -> Iterator[Watched]:
    """Work in progress: gives the callback that names the stage.

    On a terminal a line on stderr shows stage, step and seconds, and a bar where something is counted, and vanishes at
    the end; elsewhere each stage is a line with its time. What libraries and the user's own code print goes to stderr;
    their warnings and logs only with `--debug`.
    """
    with contextlib.ExitStack() as stack:
        watch, line = stack.enter_context(_watch(words, shown))
        stack.enter_context(progress.watched(watch.step))
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        if not shown.debug:
            stack.enter_context(_silence())
        if shown.verbose:
            stack.enter_context(_logs(line, logging.INFO if shown.verbose == 1 else logging.DEBUG))
        yield watch


def _watch(words: str, shown: OutputOptions) -> contextlib.AbstractContextManager[tuple[Watched, Line]]:
    """What is told of the way, and how; beside a document of JSON nothing, unless more is asked for."""
    quiet = shown.quiet or bool(os.environ.get(QUIET)) or shown.json
    if quiet and not shown.verbose:
        return contextlib.nullcontext((Watched(), lambda line: None))
    console = error_console()
    if console.is_terminal and not console.is_dumb_terminal:
        return on_terminal(words, console, every_stage=shown.verbose > 0)
    return on_lines(words, sys.stderr, every_step=shown.verbose > 0)


@contextlib.contextmanager
def _logs(line: Line, level: int) -> Iterator[None]:
    """What normexport's stages log, as lines; libraries stay silent."""
    handler = _LineHandler(line)
    ours, root = logging.getLogger("normexport"), logging.getLogger()
    before = ours.level, root.level, logging.root.manager.disable
    logging.disable(logging.NOTSET)
    ours.setLevel(level)
    root.setLevel(logging.CRITICAL + 1)
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(before[0])
        root.setLevel(before[1])
        logging.disable(before[2])


class _LineHandler(logging.Handler):
    """A record as a line."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        """The name of the module stands before the words."""
        self._line(f"{record.name.removeprefix('normexport.')}: {record.getMessage()}")


@contextlib.contextmanager
def surviving_broken_pipes() -> Iterator[None]:
    """A reader that left early is no failure: the command keeps the exit code that it has earned."""
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _drop_stdout()


def _drop_stdout() -> None:
    """Let the interpreter's own last flush find an open file."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)


def survive_narrow_encodings() -> None:
    """Letters that a terminal's encoding lacks become others that say the same, or "?"; never an exception.

    In the locale C Python's streams are ASCII, and hand on no letter but those that stand for bytes of file names.
    """
    codecs.register_error(_ERRORS, _in_plain_letters)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and stream.errors in ("strict", "surrogateescape"):
            reconfigure(errors=_ERRORS)


def _in_plain_letters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(letter, "?") for letter in error.object[error.start : error.end]), error.end
