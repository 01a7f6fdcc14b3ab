"""What a terminal shows while a long command runs."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from normexport_cli import screen, watching
from normexport_cli.options import OutputOptions
from rich.console import Console

from normexport import progress
from tests.cli.conftest import Run


@pytest.fixture(autouse=True)
def loud(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user has it: nothing asks for quiet."""
    monkeypatch.delenv("NORMEXPORT_QUIET", raising=False)


def shown(monkeypatch: pytest.MonkeyPatch, *calls: Callable[..., Any], width: int = 100) -> str:
    """The last line that a terminal shows after those calls."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(screen, "error_console", lambda: console)
    monkeypatch.setenv("TERM", "xterm")
    with screen.working("Converting", OutputOptions(debug=True)) as watched:
        for call in calls:
            call(watched)
        assert isinstance(watched, watching._OnTerminal)
        live = next(cell for cell in watched._progress.get_renderables())
        paper = Console(file=io.StringIO(), width=width, color_system=None)
        with paper.capture() as capture:
            paper.print(live)
    return capture.get()


def lines(capsys: pytest.CaptureFixture[str], options: OutputOptions, *calls: Callable[..., Any]) -> list[str]:
    """What stderr gets where it is no terminal, without the times."""
    with screen.working("Converting", options) as watched:
        for call in calls:
            call(watched)
    out, err = capsys.readouterr()
    assert out == ""
    told = [re.fullmatch(r"\[ *[\d.]+ s\] (.*)", line) for line in err.splitlines()]
    assert all(told)
    return [line[1] for line in told if line is not None]


def test_calibration_of_known_length_is_a_bar_with_its_count(monkeypatch: pytest.MonkeyPatch) -> None:
    line = shown(monkeypatch, lambda w: w("precision"), lambda w: w.samples(24, 96))
    assert "Converting: precision, calibration" in line
    assert "24/96" in line
    assert "━━━━" in line


def test_calibration_of_unknown_length_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    line = shown(monkeypatch, lambda w: w.samples(24, None))
    assert "calibration 24" in line
    assert "━" not in line


def test_the_bar_goes_when_calibration_is_through(monkeypatch: pytest.MonkeyPatch) -> None:
    for last in (lambda w: w.samples(96, 96), lambda w: w("engine")):
        line = shown(monkeypatch, lambda w: w.samples(24, 96), last)
        assert "━" not in line
        assert "96" not in line
        assert "Converting" in line


def test_a_step_stands_beside_its_stage_with_its_count(monkeypatch: pytest.MonkeyPatch) -> None:
    line = shown(monkeypatch, lambda w: w("precision"), lambda w: progress.say("ranking modules", 3, 12))
    assert "Converting: precision, ranking modules" in line
    assert "3/12" in line
    assert "Converting: engine  " in shown(monkeypatch, lambda w: progress.say("a", 1, 2), lambda w: w("engine"))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_line_fits_the_terminal_whatever_the_words(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    words = "judging it with [bold]layer\x1b[2J " + "0123456789" * 30
    line = shown(monkeypatch, lambda w: progress.say(words, 1, 2), width=width).rstrip("\n")
    assert "\n" not in line
    assert len(line) <= width
    assert "\x1b" not in line


def test_elsewhere_each_stage_is_a_line_with_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    calls = (lambda w: w("load"), lambda w: w("load"), lambda w: progress.say("step", 1, 2), lambda w: w("export"))
    assert lines(capsys, OutputOptions(), *calls) == ["Converting: load", "Converting: export"]


def test_a_step_is_a_line_after_a_while(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_PATIENCE", 0.0)
    calls = (lambda w: w("precision"), lambda w: progress.say("ranking modules", 3, 12))
    assert lines(capsys, OutputOptions(), *calls)[1:] == ["Converting: precision, ranking modules 3/12"]


def test_verbose_says_every_step_once_and_what_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    log, other = logging.getLogger("normexport.verbs.convert"), logging.getLogger("vendor")

    def work(watched: watching.Watched) -> None:
        watched("precision")
        for done in range(3):
            progress.say("ranking modules", done, 2)
        log.info("written")
        log.debug("decided")
        other.error("noise")

    once = ["Converting: precision", "Converting: precision, ranking modules", "verbs.convert: written"]
    assert lines(capsys, OutputOptions(verbose=1), work) == once
    assert lines(capsys, OutputOptions(verbose=2), work) == [*once, "verbs.convert: decided"]
    assert lines(capsys, OutputOptions(), work) == once[:1]


@pytest.mark.parametrize("options", [OutputOptions(quiet=True), OutputOptions(json=True)])
def test_quiet_and_json_say_nothing_of_the_way(options: OutputOptions, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, options, lambda w: w("load"), lambda w: w.samples(1, 2)) == []


def test_a_variable_asks_for_quiet_and_verbose_wins(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORMEXPORT_QUIET", "1")
    assert lines(capsys, OutputOptions(), lambda w: w("load")) == []
    assert lines(capsys, OutputOptions(verbose=1), lambda w: w("load")) == ["Converting: load"]


def test_a_convert_to_int8_says_what_follows_its_calibration(
    made: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("x.npz", x=np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32))
    words = ("--precision", "int8", "--calibration-data", "x.npz", "--sensitivity", "--min-snr", "99", "-v")
    told = run("convert", made / "model.pt2", *words).stderr
    stages = ["load", "export", "parity", "precision, calibration", "ranking modules", "left out", "sensitivity"]
    places = [told.find(stage) for stage in stages]
    assert -1 not in places, told
    assert places[0] < places[1] < places[2] < places[3] < places[4] < places[-1]
