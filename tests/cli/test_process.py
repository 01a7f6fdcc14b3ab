"""What only a process of its own shows: imports, streams, pipes, interrupts, bugs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from normexport_cli import failures, screen

from normexport.errors import ExitCode
from tests.cli.conftest import Process, command, environment

pytestmark = pytest.mark.slow


def test_help_starts_without_torch_or_onnx(process: Process) -> None:
    code = (
        "import sys; from normexport_cli.app import app; from typer.testing import CliRunner;"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0;"
        "heavy = {'torch', 'onnx', 'onnx_ir', 'numpy', 'onnxruntime'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


def test_convert_in_a_pipe_is_plain_text_on_stdout_alone(made: Path, process: Process, tmp_path: Path) -> None:
    result = process("convert", made / "model.pt2")
    assert result.returncode == ExitCode.GOOD, result.stderr
    assert result.stderr == ""
    assert "\x1b" not in result.stdout
    assert result.stdout.splitlines()[-1] == "PARITY PASSED"
    assert (tmp_path / "model" / "model.onnx").exists()


def test_an_error_in_a_pipe_is_one_line_however_long(process: Process) -> None:
    result = process("convert", "model.pt2", f"--{'long' * 50}")
    assert result.returncode == ExitCode.USAGE
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "long" * 50 in line


def test_debug_shows_the_traceback_before_the_line(process: Process) -> None:
    result = process("convert", "model.pt2", "--model", "m:f", "--model-kwargs", "[]", "--debug")
    assert result.returncode == ExitCode.USAGE
    assert result.stderr.startswith("Traceback")
    assert result.stderr.splitlines()[-1].startswith("error: --model-kwargs")


def test_what_the_users_code_prints_does_not_spoil_json(made: Path, process: Process, tmp_path: Path) -> None:
    (tmp_path / "talkative.py").write_text("from tests.cli.small_nets import Small\nprint('building')\n")
    result = process("inspect", made / "weights.pth", "--model", "talkative:Small", "--json")
    assert result.returncode == ExitCode.GOOD
    assert json.loads(result.stdout)["norms"]
    assert result.stderr == "building\n"


@pytest.mark.parametrize("words", [(), ("--json",)], ids=["text", "json"])
def test_a_reader_who_leaves_early_changes_neither_exit_code_nor_stderr(
    words: tuple[str, ...], converted: Path, run_into_closed_pipe: Process
) -> None:
    result = run_into_closed_pipe("inspect", converted / "model.onnx", *words)
    assert (result.returncode, result.stderr) == (ExitCode.GOOD, "")


@pytest.mark.parametrize("words", [("--help",), ("convert", "--help"), ("plugins", "--help"), ()], ids=str)
def test_a_reader_of_help_who_leaves_early_meets_no_error(
    words: tuple[str, ...], run_into_closed_pipe: Process
) -> None:
    result = run_into_closed_pipe(*words)
    assert result.stderr == ""
    assert result.returncode in (ExitCode.GOOD, ExitCode.USAGE)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to one process")
def test_interrupt_leaves_with_130_one_word_and_nothing_written(made: Path, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\ndef make():\n    open('started', 'w').close()\n    time.sleep(60)\n"
    )
    words = ("convert", made / "weights.pth", "--model", "slow:make", "--input", "3x8x8")
    child = subprocess.Popen(
        command(*words), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=_hear_interrupts,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (ExitCode.INTERRUPTED, "", "interrupted\n")
    assert not (tmp_path / "weights").exists()


def _hear_interrupts() -> None:
    """Shells start background jobs deaf to SIGINT, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_unexpected_exception_is_called_a_bug_and_has_its_own_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    code = failures.report(ZeroDivisionError("division by zero"), as_json=False, debug=False)
    captured = capsys.readouterr()
    assert code == ExitCode.BUG
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line == (
        "error: normexport: ZeroDivisionError: division by zero; this is a bug in normexport; run again with --debug"
    )


def test_a_missing_core_package_is_exit_code_6_with_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    error = ModuleNotFoundError("No module named 'onnx'", name="onnx.helper")
    assert failures.report(error, as_json=True, debug=False) == 6
    assert "pip install" in json.loads(capsys.readouterr().out)["error"]["remedy"]


def test_a_message_of_several_lines_becomes_one(capsys: pytest.CaptureFixture[str]) -> None:
    failures.report(ValueError("first\n  second\x1b[31m"), as_json=False, debug=False)
    assert capsys.readouterr().err.splitlines() == [
        "error: normexport: ValueError: first second\\x1b[31m; this is a bug in normexport; run again with --debug"
    ]


def test_json_has_null_for_what_json_cannot_say(capsys: pytest.CaptureFixture[str]) -> None:
    screen.print_json({"excess": float("inf"), "rows": (float("nan"), -0.0, 3)})
    assert json.loads(capsys.readouterr().out) == {"excess": None, "rows": [None, 0.0, 3]}
