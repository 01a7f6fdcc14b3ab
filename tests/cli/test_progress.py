"""What a terminal shows while a long command runs."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from normexport_cli import screen
from normexport_cli.options import OutputOptions
from rich.console import Console


def shown(monkeypatch: pytest.MonkeyPatch, *calls: Callable[..., Any]) -> str:
    """The last line that a terminal shows after those calls."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(screen, "error_console", lambda: console)
    monkeypatch.setenv("TERM", "xterm")
    with screen.working("Converting", OutputOptions(debug=True)) as watched:
        for call in calls:
            call(watched)
        assert isinstance(watched, screen._OnTerminal)
        live = next(cell for cell in watched._progress.get_renderables())
        with console.capture() as capture:
            console.print(live)
    return capture.get()


def test_calibration_of_known_length_is_a_bar_with_its_count(monkeypatch: pytest.MonkeyPatch) -> None:
    line = shown(monkeypatch, lambda w: w("precision"), lambda w: w.samples(24, 96))
    assert "Converting: calibration" in line
    assert "24/96" in line
    assert "━━━━" in line


def test_calibration_of_unknown_length_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    line = shown(monkeypatch, lambda w: w.samples(24, None))
    assert "calibration, 24 samples" in line
    assert "━" not in line


def test_the_bar_goes_when_calibration_is_through(monkeypatch: pytest.MonkeyPatch) -> None:
    for last in (lambda w: w.samples(96, 96), lambda w: w("engine")):
        line = shown(monkeypatch, lambda w: w.samples(24, 96), last)
        assert "━" not in line
        assert "96" not in line
        assert "Converting: " in line


def test_nobody_watching_is_told_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with screen.working("Converting", OutputOptions(debug=True)) as watched:
        watched("load")
        watched.samples(1, 2)
    assert capsys.readouterr() == ("", "")
