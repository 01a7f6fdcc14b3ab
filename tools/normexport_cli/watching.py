"""What is shown of a long command's way: a line that moves on a terminal, lines with their times elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import IO, TypeAlias

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
from rich.table import Column
from rich.text import Text

from normexport.text import one_line

#: Writes one line.
Line: TypeAlias = Callable[[str], None]

#: Seconds after which a step within a stage is a line too, where stderr is no terminal.
_PATIENCE = 10.0

#: Of the bar, in columns: at most so many, and at most this part of the terminal, for words stand beside it.
_BAR, _PART = 20, 5


class Watched:
    """What a long command says of its way: call it with the name of a stage; here nobody is watching."""

    def __call__(self, stage: str) -> None:
        """A stage begins."""

    def samples(self, seen: int, total: int | None) -> None:
        """How many samples of a calibration have been seen, of how many (None: not known)."""
        self.step("calibration", seen, total)
        if seen == total:
            self.step("", None, None)  # what follows is no calibration any more

    def step(self, words: str, done: int | None, total: int | None) -> None:
        """What the stage does now, and how much of it is through (`normexport.progress.Watch`)."""


@contextlib.contextmanager
def on_terminal(words: str, console: Console, every_stage: bool) -> Iterator[tuple[Watched, Line]]:
    """One line that vanishes at the end; with `every_stage` those that have begun stay above it."""
    text = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    counted = (_WhereCounted(BarColumn(min(_BAR, console.width // _PART))), _WhereCounted(MofNCompleteColumn()))
    columns = (SpinnerColumn(), TextColumn("{task.description}", table_column=text), *counted, TimeElapsedColumn())
    lines = _Times()

    def line(text: str) -> None:
        progress.console.print(Text(lines.stamped(text)), soft_wrap=True)

    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        yield _OnTerminal(words, progress, line if every_stage else None), line


@contextlib.contextmanager
def on_lines(words: str, stream: IO[str], every_step: bool) -> Iterator[tuple[Watched, Line]]:
    """A line as each stage begins, and one for a step after a while; with `every_step` for each."""
    lines = _Times()

    def line(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a reader that left is no failure
            stream.write(lines.stamped(text) + "\n")
            stream.flush()

    yield _AsLines(words, line, every_step), line


class _Times:
    """Seconds since the command began, before each line."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def stamped(self, text: str) -> str:
        """ "[  12.3 s] text"."""
        return f"[{time.monotonic() - self._start:6.1f} s] {one_line(text)}"


class _OnTerminal(Watched):
    """A line of its own on a terminal."""

    def __init__(self, words: str, progress: Progress, line: Line | None) -> None:
        self._words, self._progress, self._line = words, progress, line
        self._stage = ""
        self._task = progress.add_task(words, total=None)

    def __call__(self, stage: str) -> None:
        before, self._stage = self._stage, stage
        if self._line is not None and stage != before:
            self._line(f"{self._words}: {stage}")
        self.step("", None, None)

    def step(self, words: str, done: int | None, total: int | None) -> None:
        """The words beside the stage, a bar where the end is known, a number where it is not."""
        self._progress.tasks[0].total = None  # update() takes None for "as it was"
        parts = [part for part in (self._stage, words) if part]
        text = f"{self._words}: {', '.join(parts)}" if parts else self._words
        if done and total is None:
            text += f" {done}"
        self._progress.update(self._task, description=_escaped(text), completed=done or 0, total=total)


class _AsLines(Watched):
    """Lines in a log."""

    def __init__(self, words: str, line: Line, every_step: bool) -> None:
        self._words, self._line, self._every_step = words, line, every_step
        self._stage, self._said, self._at = "", "", time.monotonic()

    def __call__(self, stage: str) -> None:
        if stage != self._stage:
            self._stage = stage
            self._say(stage)

    def step(self, words: str, done: int | None, total: int | None) -> None:
        """A line where nothing was said for a while, or where other words begin and every step is asked for."""
        if not words:
            return
        waited = time.monotonic() - self._at
        if waited < _PATIENCE and not (self._every_step and words != self._said):
            return
        count = "" if not done else f" {done}" if total is None else f" {done}/{total}"
        self._said = words
        self._say(f"{self._stage}, {words}{count}" if self._stage else f"{words}{count}")

    def _say(self, text: str) -> None:
        self._at = time.monotonic()
        self._line(f"{self._words}: {text}")


class _WhereCounted(ProgressColumn):
    """A column that is empty while nothing is counted."""

    def __init__(self, column: ProgressColumn) -> None:
        super().__init__()
        self._column = column

    def render(self, task: Task) -> RenderableType:
        """What the inner column shows; nothing while the number is unknown."""
        return Text() if task.total is None else self._column.render(task)


def _escaped(text: str) -> str:
    """Words out of files are not markup."""
    return one_line(text).replace("[", "\\[")
