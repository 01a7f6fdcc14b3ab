"""`normexport run` on ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from normexport.errors import ExitCode
from tests.cli.conftest import Run
from tests.precision.judged_graphs import graph


def test_the_command_runs_an_onnx_file(tmp_path: Path, run: Run) -> None:
    ir.save(graph("(float[N,2] x) => (float[N,2] y)", "y = Neg(x)", {}), tmp_path / "m.onnx")
    np.savez(tmp_path / "in.npz", x=np.array([[1.0, -2.0]], np.float32))
    done = run("run", tmp_path / "m.onnx", "--inputs", tmp_path / "in.npz", "-o", tmp_path / "out.npz")
    assert done.exit_code == ExitCode.GOOD, done.stderr
    with np.load(tmp_path / "out.npz") as results:
        assert results["y"].tolist() == [[-1.0, 2.0]]
    done = run("run", tmp_path / "m.onnx", "--inputs", tmp_path / "none.npz", "-o", tmp_path / "no.npz")
    assert done.exit_code == ExitCode.USAGE
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("m.onnx", ["--trust"]),
        ("m.onnx", ["--plugin-library", "x.so"]),
        ("m.plan", ["--weights-under", "."]),
        ("m", ["--weights-under", "."]),
    ],
)
def test_an_option_of_the_other_kind_of_model_is_refused(run: Run, name: str, options: list[str]) -> None:
    done = run("run", name, "--inputs", "in.npz", "-o", "out.npz", *options)
    assert done.exit_code == ExitCode.USAGE
    assert done.stderr.startswith(f"error: {options[0]}: means nothing here")
