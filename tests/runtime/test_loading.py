"""A file that ONNX Runtime dies of when it loads it is not handed over in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import normexport
from normexport import ConvertConfig, Half, Verdict
from normexport.runtime import loading
from normexport.runtime.loading import crash_on_loading


def save_transposed_product(path: Path, sides: tuple[str, str] = ("W", "t")) -> None:
    """MatMul behind a Transpose that moves the batch: in float16 ONNX Runtime 1.32 dies of it."""
    batch = 4 if sides[0] == "W" else "batch"
    shapes: dict[str, list[int | str | None]] = {"x": [batch, 4, 4], "y": [4, batch, 4]}
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]), helper.make_node("MatMul", sides, ["y"])]
    weights = [numpy_helper.from_array(np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32), "W")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def dies(path: Path) -> bool:
    code = f"import onnxruntime; onnxruntime.InferenceSession({os.fspath(path)!r})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode < 0


def test_a_file_that_loads_and_one_that_is_refused_are_no_crash(tmp_path: Path) -> None:
    save_transposed_product(tmp_path / "model.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    assert crash_on_loading(tmp_path / "model.onnx") is None
    assert crash_on_loading(tmp_path / "broken.onnx") is None


def test_a_crash_is_told_with_its_signal_and_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_LOAD", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    told = crash_on_loading(tmp_path / "model.onnx")
    assert told is not None
    assert "SIGSEGV" in told
    assert "ORT_ENABLE_EXTENDED" in told


@pytest.mark.slow
def test_convert_tells_of_a_half_precision_file_that_onnx_runtime_dies_of(tmp_path: Path) -> None:
    save_transposed_product(tmp_path / "model.onnx")
    done = normexport.convert(tmp_path / "model.onnx", tmp_path / "out", config=ConvertConfig(precision=Half()))
    assert done.judgement.verdict is Verdict.PASSED
    assert done.precision is not None
    told = any("ONNX Runtime crashes" in note for note in done.precision.notes)
    assert told == dies(tmp_path / "out" / "model.onnx")


@pytest.mark.slow
def test_convert_writes_a_layer_behind_a_transpose_so_that_onnx_runtime_stands_it(tmp_path: Path) -> None:
    save_transposed_product(tmp_path / "model.onnx", ("t", "W"))
    done = normexport.convert(tmp_path / "model.onnx", tmp_path / "out", config=ConvertConfig(precision=Half()))
    assert done.judgement.verdict is Verdict.PASSED
    assert done.precision is not None
    assert not done.precision.notes
    assert not dies(tmp_path / "out" / "model.onnx")
