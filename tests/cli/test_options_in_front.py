"""What every command takes may stand in front of its name too, as a habit from other tools: it is the command's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from normexport_cli import start
from normexport_cli.app import COMMANDS
from normexport_cli.groups import grouped
from normexport_cli.help import Group
from normexport_cli.options import OutputOptions
from typer.testing import CliRunner

from normexport.errors import ExitCode
from tests.cli.conftest import Run, environment


def made(got: list[Any]) -> typer.Typer:
    """A group with a command, and a group within it with one of the same name, that keep what they get."""
    outer, inner = (typer.Typer(cls=Group, name=name) for name in ("outer", "inner"))
    for each in (outer, inner):

        @each.callback()
        @grouped
        def group(shown: OutputOptions) -> None:
            pass

        @each.command()
        @grouped
        def draw(names: list[str], shown: OutputOptions) -> None:
            got.append((names, shown))

    outer.add_typer(inner)
    return outer


FLAGS = ("-q", "--quiet", "-v", "-vv", "-v --verbose", "-vvq", "--json --debug", "-qv --json")


@pytest.mark.parametrize("words", FLAGS)
@pytest.mark.parametrize("verb", ["draw", "inner draw"])
def test_flags_mean_the_same_in_front_of_a_command_and_behind_it(words: str, verb: str) -> None:
    got: list[Any] = []
    group, *command = verb.split()
    lines = [f"{words} {verb} a b", f"{verb} {words} a b", f"{verb} a b {words}"]
    if command:
        lines.append(f"{group} {words} {command[0]} a b")
    for line in lines:
        done = CliRunner().invoke(made(got), line.split())
        assert done.exit_code == ExitCode.GOOD, done.output
    assert got == [got[0]] * len(lines)
    assert got[0][0] == ["a", "b"]
    assert got[0][1] != OutputOptions()


def test_flags_on_both_sides_add_up() -> None:
    got: list[Any] = []
    assert CliRunner().invoke(made(got), ["-v", "--json", "draw", "a", "-vq"]).exit_code == ExitCode.GOOD
    assert got == [(["a"], OutputOptions(json=True, verbose=2, quiet=True))]


@pytest.mark.parametrize("words", ["-x draw a", "--quite draw a", "-vx draw a", "-q --nothing draw a", "- draw a"])
def test_what_no_command_takes_is_refused_in_front_of_it(words: str) -> None:
    got: list[Any] = []
    assert CliRunner().invoke(made(got), words.split()).exit_code == ExitCode.USAGE
    assert not got


def test_words_of_a_command_are_left_where_they_are() -> None:
    """Behind its name nothing is moved: not the value of an option, nor what follows a double dash."""
    got: list[Any] = []
    assert CliRunner().invoke(made(got), ["-q", "draw", "a", "--", "-v", "--json"]).exit_code == ExitCode.GOOD
    assert got == [(["a", "-v", "--json"], OutputOptions(quiet=True))]


def test_the_command_line_takes_them(run: Run) -> None:
    behind = run("dialects", "--json")
    assert json.loads(behind.stdout)
    for words in (("--json", "dialects"), ("-q", "--json", "dialects")):
        assert run(*words).stdout == behind.stdout
    refused = run("--json", "-q", "inspect", "none.onnx")
    assert refused.exit_code == ExitCode.USAGE
    assert json.loads(refused.stdout) == json.loads(run("inspect", "none.onnx", "--json").stdout)


@pytest.mark.parametrize("words", [("-q",), ("--json", "-v"), ("-q", "plugins"), ("-q", "calibrate")])
def test_without_a_command_there_is_the_help_as_ever(words: tuple[str, ...], run: Run) -> None:
    done = run(*words)
    assert done.exit_code == ExitCode.USAGE
    assert done.stdout == run(*(word for word in words if not word.startswith("-"))).stdout


@pytest.mark.parametrize("group", [(), ("plugins",), ("calibrate",)])
def test_the_help_of_a_group_names_them(group: tuple[str, ...], run: Run) -> None:
    page = run(*group, "--help").stdout
    panel = page.partition("─ Output ")[2].partition("╰")[0]
    assert all(option in panel for option in ("--json", "--verbose", "-v", "--quiet", "-q", "--debug"))


def test_the_version_is_told_behind_them(run: Run) -> None:
    assert run("-q", "--version").stdout == run("--version").stdout


LOADED = """
import sys
from normexport_cli import start
from normexport_cli.app import app
code = app(sys.argv[1:], prog_name="normexport", standalone_mode=False)
print(code, *({"torch", "onnx", "onnx_ir", "numpy", "onnxruntime"} & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("words", [("--help",), ("-q", "--help"), *(("-v", name, "--help") for name in COMMANDS)])
def test_no_help_loads_a_large_library(words: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert (done.stderr, "Usage: normexport" in done.stdout) == ("0\n", True)


@pytest.mark.parametrize(
    ("words", "builds"),
    [
        ("build m.onnx", True),
        ("-q build m.onnx", True),
        ("--json -v build", True),
        ("-q run build", False),
        ("", False),
    ],
)
def test_flags_do_not_keep_a_builder_from_starting_early(
    words: str, builds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr("normexport.engine.is_installed", started.append)
    with start._builder(words.split()):
        pass
    assert bool(started) is builds
