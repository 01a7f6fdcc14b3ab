"""Where there is nothing of POSIX and no native library, the Python part works: live norms run on their bodies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from normexport.errors import ExitCode

pytestmark = pytest.mark.slow

SYSTEM = Path(__file__).with_name("other_system.py")
CHECKPOINT = Path(__file__).parents[2] / "examples" / "checkpoints" / "plain_l1_instance.pt2"


def elsewhere(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line in `folder`, without POSIX, and where no library was built."""
    environment = {**os.environ, "NORMEXPORT_PLUGIN_DIR": str(folder / "none"), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, SYSTEM, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a network with live norms was converted, twice: over what was there."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for _ in range(2):
        done = elsewhere(folder, "convert", CHECKPOINT, "-o", "out", "--capsule", "net.capsule")
        assert done.returncode == ExitCode.GOOD, done.stderr
    assert "PARITY PASSED" in done.stdout
    assert "native" not in done.stdout
    return folder


def test_the_imitation_lacks_what_it_should(tmp_path: Path) -> None:
    for module in ("fcntl", "pwd"):
        code = f"import sys; sys.path.insert(0, {str(SYSTEM.parent)!r}); import other_system, os"
        code += f"; other_system.leave_out(); assert not hasattr(os, 'fork'); import {module}"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert f"import of {module} halted" in done.stderr


def test_live_norms_are_converted_and_proven_on_their_bodies(folder: Path) -> None:
    model = onnx.load(folder / "out" / "model.onnx")
    assert [node.op_type for node in model.graph.node].count("L1InstanceNorm") == 3
    assert [function.name for function in model.functions] == ["L1InstanceNorm"]
    done = elsewhere(folder, "prove", "net.capsule", "out/model.onnx")
    assert (done.returncode, "PARITY PASSED" in done.stdout) == (ExitCode.GOOD, True), done.stderr


def test_weights_beside_a_model_are_read(folder: Path) -> None:
    model = onnx.load(folder / "out" / "model.onnx")
    beside = folder / "beside.onnx"
    onnx.save(model, beside, save_as_external_data=True, size_threshold=0, location="weights.bin")
    done = elsewhere(folder, "convert", "beside.onnx", "-o", "half", "--precision", "fp16")
    assert (done.returncode, "PRECISION PASSED" in done.stdout) == (ExitCode.GOOD, True), done.stderr


def test_the_libraries_are_told_as_absent_and_one_there_is_not_loaded(folder: Path) -> None:
    done = elsewhere(folder, "plugins", "list")
    assert (done.returncode, done.stdout.count("absent")) == (ExitCode.GOOD, 4), done.stderr
    (folder / "none").mkdir()
    (folder / "none" / "libnormexport_onnxruntime.so").write_bytes(b"")
    try:
        done = elsewhere(folder, "plugins", "list")
        assert "does not say who owns a file" in done.stdout
    finally:
        (folder / "none" / "libnormexport_onnxruntime.so").unlink()
