"""`run` on ONNX files: the outputs are those of the formula, and what doesn't fit is one line."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import normexport
from tests.precision.judged_graphs import graph

RNG = np.random.default_rng(0)
W = RNG.standard_normal((6, 4)).astype(np.float32)


@pytest.fixture
def model(tmp_path):
    made = graph(
        "(float[N,6] x, int64[N] k) => (float[N,4] y, int64[N] twice)", "y = MatMul(x, w) twice = Add(k, k)", {"w": W}
    )
    ir.save(made, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_outputs_of_an_onnx_file_are_written_by_name(model, tmp_path):
    x, k = RNG.standard_normal((3, 6)).astype(np.float32), np.arange(3)
    np.savez(tmp_path / "in.npz", x=x, k=k)
    shapes = normexport.run(model, tmp_path / "in.npz", tmp_path / "out.npz")
    assert shapes == {"y": (3, 4), "twice": (3,)}
    with np.load(tmp_path / "out.npz") as results:
        np.testing.assert_allclose(results["y"], x.astype(np.float64) @ W.astype(np.float64), rtol=1e-5, atol=1e-6)
        assert results["twice"].tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((3, 5), np.float32), "k": np.zeros(3, np.int64)}, "x"),
        ({"x": np.zeros((3, 6), np.float32)}, "k"),
        ({"x": np.zeros((3, 6), np.float32), "k": np.zeros(2, np.int64)}, "2"),
    ],
    ids=["another width", "one is missing", "two batches"],
)
def test_arrays_that_do_not_fit_are_refused_and_nothing_is_written(model, tmp_path, arrays, words):
    np.savez(tmp_path / "in.npz", **arrays)
    with pytest.raises(normexport.UsageError, match=words):
        normexport.run(model, tmp_path / "in.npz", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_the_model_and_the_inputs_are_never_overwritten(model, tmp_path):
    np.savez(tmp_path / "in.npz", x=np.zeros((1, 6), np.float32), k=np.zeros(1, np.int64))
    for output in (model, tmp_path / "in.npz"):
        before = output.read_bytes()
        with pytest.raises(normexport.UsageError):
            normexport.run(model, tmp_path / "in.npz", output)
        assert output.read_bytes() == before
