"""The process that builds may be started before it is known what to build; the command line does so."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from normexport.engine import RTX, BuilderProcess, EngineConfig, build_engine
from normexport.errors import ExitCode
from tests.cli.conftest import command, environment
from tests.engine import networks

pytestmark = pytest.mark.slow

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")

FAST = EngineConfig(targets=("sm89",))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return networks.convolutions(tmp_path / "model.onnx")


def processes_in(folder: Path) -> list[str]:
    """Commands of the processes that work in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # another user's, or gone
            if Path(os.readlink(process / "cwd")) == folder:
                found.append((process / "cmdline").read_bytes().decode().replace("\0", " "))
    return found


def test_a_process_that_was_started_ahead_is_the_one_that_builds(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = BuilderProcess(RTX)
    monkeypatch.setattr(subprocess, "Popen", None)  # no other can be started
    manifest = build_engine(model, tmp_path / "model.plan", FAST, ahead=ahead)
    assert manifest.plan.bytes == (tmp_path / "model.plan").stat().st_size


def test_a_process_of_another_flavour_is_left_aside(model: Path, tmp_path: Path) -> None:
    with BuilderProcess(dataclasses.replace(RTX, name="other", module="json")) as ahead:
        assert build_engine(model, tmp_path / "model.plan", FAST, ahead=ahead).flavor == "tensorrt-rtx"


def test_a_file_without_our_operators_is_built_without_onnx_ir(model: Path, tmp_path: Path) -> None:
    """It takes as long to load as such a file to build; so does sympy, which it needs."""
    code = (
        "import sys; from normexport_cli.start import main\n"
        "try: main()\n"
        "finally: sys.stderr.write(' '.join({'onnx_ir', 'sympy', 'torch'} & set(sys.modules)))"
    )
    words = ("-c", code, "build", str(model), "-o", str(tmp_path / "model.plan"), "--target", "sm89")
    done = subprocess.run([sys.executable, *words], env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (ExitCode.GOOD, "")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--target", "sm89"), ExitCode.GOOD),
        (("--target", "sm90"), ExitCode.ENGINE),
        (("--what",), ExitCode.USAGE),
    ],
)
def test_the_command_leaves_no_process_behind(
    model: Path, tmp_path: Path, words: tuple[str, ...], code: ExitCode
) -> None:
    line = command("build", model, "-o", tmp_path / "model.plan", *words)
    done = subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert processes_in(tmp_path) == []
