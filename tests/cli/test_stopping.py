"""Real signals to real processes: Ctrl-C, `kill`, a terminal that closes. One word, the signal's code, nothing left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from normexport.errors import ExitCode
from tests.cli.conftest import environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send to one process"),
]

WORDS = {signal.SIGINT: "interrupted\n", signal.SIGTERM: "terminated\n", signal.SIGHUP: "hung up\n"}
SIGNALS = pytest.mark.parametrize("number", WORDS, ids=lambda number: number.name)

WAITS = """
import importlib, pathlib, sys, time
from normexport_cli.start import main
module, name = WHERE.rsplit(".", 1)
def wait(*args, **kwargs):
    pathlib.Path("reached").touch()
    time.sleep(60)
setattr(importlib.import_module(module), name, wait)
sys.argv = ["normexport", *sys.argv[1:]]
main()
"""


def waiting_in(function: str) -> str:
    """Code that runs a command line whose function `function` says that it was reached and then works for a minute."""
    return f"WHERE = {function!r}\n{WAITS}"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start a process in tmp_path that hears signals, and end it with the test."""
    processes = []

    def start(code: str, *words: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *(str(word) for word in words)],
            cwd=tmp_path,
            env={**environment(), "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_hear,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def _hear() -> None:
    """Background jobs are deaf to SIGINT, and children inherit that."""
    for number in WORDS:
        signal.signal(number, signal.SIG_DFL)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def left(folder: Path) -> set[Any]:
    return {path.name for path in folder.rglob("*")} - {"reached"}


def processes_in(folder: Path) -> list[bytes]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # another user's, or gone
            if Path(os.readlink(process / "cwd")) == folder:
                found.append((process / "cmdline").read_bytes())
    return found


@SIGNALS
def test_a_signal_undoes_what_was_written_and_names_itself(
    number: signal.Signals, converted: Path, started: Callable[..., Any], tmp_path: Path
) -> None:
    process = started(waiting_in("normexport.io.atomic._move"), "fold", converted / "model.onnx", "-o", "new/x.onnx")
    wait_for(tmp_path / "reached", process)
    (hidden,) = (tmp_path / "new").iterdir()
    assert [file.name for file in hidden.iterdir()] == ["x.onnx"]  # the whole model is there, and not in its place yet
    process.send_signal(number)
    assert process.communicate() == ("", WORDS[number])
    assert process.returncode == ExitCode.of_signal(number)
    assert left(tmp_path) == set()


def test_two_signals_undo_as_much_as_one(converted: Path, started: Callable[..., Any], tmp_path: Path) -> None:
    process = started(waiting_in("normexport.io.atomic._move"), "fold", converted / "model.onnx", "-o", "new/x.onnx")
    wait_for(tmp_path / "reached", process)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    assert process.communicate()[1] in WORDS.values()
    assert process.returncode in (ExitCode.TERMINATED, ExitCode.INTERRUPTED)
    assert left(tmp_path) == set()


def test_a_signal_while_the_commands_are_loaded_is_no_traceback(started: Callable[..., Any], tmp_path: Path) -> None:
    code = (
        "import builtins, os, signal, normexport_cli.start as start\n"
        "load = builtins.__import__\n"
        "def loading(name, *args, **kwargs):\n"
        "    if name == 'typer': os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return load(name, *args, **kwargs)\n"
        "builtins.__import__ = loading\n"
        "start.main()"
    )
    process = started(code)
    assert process.communicate() == ("", "terminated\n")
    assert process.returncode == ExitCode.TERMINATED


def test_ctrl_c_before_anything_is_loaded_is_no_traceback(started: Callable[..., Any]) -> None:
    code = "import normexport_cli.start, os, signal; os.kill(os.getpid(), signal.SIGINT)"
    process = started(code)
    assert process.communicate() == ("", "")
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("package", ["normexport", "normexport_cli"])
def test_ctrl_c_while_python_m_finds_the_package_is_no_traceback(started: Callable[..., Any], package: str) -> None:
    """`python -m` imports the package before its `__main__`, and calls itself "-m" meanwhile."""
    code = (
        "import builtins, os, signal, sys\n"
        "load = builtins.__import__\n"
        "def loading(name, *args, **kwargs):\n"
        "    if name in ('importlib', 'json'):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return load(name, *args, **kwargs)\n"
        "sys.argv = ['-m']\n"
        "builtins.__import__ = loading\n"
        f"import {package}\n"
        "import json"
    )
    process = started(code)
    assert process.communicate() == ("", "")
    assert process.returncode == -signal.SIGINT


def test_a_program_that_imports_the_library_keeps_its_own_ctrl_c(started: Callable[..., Any]) -> None:
    code = (
        "import os, signal, normexport, normexport_cli\n"
        "try: os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt: print('mine')"
    )
    process = started(code)
    assert process.communicate() == ("mine\n", "")
    assert process.returncode == 0


def test_a_signal_that_python_drops_comes_again(started: Callable[..., Any], tmp_path: Path) -> None:
    """In the callback of a weak reference, as in the import system, an exception is printed and forgotten."""
    code = (
        "import os, signal, time, weakref\n"
        "from normexport_cli import stopping\n"
        "stopping.listen()\n"
        "class Thing: pass\n"
        "thing = Thing()\n"
        "reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))\n"
        "try:\n"
        "    del thing\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    raise SystemExit(stopping.say_stopped())"
    )
    process = started(code)
    assert process.communicate() == ("", "terminated\n")
    assert process.returncode == ExitCode.TERMINATED


@SIGNALS
def test_what_the_caller_ignores_stays_ignored(
    number: signal.Signals, converted: Path, started: Callable[..., Any], tmp_path: Path
) -> None:
    """As nohup has it for SIGHUP."""
    code = waiting_in("normexport.io.atomic._move").replace("time.sleep(60)", "time.sleep(0.5)")
    ignoring = f"import signal; signal.signal({int(number)}, signal.SIG_IGN)\n"
    process = started(ignoring + code, "fold", converted / "model.onnx", "-o", "x")
    wait_for(tmp_path / "reached", process)
    process.send_signal(number)
    assert process.communicate()[1] == ""
    assert process.returncode == ExitCode.GOOD


def test_a_signal_to_a_build_ends_the_builder_too(converted: Path, started: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")
    where = "normexport.engine.verify.check_precision"  # the builder is at work then
    process = started(waiting_in(where), "build", converted / "model.onnx", "-o", "new/x.plan", "--target", "sm89")
    wait_for(tmp_path / "reached", process)
    assert len(processes_in(tmp_path)) == 2
    process.send_signal(signal.SIGTERM)
    assert process.communicate() == ("", "terminated\n")
    assert process.returncode == ExitCode.TERMINATED
    assert processes_in(tmp_path) == []
    assert left(tmp_path) == set()


def test_a_convert_that_is_stopped_midway_leaves_nothing(
    made: Path, started: Callable[..., Any], tmp_path: Path
) -> None:
    process = started(waiting_in("normexport.proof.check_model"), "convert", made / "model.pt2", "-o", "new/out")
    wait_for(tmp_path / "reached", process)
    (hidden,) = (tmp_path / "new" / "out").iterdir()
    assert {file.name for file in hidden.iterdir()} == {"model.onnx", "model.layers.json"}
    process.send_signal(signal.SIGHUP)
    assert process.communicate() == ("", "hung up\n")
    assert process.returncode == ExitCode.HUNG_UP
    assert not (tmp_path / "new").exists()
