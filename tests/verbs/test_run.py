"""`run` on ONNX files: the outputs are those of the formula, and what doesn't fit is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import normexport
from tests.precision.judged_graphs import graph

RNG = np.random.default_rng(0)
W = RNG.standard_normal((6, 4)).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    made = graph(
        "(float[N,6] x, int64[N] k) => (float[N,4] y, int64[N] twice)", "y = MatMul(x, w) twice = Add(k, k)", {"w": W}
    )
    ir.save(made, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_outputs_of_an_onnx_file_are_written_by_name(model: Path, tmp_path: Path) -> None:
    x, k = RNG.standard_normal((3, 6)).astype(np.float32), np.arange(3)
    np.savez(tmp_path / "in.npz", x=x, k=k)
    shapes = normexport.run(model, tmp_path / "in.npz", tmp_path / "out.npz")
    assert shapes == {"y": (3, 4), "twice": (3,)}
    with np.load(tmp_path / "out.npz") as results:
        np.testing.assert_allclose(results["y"], x.astype(np.float64) @ W.astype(np.float64), rtol=1e-5, atol=1e-6)
        assert results["twice"].tolist() == [0, 2, 4]


@pytest.mark.parametrize("name", ["file", "allow_pickle", "args", "a/b"])
def test_an_output_may_have_any_name(name: str, tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    ends = [value("x", onnx.TensorProto.FLOAT, ["N", 4])], [value(name, onnx.TensorProto.FLOAT, ["N", 4])]
    network = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], [name])], "net", *ends)
    opset = [onnx.helper.make_opsetid("", 20)]
    onnx.save(onnx.helper.make_model(network, opset_imports=opset, ir_version=10), tmp_path / "m.onnx")
    np.savez(tmp_path / "in.npz", x=np.ones((2, 4), np.float32))
    assert normexport.run(tmp_path / "m.onnx", tmp_path / "in.npz", tmp_path / "out.npz") == {name: (2, 4)}
    with np.load(tmp_path / "out.npz") as results:
        assert results[name].tolist() == [[-1.0] * 4] * 2


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((3, 5), np.float32), "k": np.zeros(3, np.int64)}, "x"),
        ({"x": np.zeros((3, 6), np.float32)}, "k"),
        ({"x": np.zeros((3, 6), np.float32), "k": np.zeros(2, np.int64)}, "2"),
    ],
    ids=["another width", "one is missing", "two batches"],
)
def test_arrays_that_do_not_fit_are_refused_and_nothing_is_written(
    model: Path, tmp_path: Path, arrays: dict[str, Any], words: str
) -> None:
    np.savez(tmp_path / "in.npz", **arrays)
    with pytest.raises(normexport.UsageError, match=words):
        normexport.run(model, tmp_path / "in.npz", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_the_model_and_the_inputs_are_never_overwritten(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.zeros((1, 6), np.float32), k=np.zeros(1, np.int64))
    for output in (model, tmp_path / "in.npz"):
        before = output.read_bytes()
        with pytest.raises(normexport.UsageError):
            normexport.run(model, tmp_path / "in.npz", output)
        assert output.read_bytes() == before
