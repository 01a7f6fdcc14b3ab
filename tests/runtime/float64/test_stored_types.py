"""The interpreter rounds values to the types that a file stores them in, once, where it is told to."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from normexport.runtime import Float64Runtime
from normexport.runtime.baseline_weights import jitter_model

TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
X = np.random.default_rng(0).standard_normal((3, 4)) * 100
W = np.random.default_rng(1).standard_normal((4, 5)).astype(np.float32)


def model() -> ir.Model:
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        node("Constant", [], ["k"], value=onnx.numpy_helper.from_array(np.array(1 / 3, np.float32))),
        node("MatMul", ["x", "w"], ["a"]),
        node("Mul", ["a", "k"], ["y"]),
    ]
    ends = [value("x", 1, ("N", 4))], [value("y", 1, ("N", 5))]
    made = onnx.helper.make_graph(nodes, "g", *ends, [onnx.numpy_helper.from_array(W, "w")])
    return ir.from_proto(onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10))


def rounded(array: np.float32 | np.ndarray, kind: str) -> np.ndarray:
    return np.asarray(array, np.float64).astype(TYPES[kind]).astype(np.float64)


@pytest.mark.parametrize("kind", TYPES)
def test_inputs_constants_and_results_are_rounded_where_told(kind: str) -> None:
    runtime = Float64Runtime(model(), stored=dict.fromkeys("xwkay", kind))
    seen = runtime.run({"x": X}, ["a", "k"])
    a = rounded(rounded(X, kind) @ rounded(W, kind), kind)
    np.testing.assert_allclose(seen["a"], a, rtol=0, atol=0)
    np.testing.assert_array_equal(seen["k"], rounded(np.float32(1 / 3), kind))
    np.testing.assert_array_equal(seen["y"], rounded(a * seen["k"], kind))


@pytest.mark.parametrize("name", "xway")
def test_nothing_else_is_rounded(name: str) -> None:
    (y,) = Float64Runtime(model(), stored={name: "float16"}).run({"x": X}).values()
    values = {"x": X, "w": W.astype(np.float64)}
    at = {each: rounded(array, "float16") if each == name else array for each, array in values.items()}
    a = at["x"] @ at["w"]
    a = rounded(a, "float16") if name == "a" else a
    expected = a * np.float64(np.float32(1 / 3))
    np.testing.assert_allclose(y, rounded(expected, "float16") if name == "y" else expected, rtol=1e-15)


def test_beyond_the_range_lies_infinity() -> None:
    (y,) = Float64Runtime(model(), stored={"y": "float16"}).run({"x": X * 1e6}).values()
    assert np.isinf(y).any()


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_weights_move_by_a_roundoff_of_the_half_type_and_numbers_that_it_holds_do_not(kind: str) -> None:
    changed = model()
    held = np.array([1, 0, -np.inf, 2, -1024, 0.5], np.float32)
    weight = changed.graph.initializers["w"]
    weight.const_value = ir.Tensor(np.concatenate([W.ravel(), held]), name="w")
    moved = jitter_model(changed, 7, {"w": kind}).graph.initializers["w"].const_value.numpy()
    np.testing.assert_array_equal(moved[20:], held)
    far = np.abs(moved[:20] / W.ravel() - 1)
    assert 0 < far.max() <= 2.0 ** -(11 if kind == "float16" else 8) * 1.001
    assert (far > 1e-6).mean() > 0.8


def test_a_number_at_the_end_of_the_range_does_not_move_beyond_it() -> None:
    changed = model()
    changed.graph.initializers["w"].const_value = ir.Tensor(np.full(1000, 65510, np.float32), name="w")
    moved = jitter_model(changed, 0, {"w": "float16"}).graph.initializers["w"].const_value.numpy()
    assert np.isfinite(moved.astype(np.float16)).all()
