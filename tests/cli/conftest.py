"""Checkpoints of one small network in every form, made once, and ways to run the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from normexport_cli.app import app
from typer.testing import CliRunner, Result

from normexport.errors import ExitCode
from tests.cli import small_nets

ROOT = Path(__file__).parents[2]
FACTORY = "tests.cli.small_nets:Small"

#: Runs a command line in this process.
Run = Callable[..., Result]
#: Runs one in a process of its own.
Process = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the network as weights.pth, module.pt and model.pt2. Tests only read it."""
    folder = tmp_path_factory.mktemp("made")
    model = small_nets.trained()
    torch.save(model.state_dict(), folder / "weights.pth")
    torch.save(model, folder / "module.pt")
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(model, (torch.randn(2, 3, 8, 8),), dynamic_shapes=(batch,))
    torch.export.save(program, folder / "model.pt2")
    return folder


@pytest.fixture(scope="session")
def converted(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `convert` writes for model.pt2."""
    folder = tmp_path_factory.mktemp("converted") / "out"
    result = CliRunner().invoke(app, ["convert", str(made / "model.pt2"), "-o", str(folder)])
    assert result.exit_code == ExitCode.GOOD, result.stderr
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line in an empty working folder, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*words: object) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words])

    return run


@pytest.fixture
def process(tmp_path: Path) -> Process:
    """The same in a process of its own."""

    def process(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(*words), cwd=tmp_path, env=environment(), capture_output=True, text=True)

    return process


@pytest.fixture
def run_into_closed_pipe(tmp_path: Path) -> Process:
    """In a process whose standard output nobody reads."""

    def run_into_closed_pipe(*words: object) -> subprocess.CompletedProcess[str]:
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as out:
            pipes: dict[str, Any] = {"stdout": out, "stderr": subprocess.PIPE}
            return subprocess.run(command(*words), cwd=tmp_path, env=environment(), text=True, **pipes)

    return run_into_closed_pipe


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "normexport_cli", *(str(word) for word in words)]


def environment() -> dict[str, str]:
    path = os.pathsep.join(str(folder) for folder in (ROOT, ROOT / "tools"))
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "120", "OMP_NUM_THREADS": "1"}


def altered_state(made: Path, path: Path, **changes: torch.Tensor | None) -> Path:
    """weights.pth with entries set, or taken out where the value is None (dots written as two underscores)."""
    state = torch.load(made / "weights.pth")
    for name, value in changes.items():
        key = name.replace("__", ".")
        if value is None:
            del state[key]
        else:
            state[key] = value
    torch.save(state, path)
    return path


def save_plain(path: Path) -> None:
    """Write a network as another exporter writes it, conv -> BatchNormalization -> relu; "x" is (N, 3, 8, 8)."""
    dice = np.random.default_rng(0)
    constants = {
        "w": dice.normal(size=(4, 3, 3, 3)), "scale": dice.uniform(0.5, 2, 4), "bias": dice.normal(size=4),
        "mean": dice.normal(size=4), "var": dice.uniform(0.5, 2, 4),
    }  # fmt: skip
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"]),
        onnx.helper.make_node("BatchNormalization", ["c", "scale", "bias", "mean", "var"], ["n"]),
        onnx.helper.make_node("Relu", ["n"], ["y"]),
    ]
    value = onnx.helper.make_tensor_value_info
    weights = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
    x, y = value("x", 1, ["N", 3, 8, 8]), value("y", 1, ["N", 4, 6, 6])
    graph = onnx.helper.make_graph(nodes, "g", [x], [y], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)


def onnx_reading_outside(path: Path) -> Path:
    """An ONNX file whose weight is said to lie in a file that exists outside its folder."""
    path.parent.mkdir(parents=True)
    (path.parent.parent / "secret.bin").write_bytes(np.ones(4, np.float32).tobytes())
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[4])
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../secret.bin")
    node = onnx.helper.make_node("Mul", ["x", "w"], ["y"])
    value = onnx.helper.make_tensor_value_info
    ends = [value(name, onnx.TensorProto.FLOAT, ["N", 4]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], [weight])
    opset = [onnx.helper.make_opsetid("", 20)]
    path.write_bytes(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())
    return path
