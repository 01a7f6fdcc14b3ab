"""Where output goes: results to stdout, everything else to stderr; the spinner; silence for libraries."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from normexport.io.json_files import finite
from normexport_cli.options import OutputOptions


class Watched:
    """What a long command says of its way: call it with the name of a stage; here nobody is watching."""

    def __call__(self, stage: str) -> None:
        """A stage begins."""

    def samples(self, seen: int, total: int | None) -> None:
        """How many samples of a calibration have been seen, of how many (None: not known)."""


class _Console(Console):
    """A console that a reader who left early (`| head`) does not bring down."""

    def on_broken_pipe(self) -> None:
        """Say no more; what has been computed keeps its exit code."""
        self.quiet = True
        _drop_stdout()


def result_console() -> Console:
    """stdout, for results. In a pipe it is as wide as COLUMNS says, or wide enough not to wrap much."""
    _survive_narrow_encodings()
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120
    return _Console(highlight=False, width=width)


def error_console() -> Console:
    """stderr, for errors and progress."""
    _survive_narrow_encodings()
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

    On a terminal a spinner on stderr shows stage and seconds, and a bar where samples are counted, and vanishes at
    the end. What libraries and the user's own code print goes to stderr; their warnings and logs only with `--debug`.
    """
    with contextlib.ExitStack() as stack:
        on_stage = Watched() if shown.json else stack.enter_context(_spinner(words))
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        if not shown.debug:
            stack.enter_context(_silence())
        yield on_stage


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
def _spinner(words: str) -> Iterator[Watched]:
    console = error_console()
    if not console.is_terminal or console.is_dumb_terminal:
        yield Watched()
        return
    counted = (_WhereCounted(BarColumn()), _WhereCounted(MofNCompleteColumn()))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), *counted, TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield _OnTerminal(words, progress)


class _OnTerminal(Watched):
    """A line of its own on a terminal."""

    def __init__(self, words: str, progress: Progress) -> None:
        self._words, self._progress = words, progress
        self._task = progress.add_task(words, total=None)

    def __call__(self, stage: str) -> None:
        self._progress.tasks[0].total = None  # update() takes None for "as it was"
        self._progress.update(self._task, description=f"{self._words}: {stage}")

    def samples(self, seen: int, total: int | None) -> None:
        words = f"{self._words}: calibration" if total is not None else f"{self._words}: calibration, {seen} samples"
        self._progress.update(self._task, description=words, completed=seen, total=total)
        if seen == total:
            self("precision")  # what follows is no calibration any more


class _WhereCounted(ProgressColumn):
    """A column that is empty while nothing is counted."""

    def __init__(self, column: ProgressColumn) -> None:
        super().__init__()
        self._column = column

    def render(self, task: Task) -> RenderableType:
        """What the inner column shows; nothing while the number of samples is unknown."""
        return Text() if task.total is None else self._column.render(task)


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


def _survive_narrow_encodings() -> None:
    """An arrow on an ASCII terminal becomes "?", not an exception."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and stream.errors == "strict":
            reconfigure(errors="replace")
